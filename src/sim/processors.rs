//! Processors that calls share: each of `n` calls on `cores` processors goes on at `cores / n` of full speed, or at full speed
//! if there are enough.
//!
//! This is the model of processor sharing, which a fair scheduler comes near to. Source: Kleinrock, "Time-shared systems: a
//! theoretical treatment", 1967.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Mono;

/// The processors of a host, and what runs on them.
#[derive(Debug)]
pub(super) struct Processors {
    cores: u32,
    /// What a call has got that ran since the start, in nanoseconds: all run at the same speed.
    served_ns: f64,
    /// Until when that was added up.
    at: Mono,
    /// Calls by what `served_ns` is at their end, with their workers and executions.
    calls: BTreeSet<(u64, u64, u64)>,
}

impl Processors {
    pub fn new(cores: u32, now: Mono) -> Self {
        Processors {
            cores,
            served_ns: 0.0,
            at: now,
            calls: BTreeSet::new(),
        }
    }

    /// Speed of a call; 1 with a processor of its own.
    fn speed(&self) -> f64 {
        let calls = self.calls.len().max(1) as f64;
        (f64::from(self.cores) / calls).min(1.0)
    }

    fn advance(&mut self, now: Mono) {
        self.served_ns += now.since(self.at).as_nanos() as f64 * self.speed();
        self.at = now;
    }

    /// A worker begins a call that takes so long by itself.
    pub fn begins(&mut self, (worker, execution): (u64, u64), takes: Duration, now: Mono) {
        self.advance(now);
        let ends_ns = self.served_ns + takes.as_nanos() as f64;
        self.calls.insert((ends_ns as u64, worker, execution));
    }

    /// A worker is no more.
    pub fn leaves(&mut self, worker: u64, now: Mono) {
        self.advance(now);
        self.calls.retain(|(_, known, _)| *known != worker);
    }

    /// When the next call ends if none begins before.
    pub fn next(&self) -> Option<Mono> {
        let (ends_ns, ..) = self.calls.first()?;
        let left_ns = (*ends_ns as f64 - self.served_ns).max(0.0) / self.speed();
        // A float converts saturating.
        Some(self.at + Duration::from_nanos(left_ns.ceil() as u64))
    }

    /// A call that has ended: its worker and execution.
    pub fn take_ended(&mut self, now: Mono) -> Option<(u64, u64)> {
        self.advance(now);
        let (ends_ns, worker, execution) = *self.calls.first()?;
        // The next instant is a whole number of nanoseconds.
        let has_ended = ends_ns as f64 <= self.served_ns + 1.0;
        has_ended.then(|| {
            self.calls.pop_first();
            (worker, execution)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    #[test]
    fn calls_share_the_processors_evenly() {
        let second = Duration::from_secs(1);
        let mut host = Processors::new(2, at(0));
        host.begins((1, 1), second, at(0));
        host.begins((2, 2), second, at(0));
        assert_eq!(host.next(), Some(at(1000)));
        host.begins((3, 3), second, at(500));
        host.begins((4, 4), second, at(500));
        // Half a second is left of two, at half of the speed.
        assert_eq!(host.next(), Some(at(1500)));
        assert_eq!(host.take_ended(at(1499)), None);
        assert_eq!(host.take_ended(at(1500)), Some((1, 1)));
        host.leaves(2, at(1500));
        assert_eq!(host.next(), Some(at(2000)));
        assert_eq!(host.take_ended(at(2000)), Some((3, 3)));
        assert_eq!(host.take_ended(at(2000)), Some((4, 4)));
        assert_eq!(host.next(), None);
    }
}
