//! The broker in memory: one process, nothing kept. For tests, and the model that the embedded
//! broker is compared with.

mod flow;
mod store;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use self::store::Store;
use super::flow::{check_chain, check_group};
use super::{Backlog, Broker, BrokerError, DeadFilter, Enqueued, GroupView, Maintained, NewGroup, check};
use crate::config::BrokerConfig;
use crate::job::{Claimed, GroupId, JobId, JobView, NewJob, QueueName, Settlement};
use crate::time::Unix;

const URL: &str = "memory:";

/// One handle on jobs kept in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
    session: u64,
    lease: Duration,
    result_ttl: Duration,
    payload_len_max: usize,
    closed: AtomicBool,
}

/// What the handles on the same jobs have in common.
#[derive(Debug, Default)]
struct Shared {
    store: Mutex<Store>,
    /// Jobs came, came back or ended.
    changed: Notify,
    sessions: AtomicU64,
}

impl MemoryBroker {
    /// A broker without jobs.
    pub fn new(config: &BrokerConfig) -> Self {
        Self::on(Arc::default(), config)
    }

    /// Another handle on the same jobs, as another supervisor would have: with a lease of its own.
    pub fn another(&self, config: &BrokerConfig) -> Self {
        Self::on(Arc::clone(&self.shared), config)
    }

    fn on(shared: Arc<Shared>, config: &BrokerConfig) -> Self {
        MemoryBroker {
            session: shared.sessions.fetch_add(1, Ordering::Relaxed),
            shared,
            lease: config.lease,
            result_ttl: config.result_ttl,
            payload_len_max: config.max_payload,
            closed: AtomicBool::new(false),
        }
    }

    fn store(&self) -> Result<MutexGuard<'_, Store>, BrokerError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(check::closed(URL));
        }
        Ok(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` and tells all who wait.
    fn changing<R>(&self, change: impl FnOnce(&mut Store) -> R) -> Result<R, BrokerError> {
        let done = change(&mut *self.store()?);
        self.shared.changed.notify_waiters();
        Ok(done)
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    fn url(&self) -> &str {
        URL
    }

    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        check::new_jobs(&jobs, self.payload_len_max)?;
        self.changing(|store| store.enqueue(jobs, Unix::now()))?
    }

    async fn claim(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Claimed>, BrokerError> {
        Ok(self
            .store()?
            .claim(self.session, queues, limit, self.lease, Unix::now()))
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.store()?.extend(self.session, self.lease, Unix::now());
        Ok(())
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, BrokerError> {
        self.changing(|store| store.settle(self.session, settlements, self.result_ttl, Unix::now()))
    }

    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        Ok(self.store()?.backlog(queues, Unix::now()))
    }

    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        loop {
            // Registered before the look, so that no change falls between the two.
            let changed = self.shared.changed.notified();
            let now = Unix::now();
            let next = {
                let mut store = self.store()?;
                if store.is_ready(self.session, queues, now) {
                    return Ok(());
                }
                store.next_change(self.session)
            };
            match next {
                None => changed.await,
                Some(at) => {
                    let _ = tokio::time::timeout(at.since(now), changed).await;
                }
            }
        }
    }

    async fn maintain(&self) -> Result<Maintained, BrokerError> {
        self.changing(|store| store.maintain(self.session, Unix::now()))
    }

    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        let store = self.store()?;
        let now = Unix::now();
        Ok(ids.iter().map(|id| store.find(id, now)).collect())
    }

    async fn wait_any(&self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        loop {
            let changed = self.shared.changed.notified();
            let views = self.find(ids).await?;
            let ended: Vec<_> = views
                .into_iter()
                .enumerate()
                .filter(|(_, view)| view.as_ref().is_none_or(|view| view.state.is_final()))
                .collect();
            if !ended.is_empty() || ids.is_empty() {
                return Ok(ended);
            }
            changed.await;
        }
    }

    async fn enqueue_group(&self, group: NewGroup) -> Result<(), BrokerError> {
        check_group(&group, self.payload_len_max)?;
        self.changing(|store| store.enqueue_group(group, self.result_ttl, Unix::now()))?
    }

    async fn enqueue_chain(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError> {
        check_chain(&jobs, self.payload_len_max)?;
        self.changing(|store| store.enqueue_chain(jobs, Unix::now()))?
    }

    async fn group(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        Ok(self.store()?.find_group(id, Unix::now()))
    }

    async fn group_jobs(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        Ok(self.store()?.group_jobs(id))
    }

    async fn wait_group(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        loop {
            let changed = self.shared.changed.notified();
            let view = self.group(id).await?;
            let is_over = |view: &GroupView| view.ended.is_some() || view.ended_jobs() > beyond;
            if view.as_ref().is_none_or(is_over) {
                return Ok(view);
            }
            changed.await;
        }
    }

    async fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        Ok(self.store()?.dead(filter))
    }

    async fn retry_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.changing(|store| store.retry_dead(ids, Unix::now()))
    }

    async fn delete_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.changing(|store| store.delete_dead(ids))
    }

    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        Ok(self.store()?.queues())
    }

    async fn close(&self) -> Result<(), BrokerError> {
        if !self.closed.swap(true, Ordering::Relaxed) {
            self.lock().give_up(self.session);
            self.shared.changed.notify_waiters();
        }
        Ok(())
    }
}
