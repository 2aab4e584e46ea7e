//! The embedded broker: jobs in one SQLite file, for any number of processes of one host.
//!
//! Each handle has a thread that owns its connection (`engine.rs`). The verbs are SQL in
//! `produce.rs`, `consume.rs`, `flow.rs` and `inspect.rs` over the tables of `schema.sql` and what follows it; those who wait are in
//! `waiters.rs`; processes hear of each other through a bell file (`bell.rs`).
//! `docs/embedded-broker.md` says what users need to know.

mod bell;
mod consume;
mod engine;
mod error;
mod flow;
mod inspect;
mod open;
mod produce;
mod store;
#[cfg(test)]
mod tests;
mod waiters;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use self::engine::Engine;
use self::store::{Access, Settings};
use super::flow::{check_chain, check_group};
use super::{Backlog, Broker, BrokerError, DeadFilter, Enqueued, GroupView, Maintained, NewGroup, check};
use crate::config::BrokerConfig;
use crate::job::{Claimed, GroupId, JobId, JobView, NewJob, QueueName, Settlement};

/// How long a transaction waits for those of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Turns of one call of `maintain`: some seconds of work after a very long neglect.
const MAINTAIN_TURNS_MAX: u32 = 1000;

/// A handle on the jobs of one SQLite file.
///
/// Dropped without [`Broker::close`], it leaves its claims as a killed process does.
#[derive(Debug)]
pub struct SqliteBroker {
    engine: Engine,
    url: String,
    payload_len_max: usize,
}

impl SqliteBroker {
    /// Opens the file at `path`, made with its directory if it is not there.
    pub async fn open(path: &Path, config: &BrokerConfig) -> Result<Self, BrokerError> {
        let settings = Settings {
            lease: config.lease,
            result_ttl: config.result_ttl,
        };
        Ok(SqliteBroker {
            engine: Engine::start(path.to_owned(), settings, config.fsync).await?,
            url: url(path),
            payload_len_max: config.max_payload,
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

    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        check::new_jobs(&jobs, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.enqueue(&jobs))
            .await
    }

    async fn claim(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Claimed>, BrokerError> {
        let queues = queues.to_vec();
        self.engine
            .run(Access::Write, move |store| store.claim(&queues, limit))
            .await
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.engine.run(Access::Write, |store| store.extend()).await
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, BrokerError> {
        self.engine
            .run(Access::Write, move |store| store.settle(&settlements))
            .await
    }

    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        let queues = queues.to_vec();
        // Writing: jobs that came due are moved first, so that they count as waiting.
        self.engine
            .run(Access::Write, move |store| store.backlog(&queues))
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
            if turn.expired < consume::EXPIRED_MAX {
                break;
            }
        }
        Ok(done)
    }

    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Read, move |store| {
                let views = ids.iter().map(|id| Ok(store.find(id)?.map(|(_, view)| view)));
                views.collect()
            })
            .await
    }

    async fn wait_any(&self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.ended(ids.to_vec()).await
    }

    async fn enqueue_group(&self, group: NewGroup) -> Result<(), BrokerError> {
        check_group(&group, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.enqueue_group(&group))
            .await
    }

    async fn enqueue_chain(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError> {
        check_chain(&jobs, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.enqueue_chain(&jobs))
            .await
    }

    async fn group(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        let id = id.clone();
        self.engine
            .run(Access::Read, move |store| store.find_group(&id))
            .await
    }

    async fn group_jobs(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        let id = id.clone();
        self.engine
            .run(Access::Read, move |store| store.group_jobs(&id))
            .await
    }

    async fn wait_group(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        self.engine.group(id.clone(), beyond).await
    }

    async fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        let filter = filter.clone();
        self.engine
            .run(Access::Read, move |store| store.dead(&filter))
            .await
    }

    async fn retry_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Write, move |store| store.retry_dead(&ids))
            .await
    }

    async fn delete_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Write, move |store| store.delete_dead(&ids))
            .await
    }

    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.engine.run(Access::Read, |store| store.queue_names()).await
    }

    async fn close(&self) -> Result<(), BrokerError> {
        self.engine.close().await
    }
}
