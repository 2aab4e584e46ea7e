//! Brokers that show workers to others are told about them, and pass on what others ask of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::input::Input;
use crate::broker::{Broker, BrokerError, Order, WorkerView};
use crate::fleet::{Command, Fleet, Now, Revision};
use crate::time::Mono;

/// The broker is told of changes so often at most, so that telling of jobs never costs more than running them: one that
/// is shorter than this may not be shown.
const MOMENT: Duration = Duration::from_millis(100);
/// Wait before the broker is asked for orders, or told of workers, again after it failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the broker knows of our workers.
#[derive(Debug)]
pub(super) struct Roster {
    broker: Arc<dyn Broker>,
    inputs: UnboundedSender<Input>,
    /// `None`: this broker shows no workers.
    interval: Option<Duration>,
    told: Vec<WorkerView>,
    /// A message is on its way.
    telling: bool,
    next: Option<Mono>,
    /// [`Fleet::revision`] when it was looked last, and when that was.
    seen: Revision,
    looked: Mono,
    /// When a job that began was told out of turn.
    hurried: Option<Mono>,
    /// When it is told even if nothing changed.
    next_full: Option<Mono>,
    /// It could not be told, and is told again no sooner.
    again: Option<Mono>,
}

impl Roster {
    pub fn new(broker: Arc<dyn Broker>, inputs: UnboundedSender<Input>) -> Self {
        let interval = broker.roster_interval();
        let roster = Roster {
            broker,
            inputs,
            interval,
            told: Vec::new(),
            telling: false,
            next: None,
            seen: Revision::default(),
            looked: Mono(0),
            hurried: None,
            next_full: None,
            again: None,
        };
        if interval.is_some() {
            roster.listen(Duration::ZERO);
        }
        roster
    }

    /// Waits for the next order.
    fn listen(&self, wait: Duration) {
        let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = inputs.send(Input::Ordered(broker.order().await));
        });
    }

    /// When the broker is to be told next.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.next.filter(|_| !self.telling)
    }

    /// Tells the broker what changed, if something did, or if it is time.
    pub fn tell(&mut self, fleet: &Fleet, now: Now) {
        let Some(interval) = self.interval else { return };
        if self.telling {
            return;
        }
        if let Some(at) = self.again.filter(|at| now.mono < *at) {
            self.next = Some(at);
            return;
        }
        self.again = None;
        // Looking costs, and turns are many: once a moment is enough, but for those who come and go, and for the first
        // job after a while, which may be a long one.
        let revision = fleet.revision();
        let late = now.mono >= self.looked + MOMENT;
        if revision.workers == self.seen.workers && !late {
            if revision.jobs == self.seen.jobs || self.hurried.is_some_and(|at| now.mono < at + MOMENT) {
                self.next = Some(self.looked + MOMENT);
                return;
            }
            self.hurried = Some(now.mono);
        }
        (self.seen, self.looked) = (revision, now.mono);
        let workers = fleet.roster(now);
        let same = |a: &WorkerView, b: &WorkerView| {
            let state = |of: &WorkerView| (of.worker, of.paused, of.leaving, of.asked);
            let job = |of: &WorkerView| of.job.as_ref().map(|job| job.claim.clone());
            state(a) == state(b) && job(a) == job(b)
        };
        let changed = workers.len() != self.told.len()
            || workers.iter().zip(&self.told).any(|(now, told)| !same(now, told));
        if changed || self.next_full.is_some_and(|at| at <= now.mono) {
            self.told.clone_from(&workers);
            self.telling = true;
            self.next_full = Some(now.mono + interval);
            let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
            tokio::spawn(async move {
                let _ = inputs.send(Input::Listed(broker.roster(workers).await));
            });
        }
        self.next = Some(*self.next_full.get_or_insert(now.mono + interval));
    }

    /// The broker was told. After a failure it is told again in time.
    pub fn told(&mut self, result: Result<(), BrokerError>, now: Mono) {
        self.telling = false;
        if let Err(error) = result {
            tracing::debug!(%error, "the broker does not know our workers now");
            self.told.clear();
            self.again = Some(now + PATIENCE);
        }
    }

    /// What somebody asks, as a command for the fleet.
    pub fn ordered(&self, order: Result<Order, BrokerError>) -> Option<Command> {
        match order {
            Ok(order) => {
                self.listen(Duration::ZERO);
                Some(match order {
                    Order::StopJob(job) => Command::StopJob { job },
                    Order::ReplaceWorker(worker) => Command::ReplaceWorker { worker },
                    Order::KillWorker(worker) => Command::KillWorker { worker },
                })
            }
            Err(error) => {
                tracing::debug!(%error, "orders can't be heard now");
                self.listen(PATIENCE);
                None
            }
        }
    }
}
