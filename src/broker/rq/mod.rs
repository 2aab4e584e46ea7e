//! RQ's jobs in Redis, in RQ's own schema: producers, dashboards and `rq info` see nothing unusual.
//!
//! The installed `rq` package (3.0) is the specification; each key and rule names its source there. Jobs are
//! taken by a Lua script, in batches. Another ends them, and calls of callbacks are their worker's. A job with
//! repeats, a rate limit or webhooks is *whole*: RQ's own code ends it, in its worker. What only RQ's own code does right
//! and no job asks for (housekeeping, the end of a whole job whose worker died) is handed out as *after-work*.
//!
//! - [`options`]: what it is told; [`keys`]: every key with its source; [`text`]: how RQ writes times and errors;
//! - [`held`]: what is in hand; [`intervals`]: what is due again after a time;
//! - [`claim`], [`row`], [`recover`], [`settle`], [`lease`]: the life of a job; [`ready`]: waiting for one;
//! - [`maintain`]: housekeeping; [`take_over`]: what a dead supervisor held; [`hand_out`]: after-work as jobs;
//! - [`roster`], [`orders`]: workers as others see them, and what others ask of them;
//! - [`schedules`], [`cron`]: jobs that are made again and again; [`scheduler`]: jobs that come due; [`look`]: inspection; [`results`]: waiting for jobs to end;
//! - [`called_off`]: what becomes of jobs between their claim and their begin; [`control`]: canceling and stopping;
//! - [`client`]: what producers and readers ask; [`enqueue`], [`group`], [`first_failure`]: adding jobs; [`data`]: what they carry and return, made of the values of [`python`].
//!
//! The server itself (its address, connections, waking up) is the affair of `broker/redis/`.

mod called_off;
mod claim;
mod client;
mod control;
mod cron;
mod cron_record;
mod data;
mod enqueue;
mod first_failure;
mod group;
mod hand_out;
mod held;
mod intervals;
mod keys;
mod lease;
mod left;
mod look;
mod maintain;
pub mod options;
mod orders;
mod purge;
mod python;
mod ready;
mod recover;
mod results;
mod roster;
mod row;
mod scheduler;
mod schedules;
mod scripts;
mod search;
mod settle;
mod take_over;
mod text;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Notify;

use self::held::{AfterWork, Hand};
use self::intervals::{Beats, Housekeeping};
use self::keys::Keys;
use self::options::Options;
use self::scripts::Scripts;
use super::parts::after_work::AfterWorks;
use super::parts::turns::Turns;
use super::presence::present;
use super::redis::cluster::check_cluster;
use super::redis::connection::Link;
use super::redis::endpoint::Endpoint;
use super::redis::subscription::Subscription;
use super::redis::tracking::Tracker;
use super::redis::unanswered::UnansweredClaims;
use super::redis::version::{check_version, words_max};
use super::redis::wake_up::WakeUps;
use super::source::StopHow;
use super::{
    Abilities, AppSchedule, Broker, BrokerError, Events, Instead, Maintained, Orders, Presence, Pull, Queues,
    Source, check, pulled,
};
use crate::job::{Claim, Claimed, Progress, QueueName, Settlement};

/// Bounds of the time between two heartbeats of our workers.
const ROSTER_INTERVAL_MIN: Duration = Duration::from_secs(1);
const ROSTER_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// The hint for a user of Redis Cluster.
const ONE_SLOT: &str =
    "set `rq.key_prefix`, and RQ_KEY_PREFIX of all producers, to a name with a hash tag, such as `{rq}`";
/// The hint for a user who lacks rights.
const RIGHTS: &str = "this user needs the commands and keys that docs/rq.md lists";

/// One handle on a Redis server that holds RQ's jobs.
#[derive(Debug)]
pub struct RqBroker {
    link: Arc<Link>,
    keys: Keys,
    options: Options,
    serializer: data::Serializer,
    views: look::Views,
    /// Words of a command at the most.
    words_max: usize,
    scripts: Scripts,
    hand: Arc<Mutex<Hand>>,
    /// First half of the ids of our executions; the second is the claim's number.
    execution_prefix: String,
    /// Claims whose answer never came.
    unanswered: UnansweredClaims,
    housekeeping: Housekeeping,
    after_works: AfterWorks<AfterWork>,
    /// A job whose claim came back has run for a moment, or ended.
    returned_began: Notify,
    beats: Beats,
    wake_ups: WakeUps,
    /// Hears of jobs in hand that are called off.
    called_off: tokio::sync::Mutex<Option<Tracker>>,
    roster: roster::Roster,
    orders: Subscription,
    scheduler: scheduler::Scheduler,
    take_over: take_over::TakeOver,
    cron: cron::CronJobs,
    suspended: AtomicBool,
    closed: Arc<AtomicBool>,
}

/// What the template says of the application that it loaded. Source: `python/pool_template/rq/dialect.py`.
#[derive(Deserialize)]
struct Facts {
    /// Of `rq` and of Python.
    versions: [String; 2],
    cron: Option<cron::Told>,
}

