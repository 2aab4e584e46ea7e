//! Deliveries of a channel, and how few words acknowledge them.

use std::collections::BTreeSet;

/// Those of one channel that are neither acknowledged nor rejected. A server numbers all deliveries of a channel from 1 on.
#[derive(Debug, Default)]
pub struct Tags {
    open: BTreeSet<u64>,
    /// All up to this one were seen. A later one may be seen first, by another consumer.
    seen_to: u64,
    seen_later: BTreeSet<u64>,
}

/// An acknowledgement, as `basic.ack` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The tag of a delivery.
    pub tag: u64,
    /// Of all deliveries up to this one.
    pub multiple: bool,
}

impl Tags {
    /// One was delivered.
    pub fn delivered(&mut self, tag: u64) {
        self.open.insert(tag);
        self.seen_later.insert(tag);
        while self.seen_later.remove(&(self.seen_to + 1)) {
            self.seen_to += 1;
        }
    }

    /// One was rejected.
    pub fn rejected(&mut self, tag: u64) {
        self.open.remove(&tag);
    }

    /// How these are acknowledged. One word stands for several only where nothing before the last of them is left, and
    /// nothing is on its way that was not seen yet: it would be acknowledged, too.
    pub fn acknowledge(&mut self, tags: &[u64]) -> Vec<Ack> {
        let settled: BTreeSet<u64> = tags.iter().copied().filter(|tag| self.open.remove(tag)).collect();
        let first_open = self.open.first().copied().unwrap_or(u64::MAX);
        let first_left = first_open.min(self.seen_to + 1);
        let whole = settled.range(..first_left).count();
        let last_of_whole = settled.iter().nth(whole.saturating_sub(1)).copied();
        let one_for_all = last_of_whole.filter(|_| whole > 1);
        let single = match one_for_all {
            Some(_) => settled.range(first_left..),
            None => settled.range(..),
        };
        let single = single.map(|tag| Ack {
            tag: *tag,
            multiple: false,
        });
        let all = one_for_all.map(|tag| Ack { tag, multiple: true });
        all.into_iter().chain(single).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack(tag: u64, multiple: bool) -> Ack {
        Ack { tag, multiple }
    }

    #[test]
    fn a_settled_beginning_is_acknowledged_by_one_word() {
        let mut tags = Tags::default();
        (1..9).for_each(|tag| tags.delivered(tag));
        assert_eq!(tags.acknowledge(&[3, 1, 2, 6]), [ack(3, true), ack(6, false)]);
        assert_eq!(tags.acknowledge(&[5]), [ack(5, false)]);
        tags.rejected(4);
        assert_eq!(tags.acknowledge(&[7, 8]), [ack(8, true)]);
        assert_eq!(tags.acknowledge(&[8, 9]), [], "each is acknowledged once");
    }

    #[test]
    fn what_was_not_seen_yet_is_not_acknowledged() {
        let mut tags = Tags::default();
        [1, 3, 4].into_iter().for_each(|tag| tags.delivered(tag));
        assert_eq!(tags.acknowledge(&[1, 3, 4]), [1, 3, 4].map(|tag| ack(tag, false)));
        [2, 5].into_iter().for_each(|tag| tags.delivered(tag));
        assert_eq!(tags.acknowledge(&[2, 5]), [ack(5, true)]);
    }

    proptest! {
        /// A server that carries the words out has no other deliveries acknowledged than those that were meant.
        #[test]
        fn nothing_else_is_acknowledged(rounds in prop::collection::vec(prop::collection::vec(1u64..40, 0..12), 1..8)) {
            let (mut tags, mut server) = (Tags::default(), BTreeSet::new());
            for tag in 1..40 {
                tags.delivered(tag);
                server.insert(tag);
            }
            let mut left = server.clone();
            for round in rounds {
                round.iter().for_each(|tag| { left.remove(tag); });
                for Ack { tag, multiple } in tags.acknowledge(&round) {
                    prop_assert!(server.contains(&tag), "an unknown tag closes the channel");
                    server.retain(|held| if multiple { *held > tag } else { *held != tag });
                }
                prop_assert_eq!(&server, &left);
            }
        }
    }
}
