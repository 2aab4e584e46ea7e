//! How many workers a pool should have: a pure function of one sample.
//!
//! [`decide`](Policy::decide) is called once a scaling period; [`enforce`] is the part of it that does not wait
//! for the period: limits, and the first worker of a pool at zero.

use std::fmt;
use std::time::Duration;

use super::memory::Budget;
use super::share::Share;

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
    /// Memory of the pool, used and left.
    pub memory: Budget,
    /// What is left of what all pools share.
    pub share: Share,
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

/// `policy`: how a pool finds its size within its limits. Another one is another variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// By the share of their time that workers are busy.
    #[default]
    Utilization,
}

impl Policy {
    /// The decision of one scaling period: limits first, then what this policy says.
    pub fn decide(self, limits: &Limits, sample: &Sample) -> Decision {
        enforce(limits, sample).unwrap_or_else(|| match self {
            Policy::Utilization => by_utilization(limits, sample),
        })
    }
}

/// What holds at once, without waiting for the scaling period: a pool outside its limits goes to the limit,
/// and a pool without workers starts one when a job waits. `None` when nothing of that is due.
///
/// A worker is only retired when it is idle, so going down may take the caller a while.
pub fn enforce(limits: &Limits, sample: &Sample) -> Option<Decision> {
    let floor = limits.min.min(limits.max);
    let max = limits.max.min(sample.share.ceiling);
    if sample.workers > max {
        return Some(to(sample, max, Reason::AboveMaximum));
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

/// Most workers that a pool of so many may grow to, as memory goes: its own and that of all. It never forbids the first
/// worker: a pool that can't run a single job is no saving. What all pools share never forbids a pool to reach its floor.
pub fn affordable(workers: u32, memory: &Budget, share: &Share) -> u32 {
    let own = workers.saturating_add(memory.room()).max(1);
    let shared = workers.saturating_add(share.memory.room()).max(share.floor);
    own.min(shared)
}

/// Growth to `wanted`, as far as nothing forbids it.
fn grow(sample: &Sample, wanted: u32, reason: Reason) -> Decision {
    if sample.paused {
        return to(sample, sample.workers, Reason::Paused);
    }
    if !sample.loadable {
        return to(sample, sample.workers, Reason::NotLoadable);
    }
    let affordable = affordable(sample.workers, &sample.memory, &sample.share);
    let seats = sample.share.workers.max(sample.workers);
    if affordable.min(seats) >= wanted {
        return to(sample, wanted, reason);
    }
    if affordable < seats {
        return to(sample, affordable, Reason::MemoryBudget);
    }
    to(sample, seats, Reason::TotalWorkers)
}

fn to(sample: &Sample, to: u32, reason: Reason) -> Decision {
    Decision {
        from: sample.workers,
        to,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        min: 2,
        max: 5,
        threshold: 0.5,
    };

    fn sample(workers: u32, utilization: f64) -> Sample {
        Sample {
            workers,
            utilization: Some(utilization),
            waiting: 0,
            oldest_waiting: Duration::ZERO,
            paused: false,
            loadable: true,
            memory: Budget::UNLIMITED,
            share: Share::UNLIMITED,
        }
    }

    fn empty(waiting: u64) -> Sample {
        Sample {
            utilization: None,
            waiting,
            ..sample(0, 0.0)
        }
    }

    fn room_for(workers: u64) -> Budget {
        Budget {
            used: 100,
            limit: Some(100 + workers * 10),
            kept: 0,
            cost: 10,
        }
    }

    fn decide(sample: Sample) -> (u32, &'static str) {
        let decision = Policy::Utilization.decide(&LIMITS, &sample);
        assert_eq!(decision.from, sample.workers);
        (decision.to, decision.reason.as_str())
    }

    #[test]
    fn above_the_threshold_one_worker_more_up_to_the_maximum() {
        assert_eq!(decide(sample(3, 0.51)), (4, "utilization"));
        assert_eq!(decide(sample(5, 0.51)), (5, "at maximum"));
    }

    #[test]
    fn below_half_the_threshold_one_worker_less_down_to_the_minimum() {
        assert_eq!(decide(sample(4, 0.24)), (3, "utilization"));
        assert_eq!(decide(sample(2, 0.24)), (2, "steady"));
    }

    #[test]
    fn between_half_the_threshold_and_the_threshold_nothing_changes() {
        for share in [0.25, 0.4, 0.5] {
            assert_eq!(decide(sample(3, share)), (3, "steady"));
        }
    }

    #[test]
    fn a_pool_outside_its_limits_goes_there_at_once() {
        assert_eq!(decide(empty(0)), (2, "below minimum"));
        assert_eq!(decide(sample(9, 1.0)), (5, "above maximum"));
        let crossed = Limits {
            min: 7,
            max: 3,
            ..LIMITS
        };
        assert_eq!(
            enforce(&crossed, &sample(1, 0.0)).map(|decision| decision.to),
            Some(3)
        );
    }

    #[test]
    fn a_pool_at_zero_starts_one_worker_when_a_job_waits() {
        let limits = Limits { min: 0, ..LIMITS };
        let decide = |sample| Policy::Utilization.decide(&limits, &sample);
        assert_eq!(decide(empty(0)).to, 0);
        assert_eq!(
            (decide(empty(1)).to, decide(empty(1)).reason),
            (1, Reason::JobsWaiting)
        );
        let remembered = Sample {
            utilization: Some(1.0),
            ..empty(0)
        };
        assert_eq!(
            decide(remembered).to,
            0,
            "the share of workers that are gone starts none"
        );
    }

    #[test]
    fn the_last_worker_leaves_only_after_a_window_without_a_job() {
        let limits = Limits { min: 0, ..LIMITS };
        let decide = |sample| Policy::Utilization.decide(&limits, &sample);
        assert_eq!(decide(sample(1, 0.01)).to, 1);
        assert_eq!(
            decide(Sample {
                waiting: 1,
                ..sample(1, 0.0)
            })
            .to,
            1
        );
        assert_eq!(
            (decide(sample(1, 0.0)).to, decide(sample(1, 0.0)).reason),
            (0, Reason::Idle)
        );
    }

    #[test]
    fn a_pause_and_an_app_that_does_not_load_hold_growth() {
        assert_eq!(
            decide(Sample {
                paused: true,
                ..sample(3, 0.9)
            }),
            (3, "paused")
        );
        assert_eq!(
            decide(Sample {
                loadable: false,
                ..sample(3, 0.9)
            }),
            (3, "app not loadable")
        );
        assert_eq!(
            decide(Sample {
                loadable: false,
                ..empty(5)
            }),
            (0, "app not loadable")
        );
    }

    #[test]
    fn no_worker_is_retired_that_could_not_be_forked_again() {
        assert_eq!(
            decide(Sample {
                loadable: false,
                ..sample(4, 0.0)
            }),
            (4, "app not loadable")
        );
        assert_eq!(
            decide(Sample {
                loadable: false,
                ..sample(6, 0.0)
            }),
            (5, "above maximum")
        );
    }

    #[test]
    fn the_memory_budget_holds_growth_but_never_the_first_worker() {
        let memory = room_for(0);
        assert_eq!(
            decide(Sample {
                memory,
                ..sample(3, 0.9)
            }),
            (3, "memory budget")
        );
        assert_eq!(
            decide(Sample {
                memory,
                ..sample(1, 0.9)
            }),
            (1, "memory budget"),
            "below the minimum too"
        );
        assert_eq!(decide(Sample { memory, ..empty(0) }), (1, "memory budget"));
        assert_eq!(
            decide(Sample {
                memory: room_for(1),
                ..sample(3, 0.9)
            }),
            (4, "utilization")
        );
    }

    /// A share of which so many more workers and so much memory are left.
    fn share(floor: u32, workers: u32, memory: u64) -> Share {
        Share {
            floor,
            ceiling: workers,
            workers,
            memory: room_for(memory),
        }
    }

    #[test]
    fn what_all_pools_share_holds_growth_but_never_below_the_floor() {
        let with = |share, workers, utilization| {
            decide(Sample {
                share,
                ..sample(workers, utilization)
            })
        };
        assert_eq!(with(share(1, 3, 9), 3, 0.9), (3, "total workers"));
        assert_eq!(with(share(1, 9, 0), 3, 0.9), (3, "memory budget"));
        assert_eq!(with(share(4, 4, 0), 3, 0.9), (4, "utilization"));
        assert_eq!(with(share(2, 9, 0), 0, 0.0), (2, "below minimum"));
    }

    #[test]
    fn a_pool_gives_way_to_the_floors_of_the_others() {
        let crowded = Sample {
            share: share(1, 3, 9),
            ..sample(5, 0.9)
        };
        assert_eq!(decide(crowded), (3, "above maximum"));
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        (0u32..20, 1u32..20, 0.01..=1.0f64).prop_map(|(min, more, threshold)| Limits {
            min,
            max: min + more,
            threshold,
        })
    }

    prop_compose! {
        fn any_sample()(
            workers in 0u32..50, utilization in proptest::option::of(0.0..=1.0f64), waiting in 0u64..3,
            paused: bool, loadable: bool, room in 0u64..5,
            floor in 1u32..5, ceiling in 5u32..60, fewer in 0u32..9, shared in 0u64..5,
        ) -> Sample {
            let share = Share { workers: ceiling.saturating_sub(fewer).max(floor), ..share(floor, ceiling, shared) };
            Sample { utilization, waiting, paused, loadable, memory: room_for(room), share, ..sample(workers, 0.0) }
        }
    }

    proptest! {
        #[test]
        fn the_target_stays_inside_its_limits(limits in any_limits(), sample in any_sample()) {
            let decision = Policy::Utilization.decide(&limits, &sample);
            prop_assert!(decision.to <= limits.max.min(sample.share.ceiling));
            let lowest = limits.min.min(sample.share.ceiling);
            prop_assert!(decision.to >= lowest.min(sample.workers), "never retired below the minimum");
            prop_assert!(decision.to >= lowest || decision.reason.is_veto());
        }

        #[test]
        fn growth_beyond_the_floor_takes_only_what_is_left(limits in any_limits(), sample in any_sample()) {
            let decision = Policy::Utilization.decide(&limits, &sample);
            if decision.to > sample.workers && decision.to > sample.share.floor.max(1) {
                prop_assert!(decision.to <= sample.share.workers);
                prop_assert!(decision.to - sample.workers <= sample.share.memory.room());
            }
        }

        #[test]
        fn the_size_moves_by_one_except_to_reach_a_limit(limits in any_limits(), sample in any_sample()) {
            let decision = Policy::Utilization.decide(&limits, &sample);
            let max = limits.max.min(sample.share.ceiling);
            let outside = sample.workers < limits.min || sample.workers > max;
            prop_assert!(outside || decision.to.abs_diff(sample.workers) <= 1);
        }

        #[test]
        fn a_veto_never_lets_the_size_grow_past_it(limits in any_limits(), sample in any_sample()) {
            let decision = Policy::Utilization.decide(&limits, &sample);
            if decision.to > sample.workers {
                prop_assert!(sample.loadable && !sample.paused);
                let grown = decision.to - sample.workers;
                prop_assert!(grown <= sample.memory.room() || decision.to == 1);
            }
        }

        /// A load that keeps `busy` workers busy reads `busy / n` with `n` workers.
        #[test]
        fn a_constant_load_settles(limits in any_limits(), start in 0u32..50, busy in 0.0..60.0f64) {
            let next = |workers: u32| {
                let share = (busy / f64::from(workers)).min(1.0);
                Policy::Utilization.decide(&limits, &sample(workers, share)).to
            };
            let mut workers = next(start.max(1)).max(1);
            for _ in 0..100 {
                workers = next(workers).max(1);
            }
            prop_assert_eq!(next(workers).max(1), workers);
        }
    }
}
