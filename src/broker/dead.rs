//! Jobs that failed for good and are kept.

use async_trait::async_trait;

use super::BrokerError;
use crate::job::{JobId, JobView, QueueName};
use crate::time::Unix;

/// Shows dead letters, and ends or revives them.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Dead letters, the newest first.
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError>;

    /// Puts dead letters back into their queues, failures and losses forgotten. Returns those found;
    /// one whose unique key another job has by now stays where it is, and so does one that never ran since a job
    /// earlier in its chain failed: it comes back with that one.
    async fn retry(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;

    /// Deletes dead letters. Returns those found.
    async fn delete(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;
}

/// Which dead letters to show.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only those that ended no later than this, so that a walk through all of them comes to an end.
    pub ended_by: Option<Unix>,
    /// At most so many, the newest first.
    pub limit: usize,
}
