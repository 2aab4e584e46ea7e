//! Claims whose answer never came: the server may have carried them out, or may still do so.
//!
//! A claim is carried out before its deadline or not at all (see [`super::connection::Line::deadline`]). Until
//! then each claim for the same queues looks first for what an earlier one took, which is known by the numbers of its
//! executions; one look after the deadline settles it.

use std::collections::BTreeSet;

use crate::job::QueueName;
use crate::time::Mono;

/// One such claim.
#[derive(Debug)]
struct Doubt {
    /// The queues that it asked for, sorted.
    queues: Vec<QueueName>,
    /// Its executions have the numbers from here…
    first: i64,
    /// …to before here.
    end: i64,
    /// From then on it is not carried out any more.
    until: Mono,
    /// What was found of it.
    found: BTreeSet<i64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<Doubt>);

impl Doubts {
    /// No answer came to a claim of `count` executions from `first` on.
    pub fn add(&mut self, queues: &[QueueName], first: i64, count: usize, until: Mono) {
        let end = first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        self.0.push(Doubt {
            queues: sorted(queues),
            first,
            end,
            until,
            found: BTreeSet::new(),
        });
    }

    /// The numbers to look for before the next claim for these queues, from and to before.
    pub fn ranges(&self, queues: &[QueueName]) -> Vec<(i64, i64)> {
        self.of(queues).map(|doubt| (doubt.first, doubt.end)).collect()
    }

    /// When the next look for these queues makes sure of one more claim.
    pub fn next(&self, queues: &[QueueName]) -> Option<Mono> {
        self.of(queues).map(|doubt| doubt.until).min()
    }

    /// The claim that is made sure of first: its queues, and when.
    pub fn first(&self) -> Option<(Vec<QueueName>, Mono)> {
        let doubt = self.0.iter().min_by_key(|doubt| doubt.until)?;
        Some((doubt.queues.clone(), doubt.until))
    }

    /// Takes note that this execution was found. Returns whether it is news.
    pub fn find(&mut self, number: i64) -> bool {
        let mut of_it = self.0.iter_mut();
        of_it
            .find(|doubt| (doubt.first..doubt.end).contains(&number))
            .is_some_and(|doubt| doubt.found.insert(number))
    }

    /// A look that began at `began` found all that there was for these queues.
    pub fn looked(&mut self, queues: &[QueueName], began: Mono) {
        let queues = sorted(queues);
        self.0
            .retain(|doubt| doubt.queues != queues || doubt.until > began);
    }

    fn of(&self, queues: &[QueueName]) -> impl Iterator<Item = &Doubt> {
        let queues = sorted(queues);
        self.0.iter().filter(move |doubt| doubt.queues == queues)
    }
}

fn sorted(queues: &[QueueName]) -> Vec<QueueName> {
    let mut queues = queues.to_vec();
    queues.sort();
    queues
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(names: &[&str]) -> Vec<QueueName> {
        names.iter().map(|name| QueueName::new(name).unwrap()).collect()
    }

    #[test]
    fn a_claim_is_looked_for_until_a_look_began_after_its_time() {
        let (mut doubts, mail) = (Doubts::default(), queues(&["mail"]));
        doubts.add(&mail, 5, 3, Mono(100));
        doubts.looked(&mail, Mono(99));
        assert_eq!(doubts.ranges(&mail), [(5, 8)]);
        assert_eq!(doubts.next(&mail), Some(Mono(100)));
        doubts.looked(&mail, Mono(100));
        assert_eq!(doubts.ranges(&mail), []);
        assert_eq!(doubts.next(&mail), None);
    }

    #[test]
    fn what_was_found_once_is_not_found_again() {
        let (mut doubts, mail) = (Doubts::default(), queues(&["mail"]));
        doubts.add(&mail, 5, 3, Mono(100));
        assert!(doubts.find(7));
        assert!(!doubts.find(7));
        assert!(!doubts.find(8), "of no claim in doubt");
    }

    #[test]
    fn a_claim_belongs_to_its_queues_in_any_order() {
        let mut doubts = Doubts::default();
        doubts.add(&queues(&["a", "b"]), 1, 1, Mono(100));
        assert_eq!(doubts.ranges(&queues(&["b", "a"])), [(1, 2)]);
        assert_eq!(doubts.ranges(&queues(&["a"])), []);
    }
}
