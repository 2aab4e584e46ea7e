//! Deleting what waits.

use async_trait::async_trait;

use super::BrokerError;
use crate::job::QueueName;

/// Deletes jobs that nobody has begun, without a trace. A group counts them as failed.
#[async_trait]
pub trait Purge: Send + Sync {
    /// Deletes some jobs that wait in a queue, also those that are blocked, `limit` at the most. Returns how many; fewer
    /// than `limit`: nothing is left.
    async fn purge_waiting(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError>;

    /// The same of jobs for this queue that are due later.
    async fn purge_scheduled(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError>;
}
