//! A job and its run, as people are told of them.

use std::sync::Arc;
use std::time::Duration;

use crate::job::{Job, JobId, PoolName, QueueName, RunStamp};
use crate::time::Unix;

/// A job that begins or has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRun {
    /// Which.
    pub job: JobId,
    /// Its pool.
    pub pool: PoolName,
    /// Its queue.
    pub queue: QueueName,
    /// Its task.
    pub task: Arc<str>,
    /// Who runs it, or ran it.
    pub worker: Option<u64>,
    /// From the moment at which it could run until it began; until it was found out that it is not to run, if it never did.
    pub wait: Duration,
    /// From its begin to its end, once it has ended.
    pub took: Option<Duration>,
}

impl JobRun {
    /// Of a job that begins at this moment, or that never does.
    pub fn of(job: &Job, pool: &PoolName, worker: Option<u64>, at: Unix) -> Self {
        JobRun {
            job: job.id.clone(),
            pool: pool.clone(),
            queue: job.queue.clone(),
            task: Arc::clone(&job.task),
            worker,
            wait: at.since(job.ready),
            took: None,
        }
    }

    /// Of a job that has ended.
    pub fn ended(job: &Job, pool: &PoolName, run: &RunStamp) -> Self {
        JobRun {
            took: Some(run.ended.since(run.started)),
            ..Self::of(job, pool, Some(run.worker), run.started)
        }
    }
}
