//! Looking through the jobs in memory. Each look sorts a place anew: this broker is for tests.

use async_trait::async_trait;

use super::MemoryBroker;
use super::store::{Job, Place, Store};
use crate::broker::BrokerError;
use crate::broker::filter::JobFilter;
use crate::broker::search::{Budget, Cursor, IdsFound, Look, Page, Search};
use crate::job::JobState;
use crate::time::Unix;

impl Store {
    fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
        now: Unix,
    ) -> Result<Page, BrokerError> {
        let mut look = Look::begin(filter, after, &[], budget);
        while let Some(place) = look.next_place() {
            let start = look.start().map(|cursor| cursor.numbers::<2>()).transpose()?;
            let rows = self.rows(place, filter, now);
            let total = rows.len() as u64;
            let mut last = [0; 2];
            for (key, handle) in rows {
                if start.is_some_and(|start| key <= start) {
                    continue;
                }
                if look.is_over() {
                    look.stop(format!("{}:{}", last[0], last[1]), Some(total));
                    break;
                }
                last = key;
                look.count_row();
                look.offer(Some(self.jobs[&handle].view()));
            }
        }
        Ok(look.end())
    }

    /// The jobs of a place in the order of a search, each with its position in it.
    fn rows(&self, place: JobState, filter: &JobFilter, now: Unix) -> Vec<([i64; 2], i64)> {
        let is_there = |job: &Job| job.state() == place && !job.has_expired(now);
        let jobs = self.jobs.iter().filter(|(_, job)| is_there(job));
        let jobs = jobs.filter(|(_, job)| filter.wants_queue(job.new.queue.as_str()));
        let mut rows: Vec<([i64; 2], i64)> = jobs
            .map(|(&handle, job)| (job.place.key(handle), handle))
            .collect();
        rows.sort_unstable();
        rows
    }

    fn begins_with(&self, start: &str, limit: usize) -> IdsFound {
        let mut ids: Vec<_> = self.ids.keys().collect();
        ids.retain(|id| id.as_str().starts_with(start));
        ids.sort_unstable();
        IdsFound {
            ids: ids.into_iter().take(limit).cloned().collect(),
            is_complete: true,
        }
    }
}

impl Place {
    /// What places are ordered by: the newest first, or the next due.
    fn key(&self, handle: i64) -> [i64; 2] {
        match self {
            Place::Waiting(slot) | Place::Blocked(slot) => [-slot.position, 0],
            Place::Scheduled(due) => [due.0, handle],
            Place::Dead { ended } => [-ended.0, -handle],
            Place::Deferred | Place::Running { .. } | Place::Finished { .. } => [-handle, 0],
        }
    }
}

#[async_trait]
impl Search for MemoryBroker {
    async fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        self.store()?.search(filter, after, budget, Unix::now())
    }

    async fn begins_with(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError> {
        Ok(self.store()?.begins_with(start, budget.jobs))
    }
}
