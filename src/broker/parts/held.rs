//! What was delivered and has not ended, by numbers that are used once.

use std::collections::HashMap;

/// Deliveries in hand.
///
/// A broker may number its claims anew after a restart or on another connection. The supervisor knows each delivery by a
/// number of ours that grows and never comes again.
#[derive(Debug)]
pub struct Held<T> {
    by_number: HashMap<i64, T>,
    delivered: i64,
    ended: i64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Held {
            by_number: HashMap::new(),
            delivered: 0,
            ended: 0,
        }
    }
}

impl<T> Held<T> {
    /// The number of one more delivery.
    pub fn add(&mut self, delivery: T) -> i64 {
        self.delivered += 1;
        self.by_number.insert(self.delivered, delivery);
        self.assert_all_accounted_for();
        self.delivered
    }

    /// The delivery of this number ends.
    ///
    /// # Panics
    /// If it has ended already, or never was: each delivery is settled once.
    pub fn end(&mut self, number: i64) -> T {
        let Some(delivery) = self.by_number.remove(&number) else {
            panic!("delivery {number} of {} is settled a second time", self.delivered);
        };
        self.ended += 1;
        self.assert_all_accounted_for();
        delivery
    }

    /// Nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    fn assert_all_accounted_for(&self) {
        let in_hand = i64::try_from(self.by_number.len()).unwrap_or(i64::MAX);
        assert_eq!(
            self.delivered,
            in_hand + self.ended,
            "delivered = in hand + ended"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_used_twice() {
        let mut held = Held::default();
        let first = held.add("a");
        assert_eq!(held.end(first), "a");
        assert_ne!(held.add("b"), first);
    }

    #[test]
    #[should_panic(expected = "a second time")]
    fn a_delivery_ends_once() {
        let mut held = Held::default();
        let number = held.add(());
        held.end(number);
        held.end(number);
    }
}
