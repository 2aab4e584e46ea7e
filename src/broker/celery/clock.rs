//! Logical time, after Lamport: each event and answer is later than all that its sender has seen.
//! Source: `kombu/clocks.py`.

use std::sync::atomic::{AtomicI64, Ordering};

/// The clock of a node.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicI64);

impl Clock {
    /// The time of the last event.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more event. Returns its time.
    pub fn forward(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Another node's time was seen.
    pub fn adjust(&self, seen: i64) {
        let later = |own: i64| Some(own.max(seen).saturating_add(1));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_with_each_event_and_message() {
        let clock = Clock::default();
        clock.adjust(41);
        assert_eq!((clock.forward(), clock.forward()), (43, 44));
        clock.adjust(7);
        assert_eq!((clock.value(), clock.forward()), (45, 46));
        clock.adjust(i64::MAX);
        clock.adjust(1);
        assert_eq!(clock.value(), i64::MAX);
    }
}
