//! RQ's cron jobs: what the loaded application says of them, and the jobs that they make.
//!
//! The template imports the cron module, by RQ's own code, and tells the fields of the jobs (`python/pool_template/rq/cron.py`).

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;

use super::enqueue::{Held, Place, Row};
use super::roster::hostname;
use super::text;
use crate::broker::{AppDue, AppSchedule};
use crate::job::{JobId, QueueName};
use crate::time::Unix;

/// What the names of their schedules begin with, so that none is one of the settings'.
const PREFIX: &str = "rq-cron:";

/// The cron jobs of the application that was loaded last.
#[derive(Debug)]
pub(super) struct CronJobs {
    loaded: RwLock<Loaded>,
    /// The name of this supervisor among the processes of `rq cron`. Source: `rq/cron.py`, `CronScheduler.__init__`.
    pub record: String,
    /// Since when it has it.
    pub since: Unix,
    is_shown: AtomicBool,
}

#[derive(Debug, Default)]
struct Loaded {
    module: String,
    jobs: Vec<Arc<CronJob>>,
}

/// One cron job.
#[derive(Debug)]
pub(super) struct CronJob {
    pub schedule: AppSchedule,
    /// As RQ describes it to its tools; null: this version has no such description.
    pub shown: Json,
    /// The name that its history goes by; empty: this version of RQ keeps none.
    pub history: String,
    /// Seconds that its jobs may wait.
    pub ttl_s: Option<i64>,
    queue: QueueName,
    fields: BTreeMap<String, Vec<u8>>,
}

/// What the template tells of them.
#[derive(Default, Deserialize)]
pub(super) struct Told {
    #[serde(default)]
    module: String,
    jobs: Vec<Entry>,
    time_zone: Option<String>,
    keeps_history: bool,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    queue: QueueName,
    cron: Option<String>,
    interval_s: Option<f64>,
    ttl_s: Option<i64>,
    #[serde(default)]
    shown: Json,
    fields: BTreeMap<String, String>,
}

impl Default for CronJobs {
    fn default() -> Self {
        CronJobs {
            loaded: RwLock::default(),
            record: format!("{}:{}:pool", hostname(), std::process::id()),
            since: Unix::now(),
            is_shown: AtomicBool::new(false),
        }
    }
}

impl CronJobs {
    /// Takes those that the application names now.
    pub fn replace(&self, told: Told) -> Result<(), String> {
        let mut names = HashSet::new();
        let jobs = told.jobs.into_iter().map(|entry| {
            let name = unused(&entry.name, &mut names);
            CronJob::new(name, entry, told.time_zone.as_deref(), told.keeps_history).map(Arc::new)
        });
        let jobs = jobs.collect::<Result<_, String>>()?;
        let module = told.module;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Loaded { module, jobs };
        Ok(())
    }

    /// Their schedules.
    pub fn schedules(&self) -> Vec<AppSchedule> {
        self.all().iter().map(|job| job.schedule.clone()).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<CronJob>> {
        self.loaded().jobs.clone()
    }

    /// The module or file that has them.
    pub fn module(&self) -> String {
        self.loaded().module.clone()
    }

    fn loaded(&self) -> RwLockReadGuard<'_, Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether others see them from now on. Returns whether they did before.
    pub fn is_shown(&self, shown: bool) -> bool {
        self.is_shown.swap(shown, Ordering::Relaxed)
    }

    /// The one whose schedule has this name.
    pub fn find(&self, schedule: &str) -> Option<Arc<CronJob>> {
        let loaded = self.loaded();
        loaded
            .jobs
            .iter()
            .find(|job| &*job.schedule.name == schedule)
            .cloned()
    }
}

/// A name that none before it has: several cron jobs may share one.
fn unused(name: &str, names: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{PREFIX}{name} ({number})"));
    let mut candidates = std::iter::once(format!("{PREFIX}{name}")).chain(numbered);
    let free = candidates.find(|name| !names.contains(name));
    let free = free.expect("there are more numbers than names");
    names.insert(free.clone());
    free
}

impl CronJob {
    fn new(name: String, entry: Entry, zone: Option<&str>, keeps_history: bool) -> Result<Self, String> {
        let due = match (&entry.cron, entry.interval_s) {
            (Some(expression), _) => AppDue::Cron {
                expression: seconds_first(expression),
                time_zone: zone.map(str::to_owned),
            },
            (None, Some(interval)) => AppDue::Every(
                Duration::try_from_secs_f64(interval)
                    .map_err(|error| format!("the interval of {}: {error}", entry.name))?,
            ),
            (None, None) => return Err(format!("{} is never due", entry.name)),
        };
        let decode = |(name, value): (String, String)| {
            let value = BASE64_STANDARD
                .decode(value)
                .map_err(|error| format!("the field {name}: {error}"))?;
            Ok((name, value))
        };
        Ok(CronJob {
            schedule: AppSchedule {
                name: name.into(),
                due,
            },
            shown: entry.shown,
            history: if keeps_history { entry.name } else { String::new() },
            ttl_s: entry.ttl_s,
            queue: entry.queue,
            fields: entry
                .fields
                .into_iter()
                .map(decode)
                .collect::<Result<_, String>>()?,
        })
    }

