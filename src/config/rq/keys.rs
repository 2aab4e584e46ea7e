//! The keys of `[rq]`, and how those values read that it alone has.

use std::time::Duration;

use super::values::{DequeueStrategy, RqConfig};
use crate::broker::rq::options::{Keep, Running};
use crate::config::keys::{Key, Section, Visit, key};
use crate::config::scalars::setting::{Atom, Base, Expected, Scalar, quoted};
use crate::config::scalars::words;

impl Section for RqConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("config", "rq-config" "MODULE", "Module with RQ's settings: REDIS_URL, QUEUES, NAME, DICT_CONFIG …; also RQ_CONFIG"),
            &mut self.config,
        );
        self.each_name(visit);
        visit(
            key!("exception_handlers", "exception-handler" "FUNCTION", "Function to call with each exception of a job; repeatable"),
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
            key!("with_scheduler", "with-scheduler" "BOOL", "Move scheduled jobs into their queues when they are due"),
            &mut self.with_scheduler,
        );
        visit(
            key!("cron", "rq-cron" "MODULE", "Module or file of cron jobs, as rq cron takes it: they are enqueued once, by all supervisors together"),
            &mut self.cron,
        );
        visit(
            key!(
                "dequeue_strategy", "dequeue-strategy" "STRATEGY",
                "How to choose among the queues: default, round_robin or random"
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
            key!("name", "name" "NAME", "Name of the worker; several workers are NAME.1, NAME.2 …"),
            &mut self.name,
        );
        visit(
            key!("key_prefix", "key-prefix" "PREFIX", "Prefix of all keys in Redis; also RQ_KEY_PREFIX"),
            &mut self.key_prefix,
        );
        visit(
            key!("queue_key_prefix", "queue-key-prefix" "PREFIX", "Prefix of the keys of queues, if the queue class has one of its own; none: as in RQ"),
            &mut self.queue_key_prefix,
        );
        visit(
            key!("job_key_prefix", "job-key-prefix" "PREFIX", "Prefix of the keys of jobs, if the job class has one of its own; none: as in RQ"),
            &mut self.job_key_prefix,
        );
        visit(
            key!("serializer", "serializer" "NAME", "Serializer that the producers use: pickle, json or a dotted name"),
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
            key!("worker_class", "worker-class" "CLASS", "Class whose methods finish a job; it never dequeues or forks"),
            &mut self.worker_class,
        );
    }

    fn each_time(&mut self, visit: Visit<'_>) {
        visit(
            key!("results_ttl", "results-ttl" "TIME", "How long results are kept if the job does not say"),
            &mut self.results_ttl,
        );
        visit(
            key!("worker_ttl", "worker-ttl" "TIME", "How long a worker without heartbeats counts as alive"),
            &mut self.worker_ttl,
        );
        visit(
            key!("job_monitoring_interval", "job-monitoring-interval" "TIME", "Time between heartbeats of running jobs"),
            &mut self.job_monitoring_interval,
        );
        visit(
            key!("maintenance_interval", "maintenance-interval" "TIME", "Time between clean-ups of RQ's registries"),
            &mut self.maintenance_interval,
        );
        visit(
            key!("recover", "recover" "TIME", "How soon other supervisors take over from one that was killed; none: by RQ's rules"),
            &mut self.recover,
        );
        visit(
            key!("recover_running", "recover-running" "WHAT", "What becomes of jobs that had begun when their supervisor was killed: fail or requeue"),
            &mut self.recover_running,
        );
    }
}

impl Scalar for Keep {
    fn read(atom: Atom<'_>, base: &Base) -> Result<Self, Expected> {
        if atom.text() == Some("forever") || atom.integer() == Some(-1) {
            return Ok(Keep::Forever);
        }
        Duration::read(atom, base)
            .map(Keep::For)
            .map_err(|expected| format!("{expected}, or \"forever\" (-1)").into())
    }
    fn print(&self) -> String {
        match self {
            Keep::For(time) => time.print(),
            Keep::Forever => quoted("forever"),
        }
    }
}

words!(Running: "fail" => Fail, "requeue" => Requeue);
words!(DequeueStrategy: "default" => Default, "round_robin" => RoundRobin, "random" => Random);
