//! What RQ's own tools see of the cron jobs that a supervisor fires: a record among those of the processes of `rq cron`.
//!
//! Source: `rq/cron.py`, `CronScheduler.to_dict`, `heartbeat`, `register_death`; `rq/cron_scheduler_registry.py`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::cron::CronJob;
use super::roster::hostname;
use super::{RqBroker, text};
use crate::broker::{AppSchedule, BrokerError, Schedules};
use crate::time::Unix;

/// How long a record is kept that nobody renews. Source: `rq/defaults.py`, `DEFAULT_CRON_SCHEDULER_TTL`.
const TTL: Duration = Duration::from_secs(120);
/// Fields that RQ does not know: the schedules as `pool schedules` reads them.
const SCHEDULES: &str = "pool_schedules";
/// Source: `CronScheduler.to_dict`.
const JOBS: &str = "cron_jobs";

impl RqBroker {
    /// Writes or renews this supervisor's record, if it fires cron jobs of RQ's. To be called more often than [`TTL`].
    pub(super) async fn show_cron_jobs(&self) -> Result<(), BrokerError> {
        let jobs = self.cron.all();
        let shown: Vec<Json> = self.shown_jobs(&jobs).await?;
        if shown.is_empty() {
            return self.forget_cron_jobs().await;
        }
        let schedules: Vec<&AppSchedule> = jobs.iter().map(|job| &job.schedule).collect();
        let schedules = serde_json::to_string(&schedules).expect("names and rules are always JSON");
        let (name, now) = (self.cron.record.as_str(), Unix::now());
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("ZADD")
            .arg(self.keys.cron_schedulers())
            .arg(text::seconds(now))
            .arg(name);
        pipeline
            .cmd("HSET")
            .arg(self.keys.cron_scheduler(name))
            .arg(&["hostname", &hostname(), "pid", &std::process::id().to_string()])
            .arg(&["name", name, "created_at", &text::iso(self.cron.since)])
            .arg(&["config_file", &self.cron.module()])
            .arg(&[JOBS, &Json::Array(shown).to_string(), SCHEDULES, &schedules]);
        pipeline
            .cmd("EXPIRE")
            .arg(self.keys.cron_scheduler(name))
            .arg(TTL.as_secs());
        self.cron.is_shown(true);
        self.link.run_pipeline::<redis::Value>(&pipeline).await.map(drop)
    }

    /// Takes the record out again, if there is one.
    pub(super) async fn forget_cron_jobs(&self) -> Result<(), BrokerError> {
        if !self.cron.is_shown(false) {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        let name = &self.cron.record;
        pipeline.cmd("ZREM").arg(self.keys.cron_schedulers()).arg(name);
        pipeline.cmd("DEL").arg(self.keys.cron_scheduler(name));
        self.link.run_pipeline::<redis::Value>(&pipeline).await.map(drop)
    }

    /// Each as RQ describes it, with the time at which it was enqueued last by any supervisor.
    async fn shown_jobs(&self, jobs: &[Arc<CronJob>]) -> Result<Vec<Json>, BrokerError> {
        let known: Vec<&Arc<CronJob>> = jobs.iter().filter(|job| !job.shown.is_null()).collect();
        if known.is_empty() {
            return Ok(Vec::new()); // this version of RQ has no records of them
        }
        let names: Vec<Arc<str>> = known.iter().map(|job| Arc::clone(&job.schedule.name)).collect();
        let views = self.look(&names).await?;
        let shown = known.iter().zip(views).map(|(job, view)| {
            let mut shown = job.shown.clone();
            shown["latest_enqueue_time"] = view.and_then(|view| view.fired).map(text::iso).into();
            shown
        });
        Ok(shown.collect())
    }

    /// The cron jobs that supervisors of this server fire now, each once.
    pub(super) async fn recorded_cron_jobs(&self) -> Result<Vec<AppSchedule>, BrokerError> {
        let mut ask = redis::cmd("ZRANGEBYSCORE");
        ask.arg(self.keys.cron_schedulers())
            .arg(text::seconds(Unix::now().before(TTL)))
            .arg("+inf");
        let names: Vec<String> = self.link.run_command(&ask).await?;
        let mut read = redis::pipe();
        for name in &names {
            read.cmd("HGET")
                .arg(self.keys.cron_scheduler(name))
                .arg(SCHEDULES);
        }
        let records: Vec<Option<String>> = match names.is_empty() {
            true => Vec::new(),
            false => self.link.run_pipeline(&read).await?,
        };
        let mut found: Vec<AppSchedule> = Vec::new();
        for record in records.iter().flatten() {
            // Of another version of this program, perhaps: what can't be read is not listed.
            let schedules: Vec<AppSchedule> = serde_json::from_str(record).unwrap_or_default();
            found.extend(schedules);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        Ok(found)
    }
}
