//! Where jobs wait: one trait, its implementations side by side.
//!
//! Only the supervisor and the command line speak to a broker; a worker never does for a plain
//! job. All pass the same suite, `tests/contract/broker.rs`, in which `rq.rs` says what RQ's schema has otherwise; RQ's is
//! held to RQ's rules besides, by `tests/rq`.

mod check;
mod error;
pub mod flow;
pub mod memory;
mod redis;
pub mod rq;
pub mod sqlite;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::{BrokerConfig, BrokerUrl};
use crate::job::{Claim, Claimed, GroupId, JobId, JobView, NewJob, PoolName, QueueName, Settlement};
use crate::time::Unix;

pub use error::{BrokerError, NotHere};
pub use flow::{GroupView, NewGroup};
pub use wait::{Awaited, Ended, wait_all};

/// Opens the broker that the settings name.
///
/// A handle takes a lease with its first claim, so that a producer or a reader holds none.
/// `memory:` is an empty store of its own each time.
/// Errors: [`BrokerError::Unreachable`] or [`BrokerError::Corrupt`], in words for the user.
pub async fn open(config: &BrokerConfig) -> Result<Arc<dyn Broker>, BrokerError> {
    Ok(match &config.url {
        BrokerUrl::Memory => Arc::new(memory::MemoryBroker::new(config)),
        BrokerUrl::Sqlite(path) => Arc::new(sqlite::SqliteBroker::open(path, config).await?),
        BrokerUrl::Redis(url) => Arc::new(Box::pin(rq::RqBroker::open(url, config)).await?),
    })
}

/// What became of one [`NewJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, or is scheduled, under this id.
    New(JobId),
    /// Its unique key is held by this job, which has not ended; nothing was enqueued.
    Duplicate(JobId),
}

impl Enqueued {
    /// The job that stands for the request now.
    pub fn id(&self) -> &JobId {
        match self {
            Enqueued::New(id) | Enqueued::Duplicate(id) => id,
        }
    }
}

/// What stands in some queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Jobs that could run now.
    pub waiting: u64,
    /// Jobs that are due later.
    pub scheduled: u64,
    /// When the oldest waiting job became ready; `None` when nothing waits.
    pub oldest: Option<Unix>,
}

impl Backlog {
    /// How long the oldest waiting job has waited at `now`; zero when nothing waits.
    pub fn oldest_age(&self, now: Unix) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }
}

/// What [`Broker::maintain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Jobs taken back from supervisors whose lease ran out.
    pub recovered: u64,
    /// Finished jobs deleted because their time to live ended.
    pub expired: u64,
}

/// Which dead letters to show.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only those that ended no later than this, so that a walk through all of them comes to an end.
    pub ended_by: Option<Unix>,
    /// At most so many, the newest first.
    pub limit: usize,
}

/// A worker as a broker shows it to others; see [`Broker::roster`].
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Its number, unique in the supervisor's life.
    pub worker: u64,
    /// The smallest number from 1 that was free when it began to serve: a name that stays while processes change.
    pub ordinal: u16,
    /// Its process id.
    pub pid: i32,
    /// The pool that it works for.
    pub pool: PoolName,
    /// The queues that it serves.
    pub queues: Vec<QueueName>,
    /// It runs a job; else it is idle.
    pub job: Option<RunningJob>,
    /// Its pool was paused.
    pub paused: bool,
    /// It takes no more jobs: its ordinal is, or will be, another's.
    pub leaving: bool,
    /// Somebody asked it to leave, or all of us, and it finishes its job.
    pub asked: bool,
    /// When it became ready.
    pub born: Unix,
}

/// A job that runs, and since when.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningJob {
    /// The execution.
    pub claim: Claim,
    /// When it began.
    pub started: Unix,
}

/// What somebody asks of running jobs and workers through the broker; see [`Broker::order`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop a job that runs, for good.
    StopJob(JobId),
    /// Let a worker finish its job, then replace it.
    ReplaceWorker(u64),
    /// Kill a worker with its job.
    KillWorker(u64),
}