    /// A job of it. Source: `rq/queue.py`, `_prepare_for_queue`.
    pub fn row(&self, now: Unix) -> Row {
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| (name.clone().into(), value.clone()));
        let mut row = Row {
            id: JobId::generate(),
            queue: self.queue.clone(),
            place: Place::Back,
            held: Held::Taken,
            ttl: None, // What fires sees to it.
            limit: None,
            fields: fields.collect(),
        };
        row.set("created_at", text::iso(now));
        row.set("enqueued_at", text::iso(now));
        row.set("status", "queued");
        row
    }
}

/// The expression with its seconds where ours are. Source: croniter, whose sixth field is seconds.
fn seconds_first(expression: &str) -> String {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    match fields.as_slice() {
        [minute, hour, day, month, weekday, second] => [second, minute, hour, day, month, weekday]
            .map(|field| *field)
            .join(" "),
        _ => expression.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{"jobs": [
        {"name": "shop.clean", "queue": "low", "cron": "*/5 * * * * 10", "interval_s": null, "ttl_s": 60,
         "fields": {"description": "c2hvcC5jbGVhbigp"}},
        {"name": "shop.clean", "queue": "low", "cron": null, "interval_s": 30, "ttl_s": null, "fields": {}}],
        "time_zone": "Europe/Berlin", "keeps_history": true}"#;

    #[test]
    fn cron_jobs_become_schedules_with_names_of_their_own() {
        let jobs = CronJobs::default();
        jobs.replace(serde_json::from_str(TOLD).unwrap()).unwrap();
        let schedules = jobs.schedules();
        let names: Vec<&str> = schedules.iter().map(|schedule| &*schedule.name).collect();
        assert_eq!(names, ["rq-cron:shop.clean", "rq-cron:shop.clean (2)"]);
        assert_eq!(
            schedules[0].due,
            AppDue::Cron {
                expression: "10 */5 * * * *".to_owned(),
                time_zone: Some("Europe/Berlin".to_owned()),
            }
        );
        assert_eq!(schedules[1].due, AppDue::Every(Duration::from_secs(30)));
    }

    #[test]
    fn a_job_has_the_fields_that_were_told_and_those_of_the_moment() {
        let jobs = CronJobs::default();
        jobs.replace(serde_json::from_str(TOLD).unwrap()).unwrap();
        let found = jobs.find("rq-cron:shop.clean").unwrap();
        let row = found.row(Unix(1_772_355_900_250));
        let field = |name: &str| {
            let found = row.fields.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(field("description").as_deref(), Some("shop.clean()"));
        assert_eq!(field("status").as_deref(), Some("queued"));
        assert_eq!(field("enqueued_at"), field("created_at"));
        assert_eq!((found.history.as_str(), found.ttl_s), ("shop.clean", Some(60)));
    }

    #[test]
    fn what_is_never_due_is_an_error() {
        let told = r#"{"jobs": [{"name": "a", "queue": "q", "cron": null, "interval_s": null, "ttl_s": null, "fields": {}}],
                       "time_zone": null, "keeps_history": false}"#;
        let told = serde_json::from_str(told).unwrap();
        assert!(CronJobs::default().replace(told).is_err());
        assert!(serde_json::from_str::<Told>("{}").is_err());
    }
}
