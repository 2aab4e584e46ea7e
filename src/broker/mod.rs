//! Where jobs wait: one trait, its implementations side by side.
//!
//! Only the supervisor and the command line speak to a broker; a worker never does for a plain
//! job. All pass the same suite, `tests/contract/broker.rs`. A guest's schema says there what it has otherwise, and is held to
//! its own program's rules besides.

mod abilities;
pub mod amqp;
pub mod celery;
mod check;
mod control;
mod dead;
mod error;
pub mod filter;
pub mod flow;
pub mod groups;
pub mod memory;
pub mod parts;
mod presence;
mod produce;
mod pull;
pub mod pulled;
mod purge;
mod queues;
mod read;
pub mod redis;
pub mod rq;
mod schedules;
pub mod search;
pub mod source;
pub mod sqlite;
mod wait;

use std::sync::Arc;

use async_trait::async_trait;

pub use abilities::{Abilities, Instead};
pub use control::{Canceled, Control};
pub use dead::{DeadFilter, DeadLetters};
pub use error::{BrokerError, NotHere};
pub use filter::{ArgumentIs, JobFilter, StateName};
pub use groups::{Chains, GroupView, Groups, NewGroup};
pub use presence::{Ask, Order, Orders, Picture, PoolView, Presence, RunningJob, Told, WorkerView};
pub use produce::{Enqueued, Producer};
pub use pull::Pull;
pub use purge::Purge;
pub use queues::{Backlog, Queues};
pub use read::{Reader, wait_all};
pub use schedules::{AppDue, AppSchedule, Fired, Firing, Make, Overlap, Ruled, ScheduleView, Schedules};
pub use search::{Budget, Cursor, IdsFound, Page, Search, Searched, Unseen};
pub use source::{Events, Source};
pub use wait::{Ended, Watch};

use crate::job::QueueName;

/// Which broker, and what it is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Options {
    /// Jobs in the memory of this process.
    Memory(memory::Options),
    /// Jobs in a file.
    Sqlite(sqlite::Options),
    /// RQ's jobs in Redis.
    Rq(Box<rq::options::Options>),
    /// Celery's tasks, at the broker that the application names.
    Celery(Box<celery::options::Options>),
}

impl Options {
    /// How often a supervisor that starts tries a server again that is away; `None`: until it is there.
    pub fn retries_at_start(&self) -> Option<u32> {
        match self {
            Options::Celery(options) => celery::retries_at_start(options),
            Options::Memory(_) | Options::Sqlite(_) | Options::Rq(_) => Some(0),
        }
    }
}

/// Opens a broker.
///
/// A handle takes a lease with its first claim, so that a producer or a reader holds none.
/// `memory:` is an empty store of its own each time.
/// Errors: [`BrokerError::Unreachable`] or [`BrokerError::Corrupt`], in words for the user.
pub async fn open(options: &Options) -> Result<Arc<dyn Broker>, BrokerError> {
    Ok(match options {
        Options::Celery(options) => Box::pin(celery::open(options)).await?,
        asked => open_pulled(asked).await?,
    })
}

/// The same, for who takes jobs by asking for them, where the broker can be asked.
pub async fn open_pulled(options: &Options) -> Result<Arc<dyn Pull>, BrokerError> {
    Ok(match options {
        Options::Memory(options) => Arc::new(memory::MemoryBroker::new(options)),
        Options::Sqlite(options) => Arc::new(sqlite::SqliteBroker::open(options).await?),
        Options::Rq(options) => Arc::new(Box::pin(rq::RqBroker::open(options)).await?),
        Options::Celery(options) => Arc::new(Box::pin(celery::open_pulled(options)).await?),
    })
}

/// What [`Pull::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Jobs taken back from supervisors whose lease ran out.
    pub recovered: u64,
    /// Finished jobs and dead letters deleted because their time to live ended.
    pub expired: u64,
}

