//! What a pool claims and keeps at hand.

use super::*;
use crate::fleet::Event;
use crate::fleet::pool::pooled::Pooled;
use crate::job::{Settlement, Token, Verdict};

const MOMENT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(2);

/// Jobs that just went back to their queue.
fn given_back(pool: &Pooled) -> Vec<u64> {
    let back = |action: &Action| match action {
        Action::Settle(Settlement {
            of: Token(number),
            verdict: Verdict::GiveBack,
            ..
        }) => Some(*number),
        _ => None,
    };
    pool.out.iter().filter_map(back).collect()
}

#[test]
fn what_went_back_is_not_claimed_again_until_a_worker_is_free() {
    let mut pool = Pooled::new("--policy utilization --prefetch 1");
    pool.deliver(1..2, Duration::ZERO);
    pool.done(1, MOMENT, MOMENT);
    let wants = |pool: &Pooled| pool.fleet.wants(&pool.pool);
    assert!(wants(&pool) > 4, "short jobs are kept at hand");

    pool.deliver(2..6, MOMENT);
    pool.on(Event::Tick, LONG);
    assert_eq!(given_back(&pool), [5, 4], "one runs, one was sent ahead");
    assert_eq!(wants(&pool), 0, "they would go back again");
    pool.done(2, LONG, LONG);
    assert_eq!(wants(&pool), 0, "it goes on with the other one");

    pool.done(3, MOMENT, LONG + MOMENT);
    assert!(wants(&pool) > 0, "it is free");
    pool.deliver(6..7, LONG + MOMENT);
    assert!(wants(&pool) > 0, "jobs go on");
}
