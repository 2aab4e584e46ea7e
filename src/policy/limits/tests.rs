//! The limits, with the policy `utilization` for the wish.

use super::*;
use crate::policy::scaling::utilization::Utilization;
use crate::policy::scaling::wish::{ScalingPolicy, Term};
use proptest::prelude::*;

/// The settings of a pool.
#[derive(Clone, Copy, Debug)]
struct Rules {
    min: u32,
    max: u32,
    threshold: f64,
}

const RULES: Rules = Rules {
    min: 2,
    max: 5,
    threshold: 0.5,
};

/// How a pool is just now.
#[derive(Clone, Copy, Debug)]
struct Pool {
    workers: u32,
    utilization: Option<f64>,
    waiting: u64,
    paused: bool,
    loadable: bool,
    memory: Budget,
    share: Share,
    held: Option<u32>,
}

impl Pool {
    fn limits(&self, rules: &Rules) -> Limits {
        Limits {
            min: rules.min,
            max: rules.max,
            paused: self.paused,
            loadable: self.loadable,
            memory: self.memory,
            share: self.share,
            held: self.held,
        }
    }

    fn sample(&self) -> Sample {
        Sample {
            workers: self.workers,
            busy_average: self
                .utilization
                .map(|share| share * f64::from(self.workers.max(1))),
            waiting: self.waiting,
            ..Sample::default()
        }
    }
}

/// A scaling period ends.
fn period(rules: &Rules, pool: &Pool) -> Decision {
    let wish = Utilization::new(rules.threshold).period(&pool.sample());
    super::decide(&pool.limits(rules), &pool.sample(), Some(wish))
}

/// The limits were changed to these.
fn limit(rules: &Rules, pool: &Pool) -> Decision {
    super::decide(&pool.limits(rules), &pool.sample(), None)
}

fn sample(workers: u32, utilization: f64) -> Pool {
    Pool {
        workers,
        utilization: Some(utilization),
        waiting: 0,
        paused: false,
        loadable: true,
        memory: Budget::UNLIMITED,
        share: Share::UNLIMITED,
        held: None,
    }
}

