//! When a policy that looks at what waits is asked.

use super::*;
use crate::fleet::Event;
use crate::fleet::pool::pooled::{Pooled, now};

/// From one question to the next.
const BETWEEN: Duration = Duration::from_secs(1);

#[test]
fn jobs_left_waiting_at_hand_make_the_pool_grow_at_once() {
    let mut pool = Pooled::new("--policy demand");
    pool.deliver(1..4, Duration::ZERO);
    assert_eq!(pool.target(), 3, "one for each of the two that wait");
    let forks = pool
        .out
        .iter()
        .filter(|action| matches!(action, Action::Fork { .. }));
    assert_eq!(forks.count(), 2, "{:?}", pool.out);
}

#[test]
fn the_broker_is_asked_once_and_again_only_after_a_while() {
    let mut pool = Pooled::new("--policy demand");
    pool.deliver(1..2, Duration::ZERO);
    assert!(pool.is_open() && pool.questions() == 0, "no job is known to wait");
    pool.source_says_that_a_job_waits(Duration::ZERO);
    assert!(!pool.is_open() && pool.questions() == 1);
    pool.source_says_that_a_job_waits(Duration::ZERO);
    assert_eq!(pool.questions(), 0, "it is being asked");

    pool.looked(0, Duration::ZERO);
    assert_eq!(pool.target(), 1);
    pool.source_says_that_a_job_waits(BETWEEN / 2);
    assert_eq!(pool.questions(), 0, "it was asked a moment ago");
    assert_eq!(
        pool.fleet.pools[&pool.pool].look_deadline(),
        Some(now(BETWEEN).mono)
    );

    pool.on(Event::Tick, BETWEEN);
    assert!(pool.is_open(), "and may be asked again");
    pool.source_says_that_a_job_waits(BETWEEN);
    assert_eq!(pool.questions(), 1);
    pool.looked(4, BETWEEN);
    assert_eq!(pool.target(), 5);
    assert!(!pool.is_open(), "those that start are free");
}

#[test]
fn what_is_known_to_wait_at_the_broker_is_enough_for_a_look() {
    let mut pool = Pooled::new("--policy demand");
    pool.deliver(1..2, Duration::ZERO);
    pool.source_says_that_a_job_waits(Duration::ZERO);
    pool.looked(1, Duration::ZERO);
    assert_eq!(pool.target(), 2, "one waits");
    let decision = pool.fleet.pools[&pool.pool].size.last_decision().cloned();
    assert_eq!(
        decision.unwrap().oldest_waiting_s,
        None,
        "no broker has said how long"
    );
    pool.deliver(2..3, BETWEEN / 10);
    assert_eq!(
        (pool.target(), pool.questions()),
        (2, 0),
        "it came: none is known to wait"
    );
}

#[test]
fn a_policy_that_does_not_look_is_told_nothing() {
    let mut pool = Pooled::new("--policy utilization");
    pool.deliver(1..4, Duration::ZERO);
    assert!(!pool.is_open() && pool.questions() == 0);
    assert_eq!(pool.fleet.pools[&pool.pool].look_deadline(), None);
    pool.source_says_that_a_job_waits(Duration::ZERO);
    assert_eq!((pool.target(), pool.questions()), (1, 0));
}
