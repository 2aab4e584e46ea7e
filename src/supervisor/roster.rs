//! Brokers that show workers to others are told about them, and pass on what others ask of them.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc::UnboundedSender;

use super::Supervisor;
use super::input::Input;
use crate::broker::{Ask, Broker, Order, Picture, PoolView, Presence, Told, WorkerView};
use crate::fleet::{Command, Fleet, Now, Revision};
use crate::job::{JobId, PoolName};
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

impl Supervisor {
    /// Somebody asks for something through the broker.
    pub(super) fn ordered(&mut self, Order { ask, reply }: Order, now: Now) {
        let command = match ask {
            Ask::Look => Err(Told::Seen(self.picture(now))),
            Ask::Leave => {
                self.stop(Command::Drain { patient: false }, now);
                Err(Told::Done("draining".to_owned()))
            }
            Ask::SignalJob(job, signal) => match self.signal_job(&job, signal, now) {
                true => Err(Told::Done(format!("sent {signal} to the worker of job {job}"))),
                false => Err(Told::Done(format!("job {job} does not run here"))),
            },
            Ask::StopJob(job) => Ok(Command::StopJob { job }),
            Ask::CancelJob(job) => Ok(Command::CancelJob { job }),
            Ask::ReplaceWorker(worker) => Ok(Command::ReplaceWorker { worker }),
            Ask::KillWorker(worker) => Ok(Command::KillWorker { worker }),
            Ask::Scale { pool, min, max } => Ok(Command::Scale { pool, min, max }),
            Ask::AddQueue { pool, queue } => Ok(Command::AddQueue { pool, queue }),
            Ask::DropQueue { pool, queue } => Ok(Command::DropQueue { pool, queue }),
            Ask::Reload => {
                self.reload(None, now);
                Err(Told::Done("reloading".to_owned()))
            }
        };
        let answer = match command {
            Err(told) => Ok(told),
            Ok(command) => {
                let answer = self.fleet.command(command, now, &mut self.actions);
                let (Ok(message) | Err(message)) = &answer;
                tracing::info!("asked through the broker: {message}");
                answer.map(Told::Done)
            }
        };
        if let Some(reply) = reply {
            let _ = reply.send(answer); // who asked may be gone
        }
    }

    /// Signals the worker that runs a job, if one does.
    fn signal_job(&mut self, job: &JobId, signal: Signal, now: Now) -> bool {
        let workers = self.fleet.roster(now).into_iter();
        let runs = |worker: &WorkerView| worker.job.as_ref().is_some_and(|running| running.job == *job);
        let Some(worker) = workers.into_iter().find(runs) else {
            return false;
        };
        self.processes.signal(worker.worker, signal);
        tracing::info!("asked through the broker: sent {signal} to the worker of job {job}");
        true
    }

    fn picture(&self, now: Now) -> Picture {
        let snapshot = self.fleet.snapshot(now);
        let pool = |name: PoolName| {
            let config = self.fleet.pool_config(&name)?;
            let shown = snapshot.pools.get(name.as_str())?;
            Some(PoolView {
                queues: config.queues.clone(),
                jobs_max: config.max_jobs,
                min: shown.min,
                max: shown.max,
                pool: name,
            })
        };
        Picture {
            workers: self.fleet.roster(now),
            pools: self.fleet.pool_names().into_iter().filter_map(pool).collect(),
            started: self.started,
        }
    }
}