fn empty(waiting: u64) -> Pool {
    Pool {
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

fn decide(sample: Pool) -> (u32, &'static str) {
    let decision = period(&RULES, &sample);
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
    let crossed = Rules {
        min: 7,
        max: 3,
        ..RULES
    };
    assert_eq!(period(&crossed, &sample(1, 0.0)).to, 3);
}

#[test]
fn a_pool_at_zero_starts_one_worker_when_a_job_waits() {
    let limits = Rules { min: 0, ..RULES };
    let decide = |sample| period(&limits, &sample);
    assert_eq!(decide(empty(0)).to, 0);
    assert_eq!(
        (decide(empty(1)).to, decide(empty(1)).reason),
        (1, Reason::JobsWaiting)
    );
    let remembered = Pool {
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
    let limits = Rules { min: 0, ..RULES };
    let decide = |sample| period(&limits, &sample);
    assert_eq!(decide(sample(1, 0.01)).to, 1);
    assert_eq!(
        decide(Pool {
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
        decide(Pool {
            paused: true,
            ..sample(3, 0.9)
        }),
        (3, "paused")
    );
    assert_eq!(
        decide(Pool {
            loadable: false,
            ..sample(3, 0.9)
        }),
        (3, "app not loadable")
    );
    assert_eq!(
        decide(Pool {
            loadable: false,
            ..empty(5)
        }),
        (0, "app not loadable")
    );
}

#[test]
fn changed_limits_hold_at_once_whatever_the_pool_could_do_just_now() {
    let limit = |pool| {
        let decision = limit(&RULES, &pool);
        (decision.to, decision.reason.as_str())
    };
    let still = |workers| Pool {
        paused: true,
        loadable: false,
        ..sample(workers, 0.9)
    };
    assert_eq!(limit(still(1)), (2, "below minimum"));
    assert_eq!(limit(still(9)), (5, "above maximum"));
    assert_eq!(limit(still(3)), (3, "steady"), "the policy is not asked");
    let (memory, still) = (room_for(0), still(1));
    assert_eq!(limit(Pool { memory, ..still }), (1, "memory budget"));
}

#[test]
fn a_wish_of_any_size_ends_at_the_limits() {
    let wish = |workers| Wish::of(Term::Clears, workers, Reason::JobsWaiting);
    let decide = |pool: Pool, workers| {
        let decision = super::decide(&pool.limits(&RULES), &pool.sample(), Some(wish(workers)));
        (decision.to, decision.reason.as_str())
    };
    assert_eq!(decide(sample(3, 0.0), 40), (5, "jobs waiting"));
    assert_eq!(decide(sample(5, 0.0), 0), (2, "jobs waiting"));
    let memory = room_for(1);
    assert_eq!(
        decide(
            Pool {
                memory,
                ..sample(3, 0.0)
            },
            5
        ),
        (4, "memory budget")
    );
}

#[test]
fn a_decision_tells_what_was_wished_and_which_limit_held() {
    let told = |pool: Pool, workers| {
        let wish = Wish::of(Term::Clears, workers, Reason::JobsWaiting);
        let decision = super::decide(&pool.limits(&RULES), &pool.sample(), Some(wish));
        let is_put_right = !(2..=5).contains(&pool.workers);
        let term = (!is_put_right).then_some(Term::Clears);
        assert_eq!((decision.term, decision.wished), (term, workers));
        assert_eq!((decision.bounds, decision.candidates.len()), ((2, 5), 1));
        decision.limit
    };
    assert_eq!(told(sample(3, 0.0), 5), None);
    assert_eq!(told(sample(3, 0.0), 40), Some(Limit::Maximum));
    assert_eq!(told(sample(5, 0.0), 40), Some(Limit::Maximum));
    assert_eq!(told(sample(9, 0.0), 9), Some(Limit::Maximum));
    assert_eq!(told(sample(3, 0.0), 0), Some(Limit::Minimum));
    assert_eq!(told(sample(2, 0.0), 0), Some(Limit::Minimum));
    assert_eq!(told(sample(1, 0.0), 1), Some(Limit::Minimum));
    let (memory, share) = (room_for(1), share(1, 4, 9));
    assert_eq!(
        told(
            Pool {
                memory,
                ..sample(3, 0.0)
            },
            5
        ),
        Some(Limit::Memory)
    );
    assert_eq!(
        told(
            Pool {
                share,
                ..sample(3, 0.0)
            },
            5
        ),
        Some(Limit::TotalWorkers)
    );
    let share = Share {
        memory: room_for(1),
        ..Share::UNLIMITED
    };
    assert_eq!(
        told(
            Pool {
                share,
                ..sample(3, 0.0)
            },
            5
        ),
        Some(Limit::TotalMemory)
    );
    let still = |paused, loadable| Pool {
        paused,
        loadable,
        ..sample(3, 0.0)
    };
    assert_eq!(told(still(true, true), 5), Some(Limit::Paused));
    assert_eq!(told(still(false, false), 5), Some(Limit::NotLoadable));
    assert_eq!(told(still(false, false), 2), Some(Limit::NotLoadable));
}

#[test]
fn no_worker_is_retired_that_could_not_be_forked_again() {
    assert_eq!(
        decide(Pool {
            loadable: false,
            ..sample(4, 0.0)
        }),
        (4, "app not loadable")
    );
    assert_eq!(
        decide(Pool {
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
        decide(Pool {
            memory,
            ..sample(3, 0.9)
        }),
        (3, "memory budget")
    );
    assert_eq!(
        decide(Pool {
            memory,
            ..sample(1, 0.9)
        }),
        (1, "memory budget"),
        "below the minimum too"
    );
    assert_eq!(decide(Pool { memory, ..empty(0) }), (1, "memory budget"));
    assert_eq!(
        decide(Pool {
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
        permits: None,
    }
}

#[test]
fn what_all_pools_share_holds_growth_but_never_below_the_floor() {
    let with = |share, workers, utilization| {
        decide(Pool {
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
fn permits_hold_growth_like_the_workers_of_all() {
    let permits = Share {
        permits: Some(0),
        ..share(1, 3, 9)
    };
    let with = |workers, utilization| {
        decide(Pool {
            share: permits,
            ..sample(workers, utilization)
        })
    };
    assert_eq!(with(3, 0.9), (3, "permits"));
    assert_eq!(with(4, 0.9), (3, "above maximum"));
}

#[test]
fn growth_that_brought_nothing_is_taken_back_and_not_done_again() {
    let with = |held, workers, utilization| {
        decide(Pool {
            held: Some(held),
            ..sample(workers, utilization)
        })
    };
    assert_eq!(with(3, 4, 0.9), (3, "no throughput"), "although it is busy");
    assert_eq!(with(3, 3, 0.9), (3, "no throughput"));
    assert_eq!(with(4, 3, 0.9), (4, "utilization"));
    assert_eq!(with(1, 4, 0.4), (2, "no throughput"), "never below the minimum");
    assert_eq!(with(3, 3, 0.1), (2, "utilization"), "it still shrinks");
}

#[test]
fn a_size_that_a_limit_puts_right_has_no_term_of_the_policy() {
    let term = |held, workers| {
        let pool = Pool {
            held: Some(held),
            ..sample(workers, 0.9)
        };
        period(&RULES, &pool).term
    };
    assert_eq!(term(3, 4), None, "it wished for 5 and lost one");
    assert_eq!(term(4, 3), Some(Term::OneMore));
    assert_eq!(term(5, 1), None, "below the minimum");
}

#[test]
fn a_pool_gives_way_to_the_floors_of_the_others() {
    let crowded = Pool {
        share: share(1, 3, 9),
        ..sample(5, 0.9)
    };
    assert_eq!(decide(crowded), (3, "above maximum"));
}

fn any_limits() -> impl Strategy<Value = Rules> {
    (0u32..20, 1u32..20, 0.01..=1.0f64).prop_map(|(min, more, threshold)| Rules {
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
        (permits, held) in (proptest::option::of(0usize..3), proptest::option::of(1u32..50)),
    ) -> Pool {
        let workers_left = ceiling.saturating_sub(fewer).max(floor);
        let share = Share { workers: workers_left, permits, ..share(floor, ceiling, shared) };
        Pool { utilization, waiting, paused, loadable, memory: room_for(room), share, held, ..sample(workers, 0.0) }
    }
}

/// The most that a pool may have: its own maximum, what the others leave, and what is held.
fn most(limits: &Rules, pool: &Pool) -> u32 {
    let held = pool
        .held
        .map_or(u32::MAX, |held| held.max(limits.min.min(limits.max)));
    limits.max.min(pool.share.ceiling).min(held)
}

proptest! {
    #[test]
    fn the_target_stays_inside_its_limits(limits in any_limits(), sample in any_sample()) {
        let decision = period(&limits, &sample);
        prop_assert!(decision.to <= most(&limits, &sample));
        let lowest = limits.min.min(sample.share.ceiling);
        prop_assert!(decision.to >= lowest.min(sample.workers), "never retired below the minimum");
        prop_assert!(decision.to >= lowest || decision.reason.is_veto());
    }

    #[test]
    fn growth_beyond_the_floor_takes_only_what_is_left(limits in any_limits(), sample in any_sample()) {
        let decision = period(&limits, &sample);
        if decision.to > sample.workers && decision.to > sample.share.floor.max(1) {
            prop_assert!(decision.to <= sample.share.workers);
            prop_assert!(decision.to - sample.workers <= sample.share.memory.room());
        }
    }

    #[test]
    fn the_size_moves_by_one_except_to_reach_a_limit(limits in any_limits(), sample in any_sample()) {
        let decision = period(&limits, &sample);
        let max = most(&limits, &sample);
        let outside = sample.workers < limits.min || sample.workers > max;
        prop_assert!(outside || decision.to.abs_diff(sample.workers) <= 1);
    }

    #[test]
    fn a_veto_never_lets_the_size_grow_past_it(limits in any_limits(), sample in any_sample()) {
        let decision = period(&limits, &sample);
        if decision.to > sample.workers {
            prop_assert!(sample.loadable && !sample.paused);
            let grown = decision.to - sample.workers;
            prop_assert!(grown <= sample.memory.room() || decision.to == 1);
        }
    }

    /// Nor do changed limits lead out of them, and they never ask the policy.
    #[test]
    fn changed_limits_move_the_size_to_the_limit_only(limits in any_limits(), sample in any_sample()) {
        let decision = limit(&limits, &sample);
        let max = most(&limits, &sample);
        prop_assert!(decision.to <= max);
        let inside = sample.workers >= limits.min && sample.workers <= max;
        prop_assert!(!inside || !decision.is_change());
        prop_assert!(decision.to >= sample.workers.min(max));
    }

    /// A load that keeps `busy` workers busy reads `busy / n` with `n` workers.
    #[test]
    fn a_constant_load_settles(limits in any_limits(), start in 0u32..50, busy in 0.0..60.0f64) {
        let next = |workers: u32| {
            let share = (busy / f64::from(workers)).min(1.0);
            period(&limits, &sample(workers, share)).to
        };
        let mut workers = next(start.max(1)).max(1);
        for _ in 0..100 {
            workers = next(workers).max(1);
        }
        prop_assert_eq!(next(workers).max(1), workers);
    }
}
