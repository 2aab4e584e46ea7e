//! The embedded broker: jobs in one SQLite file, for any number of processes of one host.
//!
//! Each handle has a thread that owns its connection (`engine.rs`). What producers and readers ask goes through
//! `client.rs`. The verbs are SQL in
//! `produce.rs`, `claim.rs`, `consume.rs`, `control.rs`, `attempts.rs`, `limits.rs`, `expiry.rs`, `flow.rs`, `inspect.rs`, `schedules.rs` and `search.rs` over the tables of `schema.sql` and what follows it; those who wait are in
//! `waiters.rs`; processes hear of each other through a bell file (`bell.rs`).
//! `docs/embedded-broker.md` says what users need to know.

mod attempts;
mod bell;
mod claim;
mod client;
mod consume;
mod control;
mod engine;
mod error;
mod expiry;
mod flow;
mod inspect;
mod limits;
mod open;
mod patience;
mod produce;
mod purge;
mod schedules;
mod search;
mod store;
#[cfg(test)]
mod tests;
mod ties;
mod waiters;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::engine::Engine;
use self::store::{Access, Settings};
use super::parts::turns::Turns;
use super::source::StopHow;
use super::{Abilities, Broker, BrokerError, Events, Maintained, Pull, Queues, Source, pulled};
use crate::job::{Claim, Claimed, Progress, QueueName, Settlement};

/// How long a transaction waits for those of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Turns of one call of `maintain`: some seconds of work after a very long neglect.
const MAINTAIN_TURNS_MAX: u32 = 1000;

/// What the embedded broker is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The file, made with its directory if it is not there.
    pub path: PathBuf,
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
    /// Wait for the disk at each commit: survives power loss, slower.
    pub fsync: bool,
}

/// A handle on the jobs of one SQLite file.
///
/// Dropped without [`Broker::close`], it leaves its claims as a killed process does.
#[derive(Debug)]
pub struct SqliteBroker {
    engine: Arc<Engine>,
    url: String,
    payload_len_max: usize,
    heartbeat: Duration,
}

impl SqliteBroker {
    /// Opens the file.
    pub async fn open(options: &Options) -> Result<Self, BrokerError> {
        let settings = Settings {
            lease: options.lease,
            result_ttl: options.result_ttl,
            dead_ttl: options.dead_ttl,
        };
        Ok(SqliteBroker {
            engine: Arc::new(Engine::start(options.path.clone(), settings, options.fsync).await?),
            url: url(&options.path),
            payload_len_max: options.payload_len_max,
            heartbeat: options.heartbeat,
        })
    }
}

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

#[async_trait]
impl Broker for SqliteBroker {
    fn url(&self) -> &str {
        &self.url
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
        let heartbeat = self.heartbeat;
        Ok(pulled::start(self, heartbeat, events))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        self.engine.close().await
    }
}

#[async_trait]
impl Pull for SqliteBroker {
    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        let queues = queues.to_vec();
        self.engine
            .run(Access::Write, move |store| store.claim(&queues, turns, limit))
            .await
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.engine.run(Access::Write, |store| store.extend()).await
    }

    async fn note_begun(&self, claims: Vec<Claim>) -> Result<(), BrokerError> {
        self.engine
            .run(Access::Write, move |store| store.note_begun(&claims))
            .await
    }

    async fn note_progress(&self, news: Vec<(Claim, Progress)>) -> Result<(), BrokerError> {
        self.engine
            .run(Access::Write, move |store| store.note_progress(&news))
            .await
    }

    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.engine.called_off(claims.to_vec()).await
    }

    fn stops_by_mark(&self) -> bool {
        true
    }

    async fn settle(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        self.engine
            .run(Access::Write, move |store| store.settle(&settlements))
            .await
    }

    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        self.engine.ready(queues.to_vec()).await
    }

    async fn maintain(&self) -> Result<Maintained, BrokerError> {
        let mut done = Maintained::default();
        // Each turn is a transaction of its own: claims and settlements go in between.
        for _ in 0..MAINTAIN_TURNS_MAX {
            let turn = self.engine.run(Access::Write, |store| store.maintain()).await?;
            done.recovered += turn.recovered;
            done.expired += turn.expired;
            if turn.expired < store::EXPIRED_MAX {
                break;
            }
        }
        Ok(done)
    }
}
