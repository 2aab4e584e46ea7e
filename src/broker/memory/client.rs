//! What producers and readers ask of the jobs in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;

use super::{MemoryBroker, Shared, URL};
use crate::broker::flow::{check_chain, check_group};
use crate::broker::source::StopHow;
use crate::broker::wait::{WaitAny, watch};
use crate::broker::{
    Backlog, BrokerError, Canceled, Chains, Control, DeadFilter, DeadLetters, Enqueued, GroupView, Groups,
    NewGroup, Producer, Queues, Reader, Watch, check,
};
use crate::job::{GroupId, JobId, JobView, NewJob, QueueName};
use crate::time::Unix;

#[async_trait]
impl Producer for MemoryBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        check::new_jobs(&jobs, self.options.payload_len_max)?;
        self.changing(|store| store.enqueue(jobs, Unix::now()))?
    }
}

#[async_trait]
impl Queues for MemoryBroker {
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        Ok(self.store()?.backlog(queues, Unix::now()))
    }

    async fn blocked(&self, queues: &[QueueName]) -> Result<Vec<u64>, BrokerError> {
        let store = self.store()?;
        Ok(queues
            .iter()
            .map(|queue| store.limits.blocked_in(queue))
            .collect())
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        Ok(self.store()?.queues())
    }
}

#[async_trait]
impl Reader for MemoryBroker {
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        let store = self.store()?;
        let now = Unix::now();
        Ok(ids.iter().map(|id| store.find(id, now)).collect())
    }

    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        let look = Look {
            shared: Arc::clone(&self.shared),
            closed: Arc::clone(&self.closed),
        };
        watch(ids, look)
    }
}

/// What a watch looks at.
struct Look {
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
}

#[async_trait]
impl WaitAny for Look {
    async fn wait_any(&mut self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        loop {
            // Registered before the look, so that no change falls between the two.
            let changed = self.shared.changed.notified();
            if self.closed.load(Ordering::Relaxed) {
                return Err(check::closed(URL));
            }
            let now = Unix::now();
            let ended: Vec<_> = {
                let store = self.shared.store.lock().unwrap_or_else(PoisonError::into_inner);
                let views = ids.iter().map(|id| store.find(id, now)).enumerate();
                views
                    .filter(|(_, view)| view.as_ref().is_none_or(|view| view.state.is_final()))
                    .collect()
            };
            if !ended.is_empty() {
                return Ok(ended);
            }
            changed.await;
        }
    }
}

#[async_trait]
impl DeadLetters for MemoryBroker {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        Ok(self.store()?.dead(filter))
    }

    async fn retry(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.changing(|store| store.retry_dead(ids, Unix::now()))
    }

    async fn delete(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.changing(|store| store.delete_dead(ids))
    }
}

#[async_trait]
impl Control for MemoryBroker {
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.call_off(ids, StopHow::IfNotBegun)
    }

    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.call_off(ids, StopHow::ForGood)
    }
}

impl MemoryBroker {
    fn call_off(&self, ids: &[JobId], how: StopHow) -> Result<Vec<Canceled>, BrokerError> {
        let result_ttl = self.options.result_ttl;
        self.changing(|store| store.cancel(ids, how, result_ttl, Unix::now()))
    }
}

#[async_trait]
impl Groups for MemoryBroker {
    async fn enqueue(&self, group: NewGroup) -> Result<(), BrokerError> {
        check_group(&group, self.options.payload_len_max)?;
        self.changing(|store| store.enqueue_group(group, self.options.result_ttl, Unix::now()))?
    }

    async fn find(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        Ok(self.store()?.find_group(id, Unix::now()))
    }

    async fn members(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        Ok(self.store()?.group_jobs(id))
    }

    async fn wait(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        loop {
            let changed = self.shared.changed.notified();
            let view = Groups::find(self, id).await?;
            let is_over = |view: &GroupView| view.ended.is_some() || view.ended_jobs() > beyond;
            if view.as_ref().is_none_or(is_over) {
                return Ok(view);
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Chains for MemoryBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError> {
        check_chain(&jobs, self.options.payload_len_max)?;
        self.changing(|store| store.enqueue_chain(jobs, Unix::now()))?
    }
}
