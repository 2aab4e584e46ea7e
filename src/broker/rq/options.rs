//! What the broker of RQ's jobs is told: plain values, which the settings fill.

use std::sync::OnceLock;
use std::time::Duration;

use crate::broker::redis::options as redis;

/// How RQ's jobs are taken, and shown to RQ's tools.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The server.
    pub redis: redis::Options,
    /// Largest payload of a job, in bytes.
    pub payload_len_max: usize,
    /// How often the lease is renewed while jobs are held.
    pub heartbeat: Duration,
    /// What all keys begin with. Source: `rq/defaults.py`, `RQ_KEY_PREFIX`.
    pub key_prefix: String,
    /// What the keys of queues begin with, where a queue class says so; `None`: as RQ's do.
    pub queue_key_prefix: Option<String>,
    /// What the keys of jobs begin with, where a job class says so; `None`: as RQ's do.
    pub job_key_prefix: Option<String>,
    /// Serializer of job data: `json`, `pickle` or a dotted name.
    pub serializer: String,
    /// The names under which workers register.
    pub names: WorkerNames,
    /// Move scheduled jobs that are due into their queues.
    pub with_scheduler: bool,
    /// How long results are kept when the job does not say.
    pub results_ttl: Keep,
    /// How long a worker that sends no heartbeat counts as alive.
    pub worker_ttl: Duration,
    /// Time between heartbeats of running jobs.
    pub job_monitoring_interval: Duration,
    /// Time between runs of the registries' housekeeping.
    pub maintenance_interval: Duration,
    /// How supervisors take over from one that is no more; `None`: by RQ's rules alone.
    pub recover: Option<Recover>,
}

/// How supervisors take over from one that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recover {
    /// From its end to the moment at which what it had not begun waits again, at the most.
    pub within: Duration,
    /// What becomes of jobs that had begun.
    pub running: Running,
}

/// What becomes of jobs that had begun when their supervisor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// They are abandoned, by RQ's rules.
    Fail,
    /// They run again.
    Requeue,
}

/// How long results are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// For so long; zero: not at all.
    For(Duration),
    /// Until somebody deletes it: -1, as in RQ.
    Forever,
}

impl Keep {
    /// As RQ counts: -1 is forever.
    pub fn seconds(self) -> i64 {
        match self {
            Keep::For(time) => i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            Keep::Forever => -1,
        }
    }
}

/// The names under which workers register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerNames {
    /// The name that somebody chose; `None`: one that nobody else has.
    pub chosen: Option<String>,
    /// How many workers live at a time at most; 0: not known.
    pub workers_max: u32,
}

impl WorkerNames {
    /// The name of the worker with this ordinal: `NAME.ORDINAL`, or `NAME` when there is only one.
    pub fn of(&self, ordinal: u16) -> String {
        self.pattern().replace("{}", &ordinal.to_string())
    }

    /// The name of a worker, with `{}` in place of its ordinal.
    pub fn pattern(&self) -> String {
        match &self.chosen {
            Some(name) if self.workers_max == 1 => name.clone(),
            Some(name) => format!("{name}.{{}}"),
            None => format!("{}.{{}}", own_name()),
        }
    }
}

/// A name that nobody else has, as RQ makes it: one for each process.
fn own_name() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| uuid::Uuid::now_v7().simple().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_worker_carries_the_name_itself_and_several_a_number() {
        let mut names = WorkerNames {
            chosen: Some("web".to_owned()),
            workers_max: 0,
        };
        assert_eq!(names.of(3), "web.3");
        names.workers_max = 1;
        assert_eq!(names.of(3), "web");
        names.chosen = None;
        assert!(names.of(3).ends_with(".3"));
        assert_eq!(names.of(3), names.of(3), "one name a process");
    }
}
