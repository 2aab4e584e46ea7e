//! What was delivered and has not ended, by its token.

use std::collections::HashMap;

use crate::job::Token;

/// Deliveries in hand.
///
/// A broker may number its claims anew after a restart or on another connection; tokens never come again.
#[derive(Debug)]
pub struct Held<T> {
    by_token: HashMap<Token, T>,
    delivered: u64,
    ended: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Held {
            by_token: HashMap::new(),
            delivered: 0,
            ended: 0,
        }
    }
}

impl<T> Held<T> {
    /// The token of one more delivery.
    pub fn add(&mut self, delivery: T) -> Token {
        self.delivered += 1;
        let token = Token(self.delivered);
        self.by_token.insert(token, delivery);
        self.assert_all_accounted_for();
        token
    }

    /// A delivery that is in hand.
    pub fn get(&self, token: Token) -> Option<&T> {
        self.by_token.get(&token)
    }

    /// The delivery ends.
    ///
    /// # Panics
    /// If it has ended already, or never was: each delivery is settled once.
    pub fn end(&mut self, token: Token) -> T {
        let Some(delivery) = self.by_token.remove(&token) else {
            panic!("delivery {token} of {} is settled a second time", self.delivered);
        };
        self.ended += 1;
        self.assert_all_accounted_for();
        delivery
    }

    /// Nothing is in hand.
    pub fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    fn assert_all_accounted_for(&self) {
        let in_hand = self.by_token.len() as u64;
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
    fn a_token_is_never_used_twice() {
        let mut held = Held::default();
        let first = held.add("a");
        assert_eq!(held.end(first), "a");
        assert_ne!(held.add("b"), first);
    }

    #[test]
    #[should_panic(expected = "a second time")]
    fn a_delivery_ends_once() {
        let mut held = Held::default();
        let token = held.add(());
        held.end(token);
        held.end(token);
    }
}
