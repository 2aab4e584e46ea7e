//! How long to wait before a call that failed is tried again.

use std::time::Duration;

use crate::time::Mono;

/// The first wait; it doubles up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The failures in a row of one kind of call.
///
/// Each kind has its own: a server that refuses to write still answers what only reads, and that says nothing about the
/// next write.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    until: Option<Mono>,
}

impl Backoff {
    /// A call failed. `jitter`, in 0 to 1, spreads the tries of several supervisors.
    pub fn failed(&mut self, now: Mono, jitter: f64) {
        // All that was on its way when the server failed tells of one failure.
        if self.until.is_none_or(|until| until <= now) {
            let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
            self.failures += 1;
            self.until = Some(now + wait.mul_f64(0.5 + jitter / 2.0));
        }
    }

    /// A call worked. Returns whether those before it had failed.
    pub fn worked(&mut self) -> bool {
        self.until = None;
        std::mem::take(&mut self.failures) > 0
    }

    /// The last call failed.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// A call may be made.
    pub fn may_try(&self, now: Mono) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// When a call may be made, if not now.
    pub fn next(&self, now: Mono) -> Option<Mono> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let (mut backoff, mut now) = (Backoff::default(), Mono(0));
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.failed(now, 1.0);
            let until = backoff.next(now).unwrap();
            waits.push(until.since(now).as_millis());
            now = until;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(backoff.worked() && !backoff.worked());
        backoff.failed(now, 0.0);
        assert_eq!(backoff.next(now), Some(now + FIRST / 2));
    }

    #[test]
    fn failures_at_once_are_one() {
        let mut backoff = Backoff::default();
        backoff.failed(Mono(0), 1.0);
        backoff.failed(Mono(1), 1.0);
        assert_eq!(backoff.next(Mono(1)), Some(Mono(0) + FIRST));
    }
}
