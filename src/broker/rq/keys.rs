//! Every key of RQ's schema that this broker touches, each with its source in the `rq` package (3.0).
//!
//! The Lua scripts build the keys of single jobs by the same patterns: they get the prefixes as an argument.

use super::options::Options;

/// Names of keys and channels under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    queues: String,
    jobs: String,
}

impl Keys {
    /// Source: `rq/defaults.py`, `RQ_KEY_PREFIX`; `rq/queue.py`, `redis_queue_namespace_prefix`; `rq/job.py`,
    /// `redis_job_namespace_prefix`.
    pub fn new(options: &Options) -> Self {
        let prefix = &options.key_prefix;
        let of = |own: &Option<String>, what| own.clone().unwrap_or_else(|| format!("{prefix}:{what}:"));
        Keys {
            queues: of(&options.queue_key_prefix, "queue"),
            jobs: of(&options.job_key_prefix, "job"),
            prefix: prefix.clone(),
        }
    }

    /// For the scripts: the prefix of all keys, then those of queues and of jobs, a line each.
    pub fn names(&self) -> String {
        [self.prefix.as_str(), &self.queues, &self.jobs].join("\n")
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// List of job ids: the right end is the newest. Source: `rq/queue.py`, `Queue.key`.
    pub fn queue(&self, queue: &str) -> String {
        format!("{}{queue}", self.queues)
    }

    /// Set of the keys of all queues. Source: `rq/queue.py`, `Queue.redis_queues_keys`.
    pub fn queues(&self) -> String {
        format!("{}:queues", self.prefix)
    }

    /// Hash: a job's fields. Source: `rq/job.py`, `Job.key_for`.
    pub fn job(&self, job: &str) -> String {
        format!("{}{job}", self.jobs)
    }

    /// Stream of a job's results, at most about 10. Source: `rq/results.py`, `Result.get_key`.
    pub fn results(&self, job: &str) -> String {
        format!("{}:results:{job}", self.prefix)
    }

    /// Sorted set of failed jobs' ids; the score is when they are forgotten.
    /// Source: `rq/registry.py`, `FailedJobRegistry`.
    pub fn failed(&self, queue: &str) -> String {
        format!("{}:failed:{queue}", self.prefix)
    }

    /// Sorted set of scheduled jobs' ids; the score is when they are due.
    /// Source: `rq/registry.py`, `ScheduledJobRegistry`.
    pub fn scheduled(&self, queue: &str) -> String {
        format!("{}:scheduled:{queue}", self.prefix)
    }

    /// Sorted set of executions under way, `{job}:{execution}`; the score is when they count as lost.
    /// Source: `rq/registry.py`, `StartedJobRegistry`.
    pub fn wip(&self, queue: &str) -> String {
        format!("{}:wip:{queue}", self.prefix)
    }

    /// Sorted set of the ids of jobs that wait for others. Source: `rq/registry.py`, `DeferredJobRegistry`.
    pub fn deferred(&self, queue: &str) -> String {
        format!("{}:deferred:{queue}", self.prefix)
    }

    /// Sorted set of canceled jobs' ids. Source: `rq/registry.py`, `CanceledJobRegistry`.
    pub fn canceled(&self, queue: &str) -> String {
        format!("{}:canceled:{queue}", self.prefix)
    }

    /// Sorted set of finished jobs' ids; the score is when they are forgotten.
    /// Source: `rq/registry.py`, `FinishedJobRegistry`.
    pub fn finished(&self, queue: &str) -> String {
        format!("{}:finished:{queue}", self.prefix)
    }

    /// Set of the keys of all rate limits. Source: `rq/rate_limit.py`, `RateLimitRegistry.rl_keys_key`.
    pub fn rate_limits(&self) -> String {
        format!("{}:rl-keys", self.prefix)
    }

    /// Sorted set of the ids of jobs that wait for a slot of a rate limit; the score is since when.
    /// Source: `rq/rate_limit.py`, `rate_limited_key`.
    pub fn rate_limited(&self, limit: &str) -> String {
        format!("{}:rl:{limit}:rate_limited", self.prefix)
    }

    /// Set of the ids of a group's jobs. Source: `rq/group.py`, `Group.get_key`.
    pub fn group(&self, group: &str) -> String {
        format!("{}:group:{group}", self.prefix)
    }

    /// Sorted set of supervisors, each with the end of its lease. RQ does not know it; see `lua/take_over.lua`.
    pub fn leases(&self) -> String {
        format!("{}:pool_leases", self.prefix)
    }

    /// Set of the queues that a supervisor serves. RQ does not know it.
    pub fn lease(&self, execution_prefix: &str) -> String {
        format!("{}:pool_lease:{execution_prefix}", self.prefix)
    }

    /// Exists while all workers are suspended. Source: `rq/suspension.py`.
    pub fn suspended(&self) -> String {
        format!("{}:suspended", self.prefix)
    }

    /// Channel on which a worker is given orders. Source: `rq/command.py`.
    pub fn channel(&self, worker: &str) -> String {
        format!("{}:pubsub:{worker}", self.prefix)
    }

    /// Who moves the scheduled jobs of a queue. Source: `rq/scheduler.py`, `SCHEDULER_LOCKING_KEY_TEMPLATE`.
    pub fn scheduler_lock(&self, queue: &str) -> String {
        format!("{}:scheduler-lock:{queue}", self.prefix)
    }

    /// Hash: a scheduler. Source: `rq/scheduler.py`, `SCHEDULER_KEY_TEMPLATE`.
    pub fn scheduler(&self, name: &str) -> String {
        format!("{}:scheduler:{name}", self.prefix)
    }

    /// Set of the keys of the workers that serve a queue. Source: `rq/worker_registration.py`, `WORKERS_BY_QUEUE_KEY`.
    pub fn workers_of(&self, queue: &str) -> String {
        format!("{}:workers:{queue}", self.prefix)
    }

    /// Sorted set of the names of processes of `rq cron`; the score is their last heartbeat.
    /// Source: `rq/cron_scheduler_registry.py`, `get_registry_key`.
    pub fn cron_schedulers(&self) -> String {
        format!("{}:cron_schedulers", self.prefix)
    }

    /// Hash: one of them. Source: `rq/cron.py`, `CronScheduler.key`.
    pub fn cron_scheduler(&self, name: &str) -> String {
        format!("{}:cron_scheduler:{name}", self.prefix)
    }

    /// Hash: a worker. Source: `rq/worker/base.py`, `redis_worker_namespace_prefix`.
    pub fn worker(&self, name: &str) -> String {
        format!("{}:worker:{name}", self.prefix)
    }
}
