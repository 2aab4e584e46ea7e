//! The transport over Redis, as kombu has it: lists of messages, and a hash of those that are not acknowledged.
//!
//! One script takes messages in batches and notes each in `unacked` in the same step, under a tag of our own. So a message
//! is at any instant in a list or there, where a stock worker gives it back should nobody else: after the visibility
//! timeout, which is renewed for what is held.
//!
//! - [`options`]: what it is told; [`keys`], [`scripts`]: every key, and what is done in one step;
//! - [`claim`], [`recover`], [`settle`], [`lease`], [`takeover`], [`eta`]: the life of a message; [`ready`]: waiting for one;
//! - [`broadcast`]: messages for each node; [`mailbox`]: requests of remote control; [`publish`]: what we send by ourselves;
//! - [`declare`]: what a consumer says of its queues; [`client`], [`queues`], [`search`], [`take_out`]: what producers, readers and `pool cancel` ask.

mod broadcast;
mod claim;
mod client;
mod declare;
mod eta;
mod keys;
mod lease;
mod mailbox;
pub(super) mod options;
mod publish;
mod queues;
mod ready;
mod recover;
pub(super) mod scripts;
mod search;
mod settle;
mod take_out;
mod takeover;
mod turns;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::AbortHandle;

use self::keys::{Keys, tag};
use self::lease::Renewals;
use self::options::RedisTransport;
use self::scripts::Scripts;
use self::takeover::Peers;
use self::turns::Cycle;
use super::abilities;
use super::consumer::Consumer;
use super::options::{Application, Options};
use crate::broker::parts::turns::Turns;
use crate::broker::redis::connection::Link;
use crate::broker::redis::endpoint::Endpoint;
use crate::broker::redis::subscription::Subscription;
use crate::broker::redis::unanswered::UnansweredClaims;
use crate::broker::redis::version::check_version;
use crate::broker::redis::wake_up::WakeUps;
use crate::broker::source::StopHow;
use crate::broker::{
    Abilities, Broker, BrokerError, Events, Maintained, Orders, Presence, Pull, Queues, Reader, Source,
    pulled,
};
use crate::job::{Claim, Claimed, QueueName, Settlement};

/// The hint for a user who lacks rights.
const RIGHTS: &str = "this user needs the commands and keys that Celery's own workers need, and EVALSHA";
/// Longest time between two renewals of what is held.
const RENEWAL_MAX: Duration = Duration::from_secs(60);
/// How long the server is asked to wait at most before it is asked again, so that a connection that died silently is
/// noticed.
const BLOCK: Duration = Duration::from_secs(60);

/// One handle on a Redis server that holds Celery's tasks.
#[derive(Debug)]
pub struct RedisBroker {
    link: Arc<Link>,
    transport: Arc<RedisTransport>,
    keys: Keys,
    options: Options,
    consumer: Arc<Consumer>,
    scripts: Scripts,
    /// The middle part of our tags.
    handle: String,
    /// Claims whose answer never came.
    unanswered: UnansweredClaims,
    cycle: Cycle,
    peers: Peers,
    renewals: Renewals,
    wake_ups: WakeUps,
    /// Hears what is asked of our node.
    mailbox: Subscription,
    /// Hears what is for each node.
    broadcasts: Subscription,
    hearing: Mutex<Option<AbortHandle>>,
}

impl RedisBroker {
    pub(super) async fn open(
        options: &Options,
        app: Application,
        transport: RedisTransport,
    ) -> Result<Self, BrokerError> {
        let endpoint = Arc::new(Endpoint::new(&transport.server, RIGHTS)?);
        let link = Arc::new(Link::new(Arc::clone(&endpoint)));
        let about = link.begin().await.map_err(|error| endpoint.error(&error))?;
        check_version(&endpoint.shown, &about)?;
        let transport = Arc::new(transport);
        Ok(RedisBroker {
            wake_ups: WakeUps::new(&link, BLOCK),
            mailbox: Subscription::new(&link),
            broadcasts: Subscription::new(&link),
            link,
            hearing: Mutex::default(),
            keys: Keys::new(Arc::clone(&transport), &app.queues),
            cycle: Cycle::new(transport.order),
            transport,
            options: options.clone(),
            consumer: Arc::new(Consumer::new(app)?),
            scripts: Scripts::new(),
            handle: format!("{:016x}", uuid::Uuid::now_v7().as_u64_pair().1),
            unanswered: UnansweredClaims::default(),
            peers: Peers::default(),
            renewals: Renewals::default(),
        })
    }

