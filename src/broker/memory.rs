//! The broker in memory: one process, nothing kept. For tests, and the model that the embedded
//! broker is compared with.

mod claim;
mod client;
mod control;
mod expiry;
mod flow;
mod inspect;
mod limits;
mod purge;
mod schedules;
mod search;
mod settle;
mod store;
mod ties;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use self::store::Store;
use super::parts::turns::Turns;
use super::source::StopHow;
use super::{Abilities, Broker, BrokerError, Events, Maintained, Pull, Queues, Source, check, pulled};
use crate::job::{Claim, Claimed, Progress, QueueName, Settlement};
use crate::time::Unix;

const URL: &str = "memory:";

/// What the broker in memory is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long claims are held without renewal.
    pub lease: Duration,
    /// How often the lease is renewed while jobs are held.
    pub heartbeat: Duration,
    /// How long results can be read.
    pub result_ttl: Duration,
    /// How long dead letters are kept; `None`: until somebody retries or deletes them.
    pub dead_ttl: Option<Duration>,
    /// Largest payload of a job, in bytes.
    pub payload_len_max: usize,
}

/// One handle on jobs kept in memory.
#[derive(Debug)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
    session: u64,
    options: Options,
    closed: Arc<AtomicBool>,
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
    pub fn new(options: &Options) -> Self {
        Self::on(Arc::default(), options)
    }

    /// Another handle on the same jobs, as another supervisor would have: with a lease of its own.
    pub fn another(&self, options: &Options) -> Self {
        Self::on(Arc::clone(&self.shared), options)
    }

    fn on(shared: Arc<Shared>, options: &Options) -> Self {
        MemoryBroker {
            session: shared.sessions.fetch_add(1, Ordering::Relaxed),
            shared,
            options: options.clone(),
            closed: Arc::default(),
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

    fn queues(&self) -> &dyn Queues {
        self
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities {
            chains: Some(self),
            search: Some(self),
            schedules: Some(self),
            ..Abilities::of(self)
        }
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        let heartbeat = self.options.heartbeat;
        Ok(pulled::start(self, heartbeat, events))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        if !self.closed.swap(true, Ordering::Relaxed) {
            self.lock()
                .give_up(self.session, self.options.result_ttl, Unix::now());
            self.shared.changed.notify_waiters();
        }
        Ok(())
    }
}

#[async_trait]
impl Pull for MemoryBroker {
    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        Ok(self.store()?.claim(
            self.session,
            queues,
            (turns, limit),
            (self.options.lease, self.options.result_ttl),
            Unix::now(),
        ))
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.store()?
            .extend(self.session, self.options.lease, Unix::now());
        Ok(())
    }

    async fn note_begun(&self, claims: Vec<Claim>) -> Result<(), BrokerError> {
        self.store()?.note_begun(self.session, &claims);
        Ok(())
    }

    async fn note_progress(&self, news: Vec<(Claim, Progress)>) -> Result<(), BrokerError> {
        self.store()?.note_progress(self.session, news);
        Ok(())
    }

    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        loop {
            let changed = self.shared.changed.notified();
            let called_off = self.store()?.called_off(self.session, claims);
            if !called_off.is_empty() {
                return Ok(called_off);
            }
            changed.await;
        }
    }

    fn stops_by_mark(&self) -> bool {
        true
    }

    async fn settle(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        self.changing(|store| store.settle(self.session, settlements, self.options.result_ttl, Unix::now()))
    }

    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        loop {
            // Registered before the look, so that no change falls between the two.
            let changed = self.shared.changed.notified();
            let now = Unix::now();
            let next = {
                let mut store = self.store()?;
                if store.expire(self.options.result_ttl, now) {
                    self.shared.changed.notify_waiters();
                }
                if store.is_ready(self.session, queues, self.options.result_ttl, now) {
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
        let (result_ttl, dead_ttl) = (self.options.result_ttl, self.options.dead_ttl);
        self.changing(|store| store.maintain(self.session, result_ttl, dead_ttl, Unix::now()))
    }
}
