//! `[rq]`: the words of `rq worker`, under their own names.

use std::time::Duration;

use crate::broker::rq::options::{Keep, Running, WorkerNames};
use crate::job::QueueOrder;

/// `[rq]`: what `rq worker` knows by the same names; only for the rq runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct RqConfig {
    /// Module of RQ's settings, `REDIS_URL`, `QUEUES`, `NAME` …; weaker than all that is said here.
    pub config: Option<String>,
    /// Name under which workers register; `None`: a name that is unique to this supervisor.
    pub name: Option<String>,
    /// What all keys begin with. Source: `rq/defaults.py`, `RQ_KEY_PREFIX`.
    pub key_prefix: String,
    /// What the keys of queues begin with, where the queue class says so; `None`: as RQ's do.
    pub queue_key_prefix: Option<String>,
    /// What the keys of jobs begin with, where the job class says so; `None`: as RQ's do.
    pub job_key_prefix: Option<String>,
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
    /// Module or file of RQ's cron jobs, which the supervisor fires; `None`: none.
    pub cron: Option<String>,
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
    /// How soon other supervisors take over from one that was killed; `None`: by RQ's rules alone.
    pub recover: Option<Duration>,
    /// What becomes of jobs that had begun then.
    pub recover_running: Running,
    /// Say nothing of a job's description in the log: it may hold its arguments.
    pub disable_job_desc_logging: bool,
    /// Directories to add to Python's module path.
    pub path: Vec<String>,
    /// How many workers live at a time at most; 0: not known. Set by validation.
    pub workers_max: u32,
}

/// How to choose among queues, in RQ's words: another name for a pool's `order`.
/// Source: `rq/worker/base.py`, `DequeueStrategy`, `Worker.reorder_queues`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DequeueStrategy {
    /// The first queue that has a job.
    Default,
    /// One job of each queue in turn.
    RoundRobin,
    /// Any of them, anew for each job.
    Random,
}

impl DequeueStrategy {
    /// The same, in the words of a pool.
    pub fn order(self) -> QueueOrder {
        match self {
            DequeueStrategy::Default => QueueOrder::Strict,
            DequeueStrategy::RoundRobin => QueueOrder::RoundRobin,
            DequeueStrategy::Random => QueueOrder::Random,
        }
    }
}

impl Default for RqConfig {
    fn default() -> Self {
        RqConfig {
            config: None,
            name: None,
            key_prefix: "rq".to_owned(),
            queue_key_prefix: None,
            job_key_prefix: None,
            serializer: "pickle".to_owned(),
            job_class: "rq.job.Job".to_owned(),
            queue_class: "rq.Queue".to_owned(),
            worker_class: "rq.Worker".to_owned(),
            exception_handlers: Vec::new(),
            disable_default_exception_handler: false,
            with_scheduler: false,
            cron: None,
            dequeue_strategy: DequeueStrategy::Default,
            results_ttl: Keep::For(Duration::from_secs(500)),
            worker_ttl: Duration::from_secs(420),
            job_monitoring_interval: Duration::from_secs(30),
            maintenance_interval: Duration::from_secs(600),
            recover: None,
            recover_running: Running::Fail,
            disable_job_desc_logging: false,
            path: Vec::new(),
            workers_max: 0,
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
