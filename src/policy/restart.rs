//! When a template that died or did not load is started again, and when that is a crash loop.

use std::time::Duration;

/// Wait before the second restart in a row; doubles with each. The first one happens at once.
pub const BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A template that was ready for this long had nothing wrong with its start: counting begins anew.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Ends in a row that make a crash loop.
pub const CRASH_LOOP: u32 = 3;

/// Counts a template's ends in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    in_a_row: u32,
}

/// What to do after a template's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Start the next one after this.
    pub wait: Duration,
    /// Ends in a row, this one included.
    pub in_a_row: u32,
    /// With this one it has become a crash loop: to be reported. True once a loop.
    pub crash_loop_begins: bool,
}

impl Restarts {
    /// A template ended that nobody asked to end. `ready_for`: how long it had been ready; `None`: it never was.
    pub fn ended(&mut self, ready_for: Option<Duration>) -> Restart {
        if ready_for.is_some_and(|lived| lived >= HEALTHY_AFTER) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let wait = match self.in_a_row {
            1 => Duration::ZERO,
            n => BACKOFF
                .saturating_mul(2u32.saturating_pow(n - 2))
                .min(BACKOFF_MAX),
        };
        Restart {
            wait,
            in_a_row: self.in_a_row,
            crash_loop_begins: self.in_a_row == CRASH_LOOP,
        }
    }

    /// Whether the last ends make a crash loop.
    pub fn is_crash_loop(&self) -> bool {
        self.in_a_row >= CRASH_LOOP
    }

    /// Somebody changed something (a reload): what was before does not count.
    pub fn reset(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_next_ones_wait_twice_as_long_each() {
        let mut restarts = Restarts::default();
        let waits: Vec<u128> = (0..10).map(|_| restarts.ended(None).wait.as_millis()).collect();
        assert_eq!(
            waits,
            [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
        );
    }

    #[test]
    fn a_crash_loop_is_reported_once() {
        let mut restarts = Restarts::default();
        let begins: Vec<bool> = (0..5).map(|_| restarts.ended(None).crash_loop_begins).collect();
        assert_eq!(begins, [false, false, true, false, false]);
        assert!(restarts.is_crash_loop());
    }

    #[test]
    fn a_long_life_or_a_reload_makes_a_new_beginning() {
        let mut restarts = Restarts::default();
        (0..4).for_each(|_| _ = restarts.ended(Some(Duration::from_secs(1))));
        let next = restarts.ended(Some(HEALTHY_AFTER));
        assert_eq!((next.wait, next.in_a_row), (Duration::ZERO, 1));
        assert!(!restarts.is_crash_loop());
        restarts.ended(None);
        restarts.reset();
        assert_eq!(restarts.ended(None).wait, Duration::ZERO);
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_each_loop_is_reported_once(lives in proptest::collection::vec(any::<Option<u32>>(), 0..100)) {
            let mut restarts = Restarts::default();
            let mut reported = false;
            for lived in lives {
                let lived = lived.map(|ms| Duration::from_millis(ms.into()));
                let next = restarts.ended(lived);
                if next.in_a_row == 1 {
                    reported = false;
                }
                prop_assert!(next.wait <= BACKOFF_MAX);
                prop_assert!(!(next.crash_loop_begins && reported));
                reported |= next.crash_loop_begins;
                prop_assert_eq!(reported, restarts.is_crash_loop());
            }
        }
    }
}
