//! What others see of our workers, and what they ask of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use super::BrokerError;
use crate::job::{JobId, PoolName, QueueName, Token};
use crate::time::Unix;

/// Wait before workers are shown again after that failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Our workers as others see them. To be dropped before the broker is closed.
pub trait Presence: Send + std::fmt::Debug {
    /// How often it is to be told although nothing changed; `None`: it is not to be told at all.
    fn every(&self) -> Option<Duration>;

    /// From now on there are these workers and no others, and this is what they do. Never waits: a newer roster takes
    /// the place of one that was not sent yet, and after a failure the newest is sent.
    fn show(&mut self, workers: Vec<WorkerView>);
}

/// Who hears what is asked.
pub type Orders = Box<dyn FnMut(Order) + Send>;

/// A worker as a broker shows it to others; see [`Presence`].
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
    /// Which delivery it is.
    pub token: Token,
    /// The job.
    pub job: JobId,
    /// When it began.
    pub started: Unix,
}

/// What somebody asks through the broker.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub ask: Ask,
    /// Where the answer goes, for people to read, if the protocol has one: what is done, or why not.
    pub reply: Option<oneshot::Sender<Result<Told, String>>>,
}

/// What somebody is told who asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// What was done, for people to read.
    Done(String),
    /// How things are.
    Seen(Picture),
}

/// Workers and pools at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// All that are ready.
    pub workers: Vec<WorkerView>,
    /// Their pools.
    pub pools: Vec<PoolView>,
    /// When the supervisor began.
    pub started: Unix,
}

/// A pool as those see it who ask through the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Its name.
    pub pool: PoolName,
    /// The queues that it serves.
    pub queues: Vec<QueueName>,
    /// Fewest workers.
    pub min: u32,
    /// Most workers.
    pub max: u32,
    /// Jobs after which a worker is replaced.
    pub jobs_max: Option<u32>,
}

/// What can be asked of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Stop a job that runs, for good.
    StopJob(JobId),
    /// Send this signal to the worker that runs a job, which knows what to do about it.
    SignalJob(JobId, Signal),
    /// A job that has not begun does not run.
    CancelJob(JobId),
    /// Let a worker finish its job, then replace it.
    ReplaceWorker(u64),
    /// Kill a worker with its job.
    KillWorker(u64),
    /// Say how things are.
    Look,
    /// Other limits for a pool; `None`: as they are.
    Scale {
        /// Which.
        pool: PoolName,
        /// Fewest workers.
        min: Option<u32>,
        /// Most workers.
        max: Option<u32>,
    },
    /// A pool serves one queue more.
    AddQueue {
        /// Which pool.
        pool: PoolName,
        /// The queue; behind those that it serves.
        queue: QueueName,
    },
    /// A pool serves this queue no more. What it has taken of it runs.
    DropQueue {
        /// Which pool.
        pool: PoolName,
        /// The queue.
        queue: QueueName,
    },
    /// Load the application anew, as a reload does.
    Reload,
    /// Let running jobs finish, then leave.
    Leave,
}

/// How a broker shows workers and hears orders.
#[async_trait]
pub(super) trait Show: Send + Sync + 'static {
    /// Shows these workers and no others.
    async fn show(&self, workers: Vec<WorkerView>) -> Result<(), BrokerError>;

    /// The next thing that somebody asks.
    async fn next_order(&self) -> Order;
}

/// Shows workers by `broker`, and calls `orders` with what is asked through it.
pub(super) fn present<S: Show>(broker: Arc<S>, every: Duration, mut orders: Orders) -> Box<dyn Presence> {
    let (newest, shown) = watch::channel(Vec::new());
    tokio::spawn(show_newest(Arc::clone(&broker), shown));
    let hearing = tokio::spawn(async move {
        loop {
            orders(broker.next_order().await);
        }
    });
    Box::new(Presented {
        every,
        newest,
        hearing: hearing.abort_handle(),
    })
}

#[derive(Debug)]
struct Presented {
    every: Duration,
    newest: watch::Sender<Vec<WorkerView>>,
    hearing: AbortHandle,
}

impl Presence for Presented {
    fn every(&self) -> Option<Duration> {
        Some(self.every)
    }

    fn show(&mut self, workers: Vec<WorkerView>) {
        self.newest.send_replace(workers);
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

/// Shows each roster that comes, or the newest of several; ends with the sender.
async fn show_newest(broker: Arc<impl Show>, mut newest: watch::Receiver<Vec<WorkerView>>) {
    while newest.changed().await.is_ok() {
        let workers = newest.borrow_and_update().clone();
        if let Err(error) = broker.show(workers).await {
            tracing::debug!(%error, "our workers can't be shown now");
            tokio::time::sleep(PATIENCE).await;
            newest.mark_changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::Notify;

    use super::*;

    /// Shows slowly: each time that it is let go on.
    #[derive(Debug, Default)]
    struct Slow {
        shown: Mutex<Vec<usize>>,
        begun: Notify,
        goes_on: Notify,
    }

    #[async_trait]
    impl Show for Slow {
        async fn show(&self, workers: Vec<WorkerView>) -> Result<(), BrokerError> {
            self.shown.lock().unwrap().push(workers.len());
            self.begun.notify_one();
            self.goes_on.notified().await;
            if self.shown.lock().unwrap().len() == 1 {
                return Err(BrokerError::Refused("not the first".into()));
            }
            Ok(())
        }

        async fn next_order(&self) -> Order {
            std::future::pending().await
        }
    }

    fn workers(count: u16) -> Vec<WorkerView> {
        let worker = |ordinal| WorkerView {
            worker: u64::from(ordinal),
            ordinal,
            pid: 1,
            pool: PoolName::new("default").unwrap(),
            queues: Vec::new(),
            job: None,
            paused: false,
            leaving: false,
            asked: false,
            born: Unix(0),
        };
        (1..=count).map(worker).collect()
    }

    #[tokio::test]
    async fn the_newest_roster_takes_the_place_of_those_that_wait_or_failed() {
        let broker = Arc::new(Slow::default());
        let every = Duration::from_secs(9);
        let mut presence = present(Arc::clone(&broker), every, Box::new(|_| {}));
        presence.show(workers(1));
        broker.begun.notified().await;
        presence.show(workers(2));
        presence.show(workers(3));
        broker.goes_on.notify_one(); // the first fails
        broker.begun.notified().await;
        broker.goes_on.notify_one();
        presence.show(workers(4));
        broker.begun.notified().await;
        broker.goes_on.notify_one();
        assert_eq!(*broker.shown.lock().unwrap(), [1, 3, 4]);
    }
}
