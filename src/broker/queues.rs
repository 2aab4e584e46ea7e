//! What stands in queues.

use std::time::Duration;

use async_trait::async_trait;

use super::BrokerError;
use crate::job::QueueName;
use crate::time::Unix;

/// Counts what waits.
#[async_trait]
pub trait Queues: Send + Sync {
    /// What waits in these queues; cheap at any depth.
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError>;

    /// How many jobs of each of these queues are over the limit of their key, and wait for others of it to end. They are
    /// counted one by one: not for what asks often. A broker without limits has none.
    async fn blocked(&self, queues: &[QueueName]) -> Result<Vec<u64>, BrokerError> {
        Ok(vec![0; queues.len()])
    }

    /// Names of the queues that hold or held jobs, sorted.
    async fn names(&self) -> Result<Vec<QueueName>, BrokerError>;

    /// Those of these queues for which no worker is registered, of whatever program or host; `None` where the broker
    /// keeps no list of workers.
    async fn unserved(&self, queues: &[QueueName]) -> Result<Option<Vec<QueueName>>, BrokerError> {
        let _ = queues;
        Ok(None)
    }

    /// Those of these queues into which nobody moves jobs that come due; none where the broker does that itself.
    async fn without_scheduler(&self, queues: &[QueueName]) -> Result<Vec<QueueName>, BrokerError> {
        let _ = queues;
        Ok(Vec::new())
    }
}

/// What stands in some queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Jobs that could run now, by queue; a queue that is not here holds none.
    pub by_queue: Vec<(QueueName, u64)>,
    /// Jobs that are due later.
    pub scheduled: u64,
    /// When the oldest waiting job became ready; `None` when nothing waits.
    pub oldest: Option<Unix>,
}

impl Backlog {
    /// Jobs that could run now, of all queues.
    pub fn waiting(&self) -> u64 {
        self.by_queue.iter().map(|(_, jobs)| *jobs).sum()
    }

    /// Jobs of this queue came since they were counted.
    pub fn take(&mut self, queue: &QueueName, jobs: u64) {
        if let Some((_, waiting)) = self.by_queue.iter_mut().find(|(name, _)| name == queue) {
            *waiting = waiting.saturating_sub(jobs);
        }
    }

    /// How long the oldest waiting job has waited at `now`; zero when nothing waits.
    pub fn oldest_age(&self, now: Unix) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }
}
