//! What a scaling policy is told of its pool, and what it answers: the size that it wishes, and why.

use std::fmt;
use std::time::Duration;

/// What is known about a pool at the instant of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Workers that serve jobs: starting, idle or busy.
    pub workers: u32,
    /// Of these, busy now.
    pub busy: u32,
    /// Most of them that were busy at once since the last period.
    pub peak_busy: u32,
    /// Workers that were busy on average over the window; `None` while no time has passed.
    pub busy_average: Option<f64>,
    /// Jobs that could run now: in the broker as last counted, and at hand without a worker.
    pub waiting: u64,
    /// How long the oldest of them has waited, as far as that is known; `None`: it is not, or none waits.
    pub oldest_waiting: Option<Duration>,
    /// Worker time that they will take, from the mean service time of each queue.
    pub work: Duration,
}

impl Sample {
    /// Workers that were busy on average over the window, divided by the workers that there are now. Above 1 for a while
    /// after the pool has shrunk. `None` without workers, or while no time has passed.
    pub fn utilization(&self) -> Option<f64> {
        let workers = Some(self.workers).filter(|workers| *workers > 0)?;
        Some(self.busy_average? / f64::from(workers))
    }
}

/// One part of a policy's rule, which asks for a size by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// Busier than the threshold: one worker more.
    OneMore,
    /// Busy for less than half of the threshold: one worker fewer.
    OneFewer,
    /// Enough workers to clear what waits in time.
    Clears,
    /// What the average load needs at the threshold.
    Average,
    /// Most workers that were busy at once.
    Peak,
    /// One worker, since the pool was used in the window.
    Used,
    /// Not one job in the window: no worker.
    Unused,
}

impl Term {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Term::OneMore => "one more",
            Term::OneFewer => "one fewer",
            Term::Clears => "clears what waits",
            Term::Average => "average load",
            Term::Peak => "peak load",
            Term::Used => "used",
            Term::Unused => "unused",
        }
    }
}

/// The size that one term asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub term: Term,
    /// Workers.
    pub workers: u32,
}

/// The size that a policy would give its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Workers.
    pub workers: u32,
    /// Why, if these are more or fewer than there are.
    pub reason: Reason,
    /// What each term that applies asks for.
    pub candidates: Vec<Candidate>,
    /// The one that was followed; `None`: no change is wished.
    pub term: Option<Term>,
}

impl Wish {
    /// No change.
    pub fn stay(sample: &Sample) -> Self {
        Wish {
            workers: sample.workers,
            reason: Reason::Steady,
            candidates: Vec::new(),
            term: None,
        }
    }

    /// What one term asks for, of which there is no other.
    pub fn of(term: Term, workers: u32, reason: Reason) -> Self {
        Wish {
            workers,
            reason,
            candidates: vec![Candidate { term, workers }],
            term: Some(term),
        }
    }
}

/// Finds the size of one pool.
pub trait ScalingPolicy: fmt::Debug + Send {
    /// Whether it looks at jobs that wait between two periods, while nobody is free for them.
    fn looks(&self) -> bool {
        false
    }

    /// Such a look. It can make the pool grow only.
    fn look(&mut self, sample: &Sample) -> Wish {
        Wish::stay(sample)
    }

    /// A scaling period ended. Called for each, also while limits leave no choice.
    fn period(&mut self, sample: &Sample) -> Wish;
}

/// Why a decision is what it is. `Display` gives the words for log and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Above the threshold, or below half of it.
    Utilization,
    /// Jobs wait and there is no worker, or they wait for too long.
    JobsWaiting,
    /// Not one job in the whole window, and `min` allows to have no worker.
    Idle,
    /// Fewer than `min`.
    BelowMinimum,
    /// More than `max`, or more than the other pools leave of the workers of all.
    AboveMaximum,
    /// Growth was due, and there are `max` already.
    AtMaximum,
    /// Growth was due, and another worker would exceed the memory budget: the pool's own, or that of all.
    MemoryBudget,
    /// Growth was due, and what is left of the workers of all pools is kept for the others' floors.
    TotalWorkers,
    /// Growth was due, and what is left of the permits is too little.
    Permits,
    /// Growth brought no throughput: it is taken back, or not done again for a while.
    NoThroughput,
    /// Growth was due, and the pool is paused.
    Paused,
    /// A change was due, and no worker could be forked now.
    NotLoadable,
    /// Nothing was due.
    Steady,
}

impl Reason {
    /// A change was due and something that can pass forbade it; to be logged when it begins.
    pub fn is_veto(self) -> bool {
        matches!(
            self,
            Reason::MemoryBudget
                | Reason::TotalWorkers
                | Reason::Permits
                | Reason::NoThroughput
                | Reason::Paused
                | Reason::NotLoadable
        )
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Utilization => "utilization",
            Reason::JobsWaiting => "jobs waiting",
            Reason::Idle => "idle",
            Reason::BelowMinimum => "below minimum",
            Reason::AboveMaximum => "above maximum",
            Reason::AtMaximum => "at maximum",
            Reason::MemoryBudget => "memory budget",
            Reason::TotalWorkers => "total workers",
            Reason::Permits => "permits",
            Reason::NoThroughput => "no throughput",
            Reason::Paused => "paused",
            Reason::NotLoadable => "app not loadable",
            Reason::Steady => "steady",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
