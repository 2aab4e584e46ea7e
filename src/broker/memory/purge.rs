//! Deleting what waits.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryBroker;
use super::store::Store;
use crate::broker::{BrokerError, Purge};
use crate::job::{JobError, JobState, QueueName};
use crate::time::Unix;

impl Store {
    /// Deletes jobs of a queue that are in one of these places.
    fn purge(
        &mut self,
        queue: &QueueName,
        places: &[JobState],
        limit: usize,
        result_ttl: Duration,
        now: Unix,
    ) -> u64 {
        self.promote(now);
        let jobs = self.jobs.iter();
        let mut found: Vec<i64> = jobs
            .filter(|(_, job)| job.new.queue == *queue && places.contains(&job.state()))
            .map(|(&handle, _)| handle)
            .collect();
        found.sort_unstable();
        found.truncate(limit);
        for &handle in &found {
            self.take_from_its_place(handle);
            self.bury(handle, JobError::canceled(), result_ttl, now);
            self.remove(handle);
        }
        self.unblock();
        found.len() as u64
    }
}

impl MemoryBroker {
    fn purge(&self, queue: &QueueName, places: &[JobState], limit: usize) -> Result<u64, BrokerError> {
        let result_ttl = self.options.result_ttl;
        self.changing(|store| store.purge(queue, places, limit, result_ttl, Unix::now()))
    }
}

#[async_trait]
impl Purge for MemoryBroker {
    async fn purge_waiting(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        self.purge(queue, &[JobState::Waiting, JobState::Blocked], limit)
    }

    async fn purge_scheduled(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        self.purge(queue, &[JobState::Scheduled], limit)
    }
}
