//! Deleting what waits, as RQ's `Queue.empty` and its registries do.

use async_trait::async_trait;

use super::{RqBroker, text};
use crate::broker::{BrokerError, Purge};
use crate::job::QueueName;
use crate::time::Unix;

#[async_trait]
impl Purge for RqBroker {
    async fn purge_waiting(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        self.purge(queue, "waiting", limit).await
    }

    async fn purge_scheduled(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        self.purge(queue, "scheduled", limit).await
    }
}

impl RqBroker {
    async fn purge(&self, queue: &QueueName, what: &str, limit: usize) -> Result<u64, BrokerError> {
        self.open_still()?;
        let now = Unix::now();
        let mut call = self.scripts.purge.prepare_invoke();
        call.arg(self.keys.names())
            .arg(text::iso(now))
            .arg(text::score(now))
            .arg(queue.as_str())
            .arg(what)
            .arg(limit);
        self.link.run_script(&call).await
    }
}