impl RqBroker {
    /// Opens a connection and makes sure that the server can do what is needed.
    ///
    /// # Errors
    /// [`BrokerError::Unreachable`] when nobody answers, [`BrokerError::Refused`] when the server is too old or a
    /// certificate can't be read.
    pub async fn open(options: &Options) -> Result<Self, BrokerError> {
        let endpoint = Arc::new(Endpoint::new(&options.redis, RIGHTS)?);
        let link = Arc::new(Link::new(Arc::clone(&endpoint)));
        let keys = Keys::new(options);
        let about = link.begin().await.map_err(|error| endpoint.error(&error))?;
        let words_max = words_max(check_version(&endpoint.shown, &about)?);
        check_cluster(&link, &about, &keys.queues(), ONE_SLOT).await?;
        let serializer = data::Serializer::named(&options.serializer);
        let id = uuid::Uuid::now_v7();
        let execution_prefix = format!("{:016x}", id.as_u64_pair().1);
        Ok(RqBroker {
            wake_ups: WakeUps::new(&link, ready::block(options.worker_ttl)),
            orders: Subscription::new(&link),
            called_off: tokio::sync::Mutex::default(),
            roster: roster::Roster::default(),
            link,
            views: look::Views {
                keys: keys.clone(),
                serializer: serializer.clone(),
            },
            keys,
            serializer,
            options: options.clone(),
            words_max,
            scripts: Scripts::new(),
            hand: Arc::default(),
            execution_prefix,
            unanswered: UnansweredClaims::default(),
            housekeeping: Housekeeping::default(),
            after_works: AfterWorks::default(),
            returned_began: Notify::new(),
            beats: Beats::default(),
            scheduler: scheduler::Scheduler::default(),
            take_over: take_over::TakeOver::default(),
            cron: cron::CronJobs::default(),
            suspended: AtomicBool::new(false),
            closed: Arc::default(),
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

    /// The id of an execution, as RQ writes it: 32 hexadecimal digits.
    fn execution(&self, number: i64) -> String {
        format!("{}{number:016x}", self.execution_prefix)
    }

    /// A name under which one of our workers is registered: for a job that no worker has begun.
    fn any_worker(&self) -> String {
        self.roster.any().unwrap_or_else(|| self.options.names.of(1))
    }
}

#[async_trait]
impl Broker for RqBroker {
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
            instead: Instead {
                chains: "RQ hands no result on; enqueue with `Queue.enqueue(…, depends_on=job)`, and the function reads \
                         `get_current_job().dependency.return_value()`",
                ..Instead::DEFAULT
            },
            schedules: Some(self),
            search: Some(self),
            ..Abilities::of(self)
        }
    }

    fn app_schedules(&self) -> Vec<AppSchedule> {
        self.cron.schedules()
    }

    fn app_reloaded(&self, facts: &str) -> Result<Vec<String>, BrokerError> {
        let corrupt = |reason| BrokerError::Corrupt {
            url: self.url().to_owned(),
            reason,
        };
        let facts: Facts = serde_json::from_str(facts).map_err(|error| {
            corrupt(format!(
                "what the application says of itself can't be read: {error}"
            ))
        })?;
        self.roster.set_versions(facts.versions);
        let replaced = self.cron.replace(facts.cron.unwrap_or_default());
        replaced.map_err(|reason| corrupt(format!("the application's cron jobs can't be read: {reason}")))?;
        Ok(Vec::new())
    }

    fn presence(self: Arc<Self>, orders: Orders) -> Option<Box<dyn Presence>> {
        // Well within the life of a worker's key, and no later than RQ's worker beats while it has a job.
        let every = (self.options.worker_ttl / 3)
            .min(self.options.job_monitoring_interval)
            .clamp(ROSTER_INTERVAL_MIN, ROSTER_INTERVAL_MAX);
        Some(present(self, every, orders))
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.begin().await?;
        let heartbeat = self.options.heartbeat;
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
impl Pull for RqBroker {
    async fn begin(&self) -> Result<(), BrokerError> {
        self.check_suspension().await?;
        self.claim_names().await?;
        Ok(())
    }

    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.open_still()?;
        self.start_scheduler(queues).await?;
        self.hold_lease(queues).await?;
        let found = self.take(queues, turns, limit).await?;
        self.set_suspended(found.suspended).await;
        Ok(found.jobs)
    }

    async fn claim_after_work(
        &self,
        queues: &[QueueName],
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.open_still()?;
        Ok(self.after_work(queues, limit))
    }

    fn has_after_work(&self) -> bool {
        self.after_works.holds_any()
    }

    async fn extend(&self) -> Result<(), BrokerError> {
        self.open_still()?;
        self.renew().await
    }

    async fn note_progress(&self, news: Vec<(Claim, Progress)>) -> Result<(), BrokerError> {
        self.open_still()?;
        let mut call = self.scripts.progress.prepare_invoke();
        call.arg(self.keys.names()).arg(look::PROGRESS);
        for (claim, progress) in news {
            let json = serde_json::to_string(&progress).expect("a number and a text are always JSON");
            call.arg(claim.job.as_str()).arg(json);
        }
        self.link.run_script(&call).await
    }

    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.open_still()?;
        self.hear_of_called_off(claims).await
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
        // RQ's own housekeeping runs as after-work, in a worker.
        Ok(Maintained::default())
    }
}
