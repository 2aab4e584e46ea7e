//! The schedules of a supervisor: a task fires them, and here is counted what it did.

mod clerk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::broker::{AppDue, AppSchedule, Broker, Make, Overlap};
use crate::config::ScheduleConfig;
use crate::fleet::snapshot::ScheduleSnapshot;
use crate::policy::schedule::{CatchUp, Expression, Rule, Timing};
use crate::policy::zone::Zone;
use crate::time::Unix;

use clerk::Clerk;

/// Schedules by name.
type ByName = BTreeMap<Arc<str>, Schedule>;

/// A schedule as it is fired.
#[derive(Clone, Debug, PartialEq)]
struct Schedule {
    timing: Timing,
    overlap: Overlap,
    jobs: Jobs,
}

/// Who knows what a schedule enqueues.
#[derive(Clone, Debug, PartialEq)]
enum Jobs {
    /// The settings.
    OfSettings(Box<ScheduleConfig>),
    /// The application's broker.
    OfApp,
}

impl Schedule {
    /// What is enqueued for one due time.
    fn make(&self, now: Unix) -> Make {
        match &self.jobs {
            Jobs::OfSettings(config) => Make::Job(Box::new(config.job(now))),
            Jobs::OfApp => Make::OfApp,
        }
    }
}

/// What happened with a schedule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// Its name.
    pub schedule: Arc<str>,
    /// What.
    pub what: What,
}

/// One thing that happened with a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// This supervisor fired it, so many seconds later than it should have been.
    Fired { late_s: f64 },
    /// So many due times were left out, for this reason.
    LeftOut { reason: &'static str, count: u64 },
    /// It fires next at this time; `None`: never again.
    Next(Option<Unix>),
}

/// Fires schedules, unless there are none.
#[derive(Debug)]
pub(super) struct Schedules {
    of_settings: ByName,
    of_app: ByName,
    /// All of them, for the task.
    all: watch::Sender<ByName>,
    task: Option<AbortHandle>,
    figures: BTreeMap<Arc<str>, ScheduleSnapshot>,
}

impl Schedules {
    pub fn new(configs: &BTreeMap<Arc<str>, ScheduleConfig>) -> Self {
        let mut schedules = Schedules {
            of_settings: BTreeMap::new(),
            of_app: BTreeMap::new(),
            all: watch::Sender::new(BTreeMap::new()),
            task: None,
            figures: BTreeMap::new(),
        };
        schedules.change(configs);
        schedules
    }

    /// Begins to fire them at this broker. `tell` is called with what happens.
    pub fn start(&mut self, broker: Arc<dyn Broker>, tell: impl Fn(Told) + Send + Sync + 'static) {
        let clerk = Clerk::new(broker, self.all.subscribe(), Box::new(tell));
        self.task = Some(tokio::spawn(clerk.run()).abort_handle());
    }

    /// The settings have changed.
    pub fn change(&mut self, configs: &BTreeMap<Arc<str>, ScheduleConfig>) {
        let schedule = |(name, config): (&Arc<str>, &ScheduleConfig)| {
            let schedule = Schedule {
                timing: config.timing()?,
                overlap: config.overlap,
                jobs: Jobs::OfSettings(Box::new(config.clone())),
            };
            Some((Arc::clone(name), schedule))
        };
        self.of_settings = configs.iter().filter_map(schedule).collect();
        self.tell();
    }

    /// The application was loaded, and names these.
    pub fn load(&mut self, of_app: Vec<AppSchedule>) {
        let schedule = |AppSchedule { name, due }: AppSchedule| match of_app_timing(due) {
            Ok(timing) => Some((
                name,
                Schedule {
                    timing,
                    overlap: Overlap::Allow,
                    jobs: Jobs::OfApp,
                },
            )),
            Err(error) => {
                tracing::error!(schedule = %name, "the application's schedule can't fire: {error}");
                None
            }
        };
        self.of_app = of_app.into_iter().filter_map(schedule).collect();
        self.tell();
    }

    /// Tells the task which there are, if that is news.
    fn tell(&mut self) {
        let mut all = self.of_app.clone();
        all.extend(self.of_settings.clone());
        self.figures.retain(|name, _| all.contains_key(name));
        for name in all.keys() {
            self.figures.entry(Arc::clone(name)).or_default();
        }
        self.all.send_if_modified(|known| {
            let changed = *known != all;
            *known = all;
            changed
        });
    }

    /// Fires nothing any more: the broker is about to be closed.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Counts what the task did.
    pub fn count(&mut self, told: Told) {
        let Some(figures) = self.figures.get_mut(&told.schedule) else {
            return; // A reload has removed it meanwhile.
        };
        match told.what {
            What::Fired { late_s } => {
                figures.fired += 1;
                figures.late_s = late_s;
            }
            What::LeftOut { reason, count } => {
                *figures.left_out.entry(reason.to_owned()).or_default() += count
            }
            What::Next(next) => figures.next = next,
        }
    }

    /// What readers see.
    pub fn snapshot(&self) -> BTreeMap<String, ScheduleSnapshot> {
        let shown = self
            .figures
            .iter()
            .map(|(name, figures)| (name.to_string(), figures.clone()));
        shown.collect()
    }
}

/// When a schedule of the application fires. It knows no jitter, and catches nothing up.
pub fn of_app_timing(due: AppDue) -> Result<Timing, String> {
    let rule = match due {
        AppDue::Every(interval) => Rule::Every(interval),
        AppDue::Cron {
            expression,
            time_zone,
        } => {
            let zone = match time_zone {
                Some(name) => Zone::named(&name).ok_or_else(|| format!("there is no time zone {name:?}"))?,
                None => {
                    let rules = TimeZone::system();
                    let name = rules.iana_name().unwrap_or("local time").to_owned();
                    Zone { name, rules }
                }
            };
            let expression =
                Expression::parse(&expression).map_err(|why| format!("{expression:?}: {why}"))?;
            Rule::Cron(expression, zone)
        }
    };
    Ok(Timing {
        rule,
        jitter: Duration::ZERO,
        catch_up: CatchUp::None,
        catch_up_max: 1,
    })
}
