//! What a scaling policy is told of its pool, and what it answers: the size that it wishes, and why.

use std::fmt;
use std::time::Duration;

use crate::job::QueueName;

/// What is known about a pool at the instant of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Workers that serve jobs: starting, idle or busy.
    pub workers: u32,
    /// Of these, busy now.
    pub busy: u32,
    /// Most of them that were busy at once since the last period.
    pub peak_busy: u32,
    /// Over the window; `None` while no worker was alive.
    pub utilization: Option<f64>,
    /// Workers that were busy on average over the window; `None` while no time has passed.
    pub busy_average: Option<f64>,
    /// Jobs that could run now, as the broker last counted them.
    pub waiting: u64,
    /// Jobs in hand that no worker has.
    pub at_hand: u64,
    /// How long the oldest of them has waited.
    pub oldest_waiting: Duration,
}

/// The size that a policy would give its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Workers.
    pub workers: u32,
    /// Why, if these are more or fewer than there are.
    pub reason: Reason,
}

impl Wish {
    /// No change.
    pub fn stay(sample: &Sample) -> Self {
        Wish {
            workers: sample.workers,
            reason: Reason::Steady,
        }
    }
}

/// What is known of a pool at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Workers that serve jobs: starting, idle or busy.
    pub workers: u32,
    /// Of these, busy now.
    pub busy: u32,
    /// Jobs that wait: as the broker last counted them, and in hand.
    pub waiting: u64,
}

/// Finds the size of one pool. It may keep what it learns.
pub trait ScalingPolicy: fmt::Debug + Send {
    /// A job of this queue ran for so long.
    fn ran(&mut self, _queue: &QueueName, _took: Duration) {}

    /// After how long to look at the pool between two periods, if it stays like this; `None`: not at all. Asked when a job
    /// is left waiting, and after each decision.
    fn look_after(&self, _load: &Load) -> Option<Duration> {
        None
    }

    /// The look that it asked for. It can make the pool grow only.
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
    /// Jobs wait and there is no worker.
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
            Reason::MemoryBudget | Reason::TotalWorkers | Reason::Paused | Reason::NotLoadable
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
