//! The transport over Redis, as kombu has it: lists of messages, and a hash of those that are not acknowledged.
//!
//! One script takes messages in batches and notes each in `unacked` in the same step, under a tag of our own. So a message
//! is at any instant in a list or there, where a stock worker gives it back should nobody else: after the visibility
//! timeout, which is renewed for what is held.
//!
//! - [`keys`], [`scripts`]: every key, and what is done in one step;
//! - [`claim`], [`recover`], [`settle`], [`lease`], [`takeover`], [`eta`]: the life of a message; [`ready`]: waiting for one;
//! - [`mailbox`]: requests of remote control;
//! - [`declare`]: what a consumer says of its queues; [`client`], [`results`]: what producers and readers ask.

mod claim;
mod client;
mod declare;
mod eta;
mod keys;
mod lease;
mod mailbox;
mod ready;
mod recover;
mod results;
mod scripts;
mod settle;
mod takeover;
mod turns;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use self::keys::{Keys, tag};
use self::lease::Renewals;
use self::mailbox::Hearing;
use self::results::ResultStore;
use self::scripts::Scripts;
use self::takeover::Peers;
use self::turns::Cycle;
use super::held::{Chore, Hand};
use super::options::{Application, Options, RESULTS, Task};
use super::remote::Node;
use crate::broker::parts::after_work::AfterWorks;
use crate::broker::parts::turns::Turns;
use crate::broker::redis::connection::Link;
use crate::broker::redis::endpoint::Endpoint;
use crate::broker::redis::subscription::Subscription;
use crate::broker::redis::unanswered::UnansweredClaims;
use crate::broker::redis::version::check_version;
use crate::broker::redis::wake_up::WakeUps;
use crate::broker::source::StopHow;
use crate::broker::{
    Abilities, Broker, BrokerError, Chains, Control, DeadLetters, Events, Groups, Maintained, NotHere,
    Orders, Presence, Pull, Queues, Reader, Source, check, pulled,
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
pub struct CeleryBroker {
    link: Arc<Link>,
    keys: Keys,
    options: Options,
    app: Application,
    /// What the application says of its tasks, by name: a reload may change it.
    tasks: RwLock<Arc<HashMap<String, Task>>>,
    scripts: Scripts,
    /// The middle part of our tags.
    handle: String,
    hand: Mutex<Hand>,
    /// Claims whose answer never came.
    unanswered: UnansweredClaims,
    cycle: Cycle,
    chores: AfterWorks<Chore>,
    peers: Peers,
    renewals: Renewals,
    /// A message that we hold turned out to be somebody else's.
    lost: Notify,
    wake_ups: WakeUps,
    /// Hears what is asked of our node.
    mailbox: Subscription,
    node: Node,
    results: Option<ResultStore>,
    closed: Arc<AtomicBool>,
}

impl CeleryBroker {
    pub(super) async fn open(options: &Options) -> Result<Self, BrokerError> {
        let mut app = Application::read(&options.facts)?;
        let endpoint = Arc::new(Endpoint::new(&app.redis, RIGHTS)?);
        let link = Arc::new(Link::new(Arc::clone(&endpoint)));
        let about = link.begin().await.map_err(|error| endpoint.error(&error))?;
        check_version(&endpoint.shown, &about)?;
        let closed = Arc::<AtomicBool>::default();
        let results = app.results.as_ref();
        let results = results
            .map(|results| ResultStore::new(results, &closed))
            .transpose()?;
        Ok(CeleryBroker {
            wake_ups: WakeUps::new(&link, BLOCK),
            mailbox: Subscription::new(&link),
            node: Node::new(&app.node.name, std::mem::take(&mut app.about)),
            link,
            keys: Keys::new(&app.transport),
            cycle: Cycle::new(app.transport.order),
            options: options.clone(),
            tasks: RwLock::new(Arc::new(std::mem::take(&mut app.tasks))),
            app,
            scripts: Scripts::new(),
            handle: format!("{:016x}", uuid::Uuid::now_v7().as_u64_pair().1),
            hand: Mutex::default(),
            unanswered: UnansweredClaims::default(),
            chores: AfterWorks::default(),
            peers: Peers::default(),
            renewals: Renewals::default(),
            lost: Notify::new(),
            results,
            closed,
        })
    }

    fn open_still(&self) -> Result<(), BrokerError> {
        match self.closed.load(Ordering::Relaxed) {
            true => Err(check::closed(self.url())),
            false => Ok(()),
        }
    }

    fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the application says of its tasks now.
    fn tasks(&self) -> Arc<HashMap<String, Task>> {
        Arc::clone(&self.tasks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The tag of one of our claims.
    fn tag(&self, number: i64) -> String {
        tag(&self.handle, number)
    }

    /// How often what is held is renewed: well before a stock worker would give it back.
    fn renewal(&self) -> Duration {
        (self.app.transport.visibility / 3).min(RENEWAL_MAX)
    }
}

#[async_trait]
impl Broker for CeleryBroker {
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
            reader: self.results.as_ref().map(|_| self as &dyn Reader),
            ..Abilities::default()
        }
    }

    fn reader(&self) -> Result<&dyn Reader, NotHere> {
        let instead = "the application's result backend is not Redis; ask it by `AsyncResult(ID)`";
        let found = self.abilities().reader;
        found.ok_or_else(|| self.lacks("record of jobs", instead))
    }

    fn dead_letters(&self) -> Result<&dyn DeadLetters, NotHere> {
        let instead = "Celery keeps none; the error of a task that failed is its result, `pool result ID`";
        Err(self.lacks("dead letters", instead))
    }

    fn control(&self) -> Result<&dyn Control, NotHere> {
        Err(self.lacks("way to cancel jobs", "use `celery -A APP control revoke ID`"))
    }

    fn groups(&self) -> Result<&dyn Groups, NotHere> {
        Err(self.lacks("groups", "use Celery's own: `group(…).apply_async()`"))
    }

    fn chains(&self) -> Result<&dyn Chains, NotHere> {
        Err(self.lacks("chains", "use Celery's own: `chain(…).apply_async()`"))
    }

    fn app_queues(&self) -> Vec<QueueName> {
        let consumed = self
            .app
            .queues
            .iter()
            .filter(|queue| queue.exchange_type != "fanout");
        consumed
            .filter_map(|queue| QueueName::new(&queue.name).ok())
            .collect()
    }

    fn app_reloaded(&self, facts: &str) -> Result<Vec<String>, BrokerError> {
        let mut app = Application::read(facts)?;
        let tasks = std::mem::take(&mut app.tasks);
        self.node.tells(std::mem::take(&mut app.about));
        let changed = self.app.changed(&app);
        // With other results, the tasks of which we store them may be others, too.
        if !changed.contains(&RESULTS) {
            *self.tasks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tasks);
        }
        Ok(changed.into_iter().map(str::to_owned).collect())
    }

    fn presence(self: Arc<Self>, orders: Orders) -> Option<Box<dyn Presence>> {
        let channel = self.app.node.channel.clone()?;
        Some(Box::new(Hearing::begin(self, &channel, orders)))
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.begin().await?;
        let heartbeat = self.options.heartbeat.min(self.renewal());
        Ok(pulled::start(self, heartbeat, events))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        if self.open_still().is_ok() {
            self.leave().await?;
            self.closed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[async_trait]
impl Pull for CeleryBroker {
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
        Ok(self.hand_out_chores(limit))
    }

    fn has_after_work(&self) -> bool {
        self.chores.holds_any()
    }

    fn holds_more(&self) -> bool {
        self.hand().etas.len() > 0 || self.chores.holds_any()
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.open_still()?;
        self.renew().await
    }

    async fn note_begun(&self, claims: Vec<Claim>) -> Result<(), BrokerError> {
        self.open_still()?;
        self.acknowledge_early(&claims).await
    }

    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.open_still()?;
        Ok(self.hear_of_lost(claims).await)
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
