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
