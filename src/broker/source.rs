//! What a supervisor needs of a broker: it says what room it has, jobs come, and it says what became of them.
//!
//! A [`Source`] owns all that it does to that end: how it waits for jobs, the lease, calls that are tried again,
//! housekeeping. It runs beside the loop and answers by [`Event`]s, so none of its verbs waits or fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::BrokerError;
use crate::job::{Begun, Delivery, JobError, PoolName, Progress, QueueName, QueueOrder, Settlement, Token};

/// Feeds the pools of one supervisor. Each verb only leaves a message.
pub trait Source: Send + fmt::Debug {
    /// What a pool wants now; replaces what was said of it before. Without queues the pool is gone. What was asked of the
    /// broker while there was room may come still, although room fell meanwhile.
    fn demand(&mut self, demand: Demand);

    /// These have begun, of deliveries with `tells_begin`; each is told once, before its outcome. An outcome may come
    /// without it.
    fn began(&mut self, begun: Vec<Begun>);

    /// A delivery that has not ended says how far it is. The last word counts, and none is kept that the broker did not take.
    /// Nothing is done about it where the broker has no place for it.
    fn progressed(&mut self, _of: Token, _progress: Progress) {}

    /// What became of deliveries. Kept by the source until the broker has it. Jobs given back in one call stand in their
    /// old order.
    fn settle(&mut self, outcomes: Vec<Settlement>);

    /// Hands over what is left, gives back what is held, gives up the lease. The broker is closed then. Returns how many
    /// outcomes the broker did not take within this time; their jobs run again when the lease runs out.
    fn close(self: Box<Self>, within: Duration) -> BoxFuture<'static, usize>;
}

/// What a pool wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Whose demand it is.
    pub pool: PoolName,
    /// The queues that it serves.
    pub queues: Arc<[QueueName]>,
    /// Which of them comes first: a law for each single job.
    pub order: QueueOrder,
    /// How many more deliveries it has room for, after-work among them, counted from delivery number `seen` on.
    pub credit: u32,
    /// How many of these may be jobs.
    pub jobs: u32,
    /// It runs jobs: what comes without room for it waits for a worker. A pool that is paused, or that stops, runs none, and
    /// what its source holds for it goes back.
    pub runs: bool,
    /// The number of the last delivery to this pool that it had taken in. They are counted from 1.
    pub seen: u64,
    /// It has no workers, or none is free and its policy would look at jobs that wait: it wants to be told once when a job
    /// could run, also without room for it.
    pub wake: bool,
    /// It wants to know for certain when there is nothing left: see [`Event::Empty`].
    pub tell_empty: bool,
}

/// What a source has to say.
#[derive(Debug)]
pub enum Event {
    /// Jobs for a pool, held under our lease.
    Delivered {
        /// Whose demand they meet.
        pool: PoolName,
        /// In the order in which they are to run.
        jobs: Vec<Delivery>,
    },
    /// The broker has so many more outcomes. Those in `late` had no effect.
    Settled {
        /// How many there were, late ones among them.
        count: usize,
        /// Which came too late, and why.
        late: Vec<(Token, Late)>,
    },
    /// Somebody canceled or stopped a job that was delivered. If it has not begun it does not run, and is settled as
    /// [`Verdict::Canceled`](crate::job::Verdict::Canceled).
    Stop {
        /// Which.
        token: Token,
        /// What becomes of it if it has begun.
        how: StopHow,
    },
    /// The channel of a delivery was lost, and the server may hand it to somebody else. If it has not begun it does not
    /// run, and is settled as [`Verdict::GiveBack`](crate::job::Verdict::GiveBack); else it runs on.
    Recall {
        /// Which.
        token: Token,
    },
    /// A job could run for this pool. Said once for each demand with `wake`, and to a pool without room that was told
    /// that it is empty.
    Waiting {
        /// Which pool.
        pool: PoolName,
    },
    /// When so much was delivered and settled the source looked: no queue of the pool has a job that could run, no
    /// after-work waits, and nothing is on its way. True only if both numbers are the supervisor's own.
    Empty {
        /// Which pool.
        pool: PoolName,
        /// The number of the last delivery to it.
        seen: u64,
        /// How many outcomes of all pools were settled.
        settled: u64,
    },
    /// A call failed and is tried again.
    Trouble {
        /// What can't be done: `claim jobs` …
        doing: &'static str,
        /// Why.
        error: Arc<BrokerError>,
    },
    /// Calls of this kind work again.
    Well {
        /// What can be done again.
        doing: &'static str,
    },
    /// The source is at its end and feeds nobody any more: a defect.
    Ended {
        /// What happened.
        why: String,
    },
}

/// What becomes of a job that is stopped and has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    /// It runs on, and its outcome decides.
    IfNotBegun,
    /// Its worker is killed, and it is settled as [`Verdict::Stopped`](crate::job::Verdict::Stopped).
    ForGood,
}

impl StopHow {
    /// Why a job that was stopped so does not run again.
    pub fn error(self) -> JobError {
        match self {
            StopHow::IfNotBegun => JobError::canceled(),
            StopHow::ForGood => JobError::stopped(),
        }
    }
}

/// Why an outcome had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The lease had run out, and the job runs again.
    LeaseLost,
    /// The job is no more: somebody deleted it.
    Gone,
}

/// Where a source's events go: into the one channel of whoever is fed.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// `take` is called with each event, and neither waits nor fails.
    pub fn new(take: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Events(Arc::new(take))
    }

    /// Hands one over.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
