//! When the next worker may be forked: after failures, not at once.

use std::time::Duration;

use crate::policy::restart::Restarts;
use crate::time::Mono;

/// Failures of a pool's workers to start.
#[derive(Debug, Default)]
pub(super) struct Starts {
    failures: Restarts,
    /// No fork before this.
    not_before: Option<Mono>,
    /// Why the last one failed, until one succeeds.
    error: Option<String>,
}

impl Starts {
    /// Whether a worker may be forked now.
    pub fn may_fork(&self, now: Mono) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// When it may be tried again.
    pub fn deadline(&self) -> Option<Mono> {
        self.not_before
    }

    /// Whether a wait is over; once.
    pub fn may_again(&mut self, now: Mono) -> bool {
        self.not_before.take_if(|at| *at <= now).is_some()
    }

    /// A worker did not come to work. Returns how long the next one is not forked. Workers that were asked for together
    /// fail together: while a wait stands, one more failure makes it no longer.
    pub fn failed(&mut self, now: Mono, error: &str) -> Duration {
        self.error = Some(error.to_owned());
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return at.since(now);
        }
        let wait = self.failures.ended(None).wait;
        self.not_before = Some(now + wait);
        wait
    }

    /// A worker came to work.
    pub fn succeeded(&mut self) {
        self.failures.reset();
        self.error = None;
    }

    /// It failed again and again.
    pub fn is_crash_loop(&self) -> bool {
        self.failures.is_crash_loop()
    }

    /// Why the last worker did not come to work, until one does.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::restart::BACKOFF;

    #[test]
    fn workers_that_fail_together_wait_as_long_as_one() {
        let mut starts = Starts::default();
        let mut now = Mono(1);
        assert_eq!(starts.failed(now, "no"), Duration::ZERO);
        assert!(starts.may_fork(now));
        for _ in 0..8 {
            assert_eq!(starts.failed(now, "no"), BACKOFF);
        }
        now = now + BACKOFF;
        assert!(starts.may_fork(now));
        assert_eq!(starts.failed(now, "no"), 2 * BACKOFF, "it was tried again");
        starts.succeeded();
        assert_eq!(starts.failed(now + 2 * BACKOFF, "no"), Duration::ZERO);
    }
}
