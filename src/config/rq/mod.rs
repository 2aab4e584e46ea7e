//! `[rq]`: the words of `rq worker`, under their own names.

mod dialect;
mod module;
mod options;
mod rules;
mod source;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use crate::broker::rq::options::{DequeueStrategy, Keep, WorkerNames};
use crate::config::keys::{Key, Section, Visit, key};

/// `[rq]`: what `rq worker` knows by the same names; only for the rq runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct RqConfig {
    /// Module of RQ's settings, `REDIS_URL`, `QUEUES`, `NAME` …; weaker than all that is said here.
    pub config: Option<String>,
    /// Name under which workers register; `None`: a name that is unique to this supervisor.
    pub name: Option<String>,
    /// What all keys begin with. Source: `rq/defaults.py`, `RQ_KEY_PREFIX`.
    pub key_prefix: String,
    /// Serializer of job data: `json`, `pickle` or a dotted name; must be the producers'.
    pub serializer: String,
    /// Dotted name of the job class.
    pub job_class: String,
    /// Dotted name of the queue class.
    pub queue_class: String,
    /// Dotted name of the worker class; it configures the lifecycle, and is never asked to dequeue or fork.
    pub worker_class: String,
    /// Dotted names of exception handlers, called in this order.
    pub exception_handlers: Vec<String>,
    /// Failures are left to the exception handlers alone.
    pub disable_default_exception_handler: bool,
    /// Move scheduled jobs that are due into their queues.
    pub with_scheduler: bool,
    /// How a worker chooses among its queues.
    pub dequeue_strategy: DequeueStrategy,
    /// How long results are kept when the job does not say.
    pub results_ttl: Keep,
    /// How long a worker that sends no heartbeat counts as alive.
    pub worker_ttl: Duration,
    /// Time between heartbeats of running jobs.
    pub job_monitoring_interval: Duration,
    /// Time between runs of the registries' housekeeping.
    pub maintenance_interval: Duration,
    /// Say nothing of a job's description in the log: it may hold its arguments.
    pub disable_job_desc_logging: bool,
    /// Directories to add to Python's module path.
    pub path: Vec<String>,
    /// How many workers live at a time at most; 0: not known. Set by validation.
    pub workers_max: u32,
    /// The application's interpreter, which knows the version of `rq`. Set by validation.
    pub python: PathBuf,
}

impl Default for RqConfig {
    fn default() -> Self {
        RqConfig {
            config: None,
            name: None,
            key_prefix: "rq".to_owned(),
            serializer: "pickle".to_owned(),
            job_class: "rq.job.Job".to_owned(),
            queue_class: "rq.Queue".to_owned(),
            worker_class: "rq.Worker".to_owned(),
            exception_handlers: Vec::new(),
            disable_default_exception_handler: false,
            with_scheduler: false,
            dequeue_strategy: DequeueStrategy::Default,
            results_ttl: Keep::For(Duration::from_secs(500)),
            worker_ttl: Duration::from_secs(420),
            job_monitoring_interval: Duration::from_secs(30),
            maintenance_interval: Duration::from_secs(600),
            disable_job_desc_logging: false,
            path: Vec::new(),
            workers_max: 0,
            python: PathBuf::from("python3"),
        }
    }
}

impl RqConfig {
    /// The strategy that one of RQ's deprecated worker classes stands for.
    /// Source: `rq/worker/worker_classes.py`, `RoundRobinWorker`, `RandomWorker`.
    pub(in crate::config) fn strategy_of_class(&self) -> Option<DequeueStrategy> {
        match self.worker_class.strip_prefix("rq.")?.rsplit('.').next()? {
            "RoundRobinWorker" => Some(DequeueStrategy::RoundRobin),
            "RandomWorker" => Some(DequeueStrategy::Random),
            _ => None,
        }
    }

    /// The names under which workers register.
    pub fn worker_names(&self) -> WorkerNames {
        WorkerNames {
            chosen: self.name.clone(),
            workers_max: self.workers_max,
        }
    }
}

impl Section for RqConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("config", "rq-config" "MODULE", "Module of RQ's settings: REDIS_URL, QUEUES, NAME, DICT_CONFIG …; also RQ_CONFIG"),
            &mut self.config,
        );
        self.each_name(visit);
        visit(
            key!("exception_handlers", "exception-handler" "FUNCTION", "Called with each exception of a job; repeatable"),
            &mut self.exception_handlers,
        );
        visit(
            key!(
                "disable_default_exception_handler", "disable-default-exception-handler" "BOOL",
                "Leave failed jobs to the exception handlers alone"
            ),
            &mut self.disable_default_exception_handler,
        );
        visit(
            key!("with_scheduler", "with-scheduler" "BOOL", "Move scheduled jobs that are due into their queues"),
            &mut self.with_scheduler,
        );
        visit(
            key!(
                "dequeue_strategy", "dequeue-strategy" "STRATEGY",
                "How to choose among queues: default, round_robin or random"
            ),
            &mut self.dequeue_strategy,
        );
        self.each_time(visit);
        visit(
            key!(
                "disable_job_desc_logging", "disable-job-desc-logging" "BOOL",
                "Keep descriptions of jobs out of the log"
            ),
            &mut self.disable_job_desc_logging,
        );
        visit(
            key!("path", "path" "DIRECTORY", "Directory to add to Python's module path; repeatable"),
            &mut self.path,
        );
    }
}

impl RqConfig {
    fn each_name(&mut self, visit: Visit<'_>) {
        visit(
            key!("name", "name" "NAME", "Name of the worker; of several: NAME.1, NAME.2 …"),
            &mut self.name,
        );
        visit(
            key!("key_prefix", "key-prefix" "PREFIX", "What all keys in Redis begin with; also RQ_KEY_PREFIX"),
            &mut self.key_prefix,
        );
        visit(
            key!("serializer", "serializer" "NAME", "Serializer of the producers: pickle, json or a dotted name"),
            &mut self.serializer,
        );
        visit(
            key!("job_class", "job-class" "CLASS", "Class of jobs, by dotted name"),
            &mut self.job_class,
        );
        visit(
            key!("queue_class", "queue-class" "CLASS", "Class of queues, by dotted name"),
            &mut self.queue_class,
        );
        visit(
            key!("worker_class", "worker-class" "CLASS", "Class whose lifecycle methods finish a job; never dequeues or forks"),
            &mut self.worker_class,
        );
    }

    fn each_time(&mut self, visit: Visit<'_>) {
        visit(
            key!("results_ttl", "results-ttl" "TIME", "How long results are kept when the job does not say"),
            &mut self.results_ttl,
        );
        visit(
            key!("worker_ttl", "worker-ttl" "TIME", "How long a worker without heartbeat counts as alive"),
            &mut self.worker_ttl,
        );
        visit(
            key!("job_monitoring_interval", "job-monitoring-interval" "TIME", "Time between heartbeats of running jobs"),
            &mut self.job_monitoring_interval,
        );
        visit(
            key!("maintenance_interval", "maintenance-interval" "TIME", "Time between runs of the registries' housekeeping"),
            &mut self.maintenance_interval,
        );
    }
}

/// A key that can't be anything but letters, digits and `_ . : - { }`: it becomes part of key names and patterns.
/// Source: `rq/defaults.py`.
pub(in crate::config) fn is_key_prefix(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_.:{}-".contains(c);
    !text.is_empty() && text.chars().all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_safe_in_keys() {
        assert!(is_key_prefix("rq") && is_key_prefix("{app}:rq-2"));
        assert!(!is_key_prefix("") && !is_key_prefix("a b") && !is_key_prefix("a'"));
    }
}