    fn open_still(&self) -> Result<(), BrokerError> {
        self.consumer.open_still(self.url())
    }

    /// The tag of one of our claims.
    fn tag(&self, number: i64) -> String {
        tag(&self.handle, number)
    }

    /// Who hears what is for each node; the one before ends.
    fn set_hearing(&self, hearing: Option<AbortHandle>) {
        let mut current = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *current, hearing) {
            before.abort();
        }
    }

    /// How often what is held is renewed: well before a stock worker would give it back.
    fn renewal(&self) -> Duration {
        (self.transport.visibility / 3).min(RENEWAL_MAX)
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn url(&self) -> &str {
        &self.link.endpoint.shown
    }

    fn queues(&self) -> &dyn Queues {
        self
    }

    async fn check_rights(&self) -> Result<(), BrokerError> {
        self.open_still()?;
        self.find_rights().await
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities {
            producer: Some(self),
            reader: self.consumer.results.as_ref().map(|_| self as &dyn Reader),
            purge: Some(self),
            search: Some(self),
            control: Some(self),
            instead: abilities::INSTEAD,
            ..Abilities::default()
        }
    }

    fn app_queues(&self) -> Vec<QueueName> {
        self.consumer.app_queues()
    }

    fn queue_of(&self, task: &str) -> Option<QueueName> {
        self.consumer.queue_of(task)
    }

    fn app_reloaded(&self, facts: &str) -> Result<Vec<String>, BrokerError> {
        self.consumer.reloaded(facts)
    }

    fn presence(self: Arc<Self>, orders: Orders) -> Option<Box<dyn Presence>> {
        Some(Box::new(self.listen(orders)))
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.begin().await?;
        self.consumer.remember()?;
        self.hear_broadcasts().await;
        self.consumer.mingle(&*self).await;
        let heartbeat = self.options.heartbeat.min(self.renewal());
        Ok(pulled::start(self, heartbeat, events))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        if self.open_still().is_ok() {
            self.set_hearing(None);
            self.leave().await?;
            self.consumer.events.leave(self, self.consumer.load_of(0)).await;
            self.consumer.close();
        }
        Ok(())
    }
}

#[async_trait]
impl Pull for RedisBroker {
    async fn begin(&self) -> Result<(), BrokerError> {
        self.find_rights().await?;
        self.declare().await
    }

    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.open_still()?;
        self.take(queues, turns, limit).await
    }

    async fn claim_after_work(
        &self,
        _queues: &[QueueName],
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.open_still()?;
        Ok(self.consumer.hand_out_chores(limit))
    }

    fn has_after_work(&self) -> bool {
        self.consumer.chores.holds_any()
    }

    fn holds_more(&self) -> bool {
        self.consumer.hand().waiting() > 0 || self.consumer.chores.holds_any()
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.open_still()?;
        self.renew().await
    }

    async fn note_begun(&self, claims: Vec<Claim>) -> Result<(), BrokerError> {
        self.open_still()?;
        self.consumer.have_begun(&claims);
        let numbers = claims.iter().map(|claim| claim.handle).collect();
        self.acknowledge_early(numbers).await
    }

    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.open_still()?;
        Ok(self.consumer.hear_of_lost(claims).await)
    }

    async fn settle(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        self.open_still()?;
        self.end(settlements).await
    }

    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        self.open_still()?;
        self.wait(queues).await
    }

    async fn maintain(&self) -> Result<Maintained, BrokerError> {
        self.open_still()?;
        self.refresh_declarations().await?;
        let recovered = self.take_over().await?;
        Ok(Maintained {
            recovered,
            expired: 0,
        })
    }
}
