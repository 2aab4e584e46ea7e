//! A worker's life as a table: state × event → state, every pair decided.

use std::collections::VecDeque;
use std::time::Duration;

use crate::job::PoolName;
use crate::policy::prefetch;
use crate::policy::recycle;
use crate::time::Mono;

use crate::fleet::death::KillReason;

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for; not ready yet.
    Starting,
    /// Ready, holds nothing.
    Idle,
    /// Holds at least one job; the first of them runs.
    Busy,
    /// Told to leave.
    Retiring,
    /// Sent SIGKILL.
    Dying,
    /// Reaped.
    Gone,
}

/// What happens to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It says that it takes jobs.
    Ready,
    /// A job was sent to it.
    Assigned,
    /// It says that its job ended, and holds others.
    Finished,
    /// It says that its job ended, and holds none.
    FinishedLast,
    /// Unread jobs were taken back, and it holds others.
    TakenBack,
    /// Unread jobs were taken back, and it holds none.
    TakenBackLast,
    /// We tell it to leave.
    Retire,
    /// We kill it.
    Kill,
    /// It is dead and its socket is empty.
    Exited,
}

/// Why a step can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker spoke out of turn: it is to be killed; a job that it holds settles when it exits.
    Theirs,
    /// The supervisor did: a defect of ours, reported loudly.
    Ours,
}

/// The whole life of a worker.
pub fn step(state: State, step: Step) -> Result<State, Fault> {
    use State::{Busy, Dying, Gone, Idle, Retiring, Starting};
    use Step::{Assigned, Exited, Finished, FinishedLast, Kill, Ready, Retire, TakenBack, TakenBackLast};
    match (state, step) {
        (Starting, Ready) => Ok(Idle),
        (Idle | Busy, Assigned) => Ok(Busy),
        (Busy, Finished | TakenBack) => Ok(Busy),
        (Busy, FinishedLast | TakenBackLast) => Ok(Idle),
        (Starting | Idle | Retiring, Retire) => Ok(Retiring),
        // It was told to leave while its `Ready` was on the way.
        (Retiring, Ready) => Ok(Retiring),
        (Starting | Idle | Busy | Retiring | Dying, Kill) => Ok(Dying),
        (Starting | Idle | Busy | Retiring | Dying, Exited) => Ok(Gone),
        // Its last words, said before the signal arrived, still count.
        (Dying, Ready | Finished | FinishedLast | TakenBack | TakenBackLast | Retire) => Ok(Dying),
        (Starting | Idle | Retiring, Finished | FinishedLast) => Err(Fault::Theirs),
        (Idle | Busy, Ready) => Err(Fault::Theirs),
        (Starting | Idle | Retiring, TakenBack | TakenBackLast) => Err(Fault::Ours),
        (Starting | Retiring | Dying | Gone, Assigned) => Err(Fault::Ours),
        // A busy worker is never retired.
        (Busy, Retire) => Err(Fault::Ours),
        (Gone, Ready | Finished | FinishedLast | TakenBack | TakenBackLast | Retire | Kill | Exited) => {
            Err(Fault::Ours)
        }
    }
}

/// A job that a worker holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The execution.
    pub execution: u64,
    /// How long it is expected to take; `None`: its task is not known yet.
    pub expected: Option<Duration>,
    /// Nothing is sent behind it: it fills more than one packet, or its task prints, and then its lines
    /// must not be taken for those of the next job.
    pub alone: bool,
}

/// Why a worker is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// A newer generation of the app is loaded.
    Outdated,
    /// Somebody asked for it.
    Asked,
    /// It ran or grew long enough.
    Worn(recycle::Reason),
}

impl Expiry {
    /// In a word, as the setting is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Expiry::Outdated => "reload",
            Expiry::Asked => "asked",
            Expiry::Worn(recycle::Reason::MaxJobs) => "max_jobs",
            Expiry::Worn(recycle::Reason::MaxAge) => "max_age",
            Expiry::Worn(recycle::Reason::MaxWorkerMemory) => "max_worker_memory",
        }
    }
}