/// One handle on a store of jobs: what can be done with it. Cheap to share; all methods may be called concurrently.
#[async_trait]
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Its URL without secrets, for messages.
    fn url(&self) -> &str;

    /// What stands in queues.
    fn queues(&self) -> &dyn Queues;

    /// Whether this user may do all that a pool needs there, for `pool check`: each command and key that is refused is named.
    async fn check_rights(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// What this broker can do. Callers ask for one of it by the methods below.
    fn abilities(&self) -> Abilities<'_> {
        Abilities::default()
    }

    /// Adds jobs.
    fn producer(&self) -> Result<&dyn Producer, NotHere> {
        let Abilities {
            producer, instead, ..
        } = self.abilities();
        producer.ok_or_else(|| self.lacks("way to enqueue jobs", instead.producer))
    }

    /// Looks jobs up and waits for them.
    fn reader(&self) -> Result<&dyn Reader, NotHere> {
        let Abilities { reader, instead, .. } = self.abilities();
        reader.ok_or_else(|| self.lacks("record of jobs", instead.reader))
    }

    /// Looks through jobs.
    fn search(&self) -> Result<&dyn Search, NotHere> {
        let Abilities { search, instead, .. } = self.abilities();
        search.ok_or_else(|| self.lacks("way to look through jobs", instead.search))
    }

    /// Jobs that failed for good.
    fn dead_letters(&self) -> Result<&dyn DeadLetters, NotHere> {
        let abilities = self.abilities();
        let found = abilities.dead_letters;
        found.ok_or_else(|| self.lacks("dead letters", abilities.instead.dead_letters))
    }

    /// Cancels and stops jobs.
    fn control(&self) -> Result<&dyn Control, NotHere> {
        let Abilities { control, instead, .. } = self.abilities();
        control.ok_or_else(|| self.lacks("way to cancel jobs", instead.control))
    }

    /// Deletes what waits.
    fn purge(&self) -> Result<&dyn Purge, NotHere> {
        let Abilities { purge, instead, .. } = self.abilities();
        purge.ok_or_else(|| self.lacks("way to purge queues", instead.purge))
    }

    /// Jobs that are counted together.
    fn groups(&self) -> Result<&dyn Groups, NotHere> {
        let Abilities { groups, instead, .. } = self.abilities();
        groups.ok_or_else(|| self.lacks("groups", instead.groups))
    }

    /// Jobs that run one after the other.
    fn chains(&self) -> Result<&dyn Chains, NotHere> {
        let Abilities { chains, instead, .. } = self.abilities();
        chains.ok_or_else(|| self.lacks("chains", instead.chains))
    }

    /// Schedules that make jobs.
    fn schedules(&self) -> Result<&dyn Schedules, NotHere> {
        let Abilities {
            schedules, instead, ..
        } = self.abilities();
        schedules.ok_or_else(|| self.lacks("schedules", instead.schedules))
    }

    /// That this broker has no such ability, and what has. `ability`: in the plural, as in `chains`.
    fn lacks(&self, ability: &'static str, instead: &'static str) -> NotHere {
        NotHere {
            ability,
            broker: self.url().to_owned(),
            instead,
        }
    }

    /// Shows our workers to others; `None`: this broker shows none, and nobody asks anything through it. `orders` is
    /// called with what somebody asks.
    fn presence(self: Arc<Self>, _orders: Orders) -> Option<Box<dyn Presence>> {
        None
    }

    /// Queues that the loaded application names, in its order: a pool serves them that names none itself.
    fn app_queues(&self) -> Vec<QueueName> {
        Vec::new()
    }

    /// Schedules that the loaded application names: a supervisor fires them beside those of its settings.
    fn app_schedules(&self) -> Vec<AppSchedule> {
        Vec::new()
    }

    /// The queue of a job of this task, where its producer names none; `None`: `default`.
    fn queue_of(&self, _task: &str) -> Option<QueueName> {
        None
    }

    /// The application was loaded anew, and says this about its broker. What can hold at once is put in force; returns
    /// what only a restart puts in force, in words such as "the queues". An error keeps the former application.
    fn app_reloaded(&self, _facts: &str) -> Result<Vec<String>, BrokerError> {
        Ok(Vec::new())
    }

    /// Begins to feed a supervisor: before its app is loaded, or after that where the app names the broker. An error ends the supervisor: a name that is taken, a
    /// wrong password.
    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError>;

    /// Gives up the lease (claims still held go back to the front of their queues) and closes.
    async fn close(&self) -> Result<(), BrokerError>;
}
