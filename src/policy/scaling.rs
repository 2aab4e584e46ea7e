//! How many workers a pool should have: a pure function of one sample.
//!
//! [`decide`](Policy::decide) is called once a scaling period; [`enforce`] is the part of it that does not wait
//! for the period: limits, and the first worker of a pool at zero.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::memory::Budget;

/// What the pool's settings allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Never fewer workers.
    pub min: u32,
    /// Never more; wins over `min` if it is lower.
    pub max: u32,
    /// Utilization above which a worker is added; below half of it one is retired.
    pub threshold: f64,
}

/// What is known about a pool at the instant of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Workers that serve jobs: starting, idle or busy.
    pub workers: u32,
    /// Over the window; `None` while no worker was alive.
    pub utilization: Option<f64>,
    /// Jobs that could run now.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    pub oldest_waiting: Duration,
    /// Somebody paused the pool: it claims no jobs.
    pub paused: bool,
    /// A template is loaded, so that a worker could be forked.
    pub loadable: bool,
    /// Memory used and left.
    pub memory: Budget,
}

/// What to do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Workers before.
    pub from: u32,
    /// Workers wanted; the caller forks what is missing, or retires idle ones.
    pub to: u32,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// Whether the number of workers changes.
    pub fn is_change(&self) -> bool {
        self.from != self.to
    }
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
    /// More than `max`.
    AboveMaximum,
    /// Growth was due, and there are `max` already.
    AtMaximum,
    /// Growth was due, and another worker would exceed the memory budget.
    MemoryBudget,
    /// Growth was due, and the pool is paused.
    Paused,
    /// A change was due, and no worker could be forked now.
    NotLoadable,
    /// Nothing was due.
    Steady,
}

impl Reason {
    /// Growth was due and something that can pass forbade it; to be logged when it begins.
    pub fn is_veto(self) -> bool {
        matches!(self, Reason::MemoryBudget | Reason::Paused | Reason::NotLoadable)
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

/// `policy`: how a pool finds its size within its limits. Another one is another variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// By the share of their time that workers are busy.
    #[default]
    Utilization,
}

impl Policy {
    /// All policies, for messages.
    pub const ALL: [Policy; 1] = [Policy::Utilization];

    /// As the configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Utilization => "utilization",
        }
    }

    /// The decision of one scaling period: limits first, then what this policy says.
    pub fn decide(self, limits: &Limits, sample: &Sample) -> Decision {
        enforce(limits, sample).unwrap_or_else(|| match self {
            Policy::Utilization => by_utilization(limits, sample),
        })
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;
    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let known = Policy::ALL.into_iter().find(|policy| policy.as_str() == name);
        known.ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy `{0}`, only `utilization`")]
pub struct UnknownPolicy(String);

/// What holds at once, without waiting for the scaling period: a pool outside its limits goes to the limit,
/// and a pool without workers starts one when a job waits. `None` when nothing of that is due.
///
/// A worker is only retired when it is idle, so going down may take the caller a while.
pub fn enforce(limits: &Limits, sample: &Sample) -> Option<Decision> {
    let floor = limits.min.min(limits.max);
    if sample.workers > limits.max {
        return Some(to(sample, limits.max, Reason::AboveMaximum));
    }
    if sample.workers < floor {
        return Some(grow(sample, floor, Reason::BelowMinimum));
    }
    (sample.workers == 0 && sample.waiting > 0 && limits.max > 0)
        .then(|| grow(sample, 1, Reason::JobsWaiting))
}

/// One more above the threshold, one less below half of it. The gap between the two is why a constant load
/// can't make the size swing: after one more, a share above `t` is still above `t * n / (n + 1) >= t / 2`.
///
/// The last worker is the exception: where `min` is 0, it leaves after a whole window without a job, not
/// when it was merely little used, since the next job would start it again.
fn by_utilization(limits: &Limits, sample: &Sample) -> Decision {
    // With nobody there, the share is that of workers that are gone; waiting jobs are `enforce`'s matter.
    let Some(share) = sample.utilization.filter(|_| sample.workers > 0) else {
        return to(sample, sample.workers, Reason::Steady);
    };
    if share > limits.threshold {
        if sample.workers >= limits.max {
            return to(sample, sample.workers, Reason::AtMaximum);
        }
        return grow(sample, sample.workers + 1, Reason::Utilization);
    }
    if share >= limits.threshold / 2.0 || sample.workers <= limits.min {
        return to(sample, sample.workers, Reason::Steady);
    }
    match sample.workers {
        // Nothing could bring the worker back.
        _ if !sample.loadable => to(sample, sample.workers, Reason::NotLoadable),
        1 if share == 0.0 && sample.waiting == 0 => to(sample, 0, Reason::Idle),
        1 => to(sample, sample.workers, Reason::Steady),
        workers => to(sample, workers - 1, Reason::Utilization),
    }
}

/// Growth to `wanted`, as far as nothing forbids it. The memory budget never forbids the first worker: a pool
/// that can't run a single job is no saving.
fn grow(sample: &Sample, wanted: u32, reason: Reason) -> Decision {
    if sample.paused {
        return to(sample, sample.workers, Reason::Paused);
    }
    if !sample.loadable {
        return to(sample, sample.workers, Reason::NotLoadable);
    }
    let affordable = sample.workers.saturating_add(sample.memory.room()).max(1);
    if affordable < wanted {
        return to(sample, affordable, Reason::MemoryBudget);
    }
    to(sample, wanted, reason)
}

fn to(sample: &Sample, to: u32, reason: Reason) -> Decision {
    Decision {
        from: sample.workers,
        to,
        reason,
    }
}