/// One worker process.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Whose jobs it runs.
    pub pool: PoolName,
    /// The smallest number from 1 that was free when it began to serve; 0 before.
    pub ordinal: u16,
    /// The template that forks it.
    pub template: u64,
    /// That template's generation.
    pub generation: u64,
    /// Process id, once forked.
    pub pid: Option<i32>,
    /// Where it is in its life.
    pub state: State,
    /// Since when.
    pub since: Mono,
    /// When it became ready.
    pub ready: Option<Mono>,
    /// Kept ready beyond the pool's size; takes no job until it is promoted.
    pub spare: bool,
    /// To be replaced, and why.
    pub expiring: Option<Expiry>,
    /// Takes no more jobs; retires when it falls idle.
    pub closing: bool,
    /// What it holds; the first one runs.
    pub held: VecDeque<Held>,
    /// When the first one began, as far as known.
    pub running_since: Mono,
    /// Jobs sent to it, less those taken back.
    pub assigned: u64,
    /// Jobs that it ended.
    pub jobs: u64,
    /// Its running job was overdue, and the worker is killed for it.
    pub overdue: bool,
    /// Its job is interrupted by a shutdown: it goes back to its queue.
    pub interrupted: bool,
    /// Its unread jobs were taken back, and its running one has not ended since: nothing more is sent.
    pub stalled: bool,
    /// It did not read a job when it was expected to, and has not ended one since.
    pub suspect: bool,
    /// It was looked whether it reads the job that it runs now.
    pub unread_checked: bool,
    /// Somebody stopped this execution, which it runs.
    pub stopped: Option<u64>,
    /// Jobs of the batch that it was sent and runs as one; 0: it runs one job at a time.
    pub batch: usize,
    /// Executions of its batch that failed together; what becomes of them is decided when it has answered for all.
    pub failed_together: Vec<u64>,
    /// Its job or batch was taken from its socket after it had read a part of it: none of it has begun.
    pub torn: bool,
    /// Why it is killed, for the job's error.
    pub kill_reason: Option<KillReason>,
    /// Why it was told to leave.
    pub leave_reason: Option<&'static str>,
    /// Drawn once, so that workers forked together do not all grow old together.
    pub age_jitter: f64,
    /// Proportional set size in bytes, last measured.
    pub pss_bytes: u64,
    /// Private bytes, last measured.
    pub private_bytes: u64,
}

impl Worker {
    /// A worker that was just asked for.
    pub fn new(pool: PoolName, template: u64, generation: u64, spare: bool, now: Mono) -> Self {
        Worker {
            pool,
            ordinal: 0,
            template,
            generation,
            pid: None,
            state: State::Starting,
            since: now,
            ready: None,
            spare,
            expiring: None,
            closing: false,
            held: VecDeque::new(),
            running_since: now,
            assigned: 0,
            jobs: 0,
            overdue: false,
            interrupted: false,
            stopped: None,
            batch: 0,
            failed_together: Vec::new(),
            torn: false,
            stalled: false,
            suspect: false,
            unread_checked: false,
            leave_reason: None,
            age_jitter: 0.0,
            kill_reason: None,
            pss_bytes: 0,
            private_bytes: 0,
        }
    }

    /// Part of the pool's size: it runs jobs, or is about to.
    pub fn counted(&self) -> bool {
        !self.spare && matches!(self.state, State::Starting | State::Idle | State::Busy)
    }

    /// Can be sent a job.
    pub fn takes_jobs(&self) -> bool {
        !self.spare && !self.closing && matches!(self.state, State::Idle | State::Busy)
    }

    /// Jobs that it holds beyond what it runs.
    pub fn prefetched(&self) -> usize {
        self.held.len() - self.batch.max(1).min(self.held.len())
    }

    /// What it holds, for the prefetch rule.
    pub fn load(&self) -> prefetch::Held {
        self.held
            .iter()
            .fold(prefetch::Held::NOTHING, |load, held| load.with(held.expected))
    }

    /// The state as `status` shows it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Starting => "starting",
            State::Idle if self.spare => "spare",
            State::Idle => "idle",
            State::Busy => "busy",
            State::Retiring => "retiring",
            State::Dying => "killed",
            State::Gone => "gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    const STATES: [State; 6] = [
        State::Starting,
        State::Idle,
        State::Busy,
        State::Retiring,
        State::Dying,
        State::Gone,
    ];
    const STEPS: [Step; 9] = [
        Step::Ready,
        Step::Assigned,
        Step::Finished,
        Step::FinishedLast,
        Step::TakenBack,
        Step::TakenBackLast,
        Step::Retire,
        Step::Kill,
        Step::Exited,
    ];

    #[test]
    fn the_table_of_a_workers_life() {
        let mut table = String::new();
        for state in STATES {
            for event in STEPS {
                let to = match step(state, event) {
                    Ok(to) if to == state => "stays".to_string(),
                    Ok(to) => format!("→ {to:?}"),
                    Err(fault) => format!("fault: {fault:?}"),
                };
                writeln!(
                    table,
                    "{:<9} {:<14} {to}",
                    format!("{state:?}"),
                    format!("{event:?}")
                )
                .expect("a string takes everything");
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_busy_worker_is_never_retired() {
        assert_eq!(step(State::Busy, Step::Retire), Err(Fault::Ours));
    }
}
