//! Brokers that show workers to others are told about them, and pass on what others ask of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::input::Input;
use crate::broker::{Ask, Broker, Presence, WorkerView};
use crate::fleet::{Command, Fleet, Now, Revision};
use crate::time::Mono;

/// The broker is told of changes so often at most, so that telling of jobs never costs more than running them: one that
/// is shorter than this may not be shown.
const MOMENT: Duration = Duration::from_millis(100);
/// What the broker knows of our workers.
#[derive(Debug)]
pub(super) struct Roster {
    /// `None`: this broker shows no workers.
    presence: Option<Box<dyn Presence>>,
    told: Vec<WorkerView>,
    next: Option<Mono>,
    /// [`Fleet::revision`] when it was looked last, and when that was.
    seen: Revision,
    looked: Mono,
    /// When a job that began was told out of turn.
    hurried: Option<Mono>,
    /// When it is told even if nothing changed.
    next_full: Option<Mono>,
}

impl Roster {
    pub fn new(broker: Option<Arc<dyn Broker>>, inputs: UnboundedSender<Input>) -> Self {
        let orders = move |order| drop(inputs.send(Input::Ordered(order)));
        Roster {
            presence: broker.and_then(|broker| broker.presence(Box::new(orders))),
            told: Vec::new(),
            next: None,
            seen: Revision::default(),
            looked: Mono(0),
            hurried: None,
            next_full: None,
        }
    }

    /// When the broker is to be told next.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.next
    }

    /// Tells the broker what changed, if something did, or if it is time.
    pub fn tell(&mut self, fleet: &Fleet, now: Now) {
        let Some((presence, every)) = self.presence.as_mut().and_then(|presence| {
            let every = presence.every()?;
            Some((presence, every))
        }) else {
            return;
        };
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
            let job = |of: &WorkerView| of.job.as_ref().map(|job| job.token);
            state(a) == state(b) && job(a) == job(b)
        };
        let changed = workers.len() != self.told.len()
            || workers.iter().zip(&self.told).any(|(now, told)| !same(now, told));
        if changed || self.next_full.is_some_and(|at| at <= now.mono) {
            self.told.clone_from(&workers);
            self.next_full = Some(now.mono + every);
            presence.show(workers);
        }
        self.next = Some(*self.next_full.get_or_insert(now.mono + every));
    }

    /// Shows nobody from now on: the broker is about to be closed.
    pub fn leave(&mut self) {
        self.presence = None;
    }
}

/// What somebody asks, as a command for the fleet.
pub(super) fn command(ask: Ask) -> Command {
    match ask {
        Ask::StopJob(job) => Command::StopJob { job },
        Ask::ReplaceWorker(worker) => Command::ReplaceWorker { worker },
        Ask::KillWorker(worker) => Command::KillWorker { worker },
    }
}
