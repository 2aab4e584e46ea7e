//! Deleting what waits, as RQ's `Queue.empty` and its registries do, and what waits for its turn by a rate limit.

use async_trait::async_trait;

use super::{RqBroker, text};
use crate::broker::filter::{JobFilter, StateName};
use crate::broker::search::Budget;
use crate::broker::{BrokerError, Purge};
use crate::job::{JobId, QueueName};
use crate::time::Unix;

#[async_trait]
impl Purge for RqBroker {
    /// Blocked jobs go first: each of the others that leaves would let one of them into the queue.
    async fn purge_waiting(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        self.open_still()?;
        let mut deleted = 0;
        loop {
            let left = limit - usize::try_from(deleted).unwrap_or(limit).min(limit);
            if left == 0 {
                return Ok(deleted);
            }
            let blocked = self.blocked_in(queue, left).await?;
            if blocked.is_empty() {
                return Ok(deleted + self.purge(queue, "waiting", left, &[]).await?);
            }
            deleted += self.purge(queue, "rate_limited", left, &blocked).await?;
        }
    }

    async fn purge_scheduled(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        self.open_still()?;
        self.purge(queue, "scheduled", limit, &[]).await
    }
}

impl RqBroker {
    /// Some jobs of a queue that wait for their turn, the newest first; none: there are no others.
    async fn blocked_in(&self, queue: &QueueName, limit: usize) -> Result<Vec<JobId>, BrokerError> {
        let filter = JobFilter {
            states: vec![StateName::Blocked],
            queue: Some(queue.clone()),
            ..JobFilter::default()
        };
        let budget = Budget {
            jobs: limit,
            ..Budget::default()
        };
        let mut after = None;
        loop {
            let page = self.look_through(&filter, after.as_ref(), budget).await?;
            after = page.next;
            if after.is_none() || !page.jobs.is_empty() {
                return Ok(page.jobs.into_iter().map(|job| job.id).collect());
            }
        }
    }

    async fn purge(
        &self,
        queue: &QueueName,
        what: &str,
        limit: usize,
        ids: &[JobId],
    ) -> Result<u64, BrokerError> {
        let now = Unix::now();
        let mut call = self.scripts.purge.prepare_invoke();
        call.arg(self.keys.names())
            .arg(text::iso(now))
            .arg(text::score(now))
            .arg(queue.as_str())
            .arg(what)
            .arg(limit);
        for id in ids {
            call.arg(id.as_str());
        }
        self.link.run_script(&call).await
    }
}