/// A store of jobs. Cheap to share; all methods may be called concurrently.
///
/// A claim is held under the lease of the handle that made it: one lease for all its claims, which
/// [`Broker::extend`], and each claim that takes something, renews. When the lease runs out (its supervisor died), any other handle's
/// [`Broker::maintain`] or [`Broker::claim`] gives those jobs back to the front of their queues.
#[async_trait]
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Its URL without secrets, for messages.
    fn url(&self) -> &str;

    /// Called once, before the app is loaded. An error ends the supervisor: a name that is taken, a wrong password.
    async fn begin(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Adds jobs, all or none; one answer a job, in order.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError>;

    /// Takes up to `limit` ready jobs, the queues in strict order, the oldest of a queue first.
    /// Scheduled jobs that are due count as ready. Returns fewer, or none, when there are no more.
    async fn claim(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Claimed>, BrokerError>;

    /// Renews the lease of every claim that this handle holds. To be called each third of the lease
    /// while anything is claimed.
    async fn extend(&self) -> Result<(), BrokerError>;

    /// Carries out verdicts, in order, in one transaction. Returns for each whether it took effect:
    /// `false` when the claim is no longer held by this handle (lease lost, job deleted), which is no error.
    /// A job requeued at the front returns to the place that it was claimed from: ahead of what waits, and
    /// jobs given back in any order stand in the order in which they were claimed.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, BrokerError>;

    /// What waits in these queues; cheap at any depth.
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError>;

    /// Returns when a claim on these queues may find something: at once if it would now, else when
    /// a producer enqueues, a scheduled job comes due or another handle's lease runs out. Never polls;
    /// may return without cause. Dropping the future is safe; keeping it is cheaper than asking anew.
    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError>;

    /// Housekeeping: takes back jobs whose lease ran out, deletes results past their time to live.
    /// Bounded work a call.
    async fn maintain(&self) -> Result<Maintained, BrokerError>;

    /// Looks jobs up; `None` for an id that is unknown or has expired.
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError>;

    /// Waits until at least one of these jobs has ended (or is unknown) and returns all that have,
    /// as in [`Broker::find`], with their position in `ids`. Never polls.
    async fn wait_any(&self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError>;

    /// Adds a group of jobs and its callbacks, all or nothing. Jobs are counted in the transaction that settles them,
    /// and the one that ends the last of them puts the callback into its queue: once, whatever dies.
    ///
    /// A dead letter counts as ended. One that is retried counts no more until it ends again, unless
    /// its group has ended by then: that counts no more and calls nobody again. Results of members are kept
    /// at least until the group has ended, and for the broker's time to live from then on.
    async fn enqueue_group(&self, _group: NewGroup) -> Result<(), BrokerError> {
        Err(flow::not_here(self.url()).into())
    }

    /// Adds jobs that run one after the other, each with the result of the one before it (see [`flow`]). When one
    /// fails for good, those after it become dead letters, and live again when it is retried.
    async fn enqueue_chain(&self, _jobs: Vec<NewJob>) -> Result<(), BrokerError> {
        Err(flow::not_here(self.url()).into())
    }

    /// How far a group is; `None` when it is unknown or has expired.
    async fn group(&self, _id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        Err(flow::not_here(self.url()).into())
    }

    /// The members of a group in their order, without those that left no result; none when it is unknown.
    async fn group_jobs(&self, _id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        Err(flow::not_here(self.url()).into())
    }

    /// Waits until more than `beyond` members of a group have ended, or all, and returns how far it is then; `None`
    /// when it is unknown. Never polls.
    async fn wait_group(&self, _id: &GroupId, _beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        Err(flow::not_here(self.url()).into())
    }

    /// Dead letters, the newest first.
    async fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError>;

    /// Puts dead letters back into their queues, failures and losses forgotten. Returns those found;
    /// one whose unique key another job has by now stays where it is, and so does one that never ran since a job
    /// earlier in its chain failed: it comes back with that one.
    async fn retry_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;

    /// Deletes dead letters. Returns those found.
    async fn delete_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;

    /// Names of the queues that hold or held jobs, sorted.
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError>;

    /// How often [`Broker::roster`] wants to be told although nothing changed; `None`: this broker shows no workers
    /// and is not told at all.
    fn roster_interval(&self) -> Option<Duration> {
        None
    }

    /// Tells which workers there are and what they do, so that the broker can show it to others. Called when workers
    /// come and go, when one runs the same job for longer than a moment, and each [`Broker::roster_interval`].
    async fn roster(&self, _workers: Vec<WorkerView>) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Returns when somebody asks something of a running job or a worker through the broker. Never, by default.
    async fn order(&self) -> Result<Order, BrokerError> {
        std::future::pending().await
    }

    /// Gives up the lease (claims still held go back to the front of their queues) and closes.
    async fn close(&self) -> Result<(), BrokerError>;
}
