//! Claims whose answer never came: the server may have carried them out, or may still do so.
//!
//! Each claim for the same queues, or for these and more, looks first for what an earlier one took, which is known by the
//! numbers of its executions. A look settles it once nothing more can come of it: when the server has closed the connection by which it
//! came, which it is told to do on another one (`CLIENT KILL`); when that server was started anew since; or, where none
//! of this can be known, when the claim's deadline has passed (see [`super::connection::Line::deadline`]).

use std::collections::BTreeSet;

use super::connection::ClientId;
use crate::job::QueueName;
use crate::time::Mono;

/// One such claim.
#[derive(Debug)]
struct UnansweredClaim {
    /// The queues that it asked for.
    queues: Vec<QueueName>,
    /// Its executions have the numbers from here…
    first: i64,
    /// …to before here.
    end: i64,
    /// From then on it is not carried out any more.
    until: Mono,
    /// The connection by which it came, as long as that may be there and may be ended.
    by: Option<ClientId>,
    /// What was found of it.
    found: BTreeSet<i64>,
}

impl UnansweredClaim {
    /// It asked for none but these: one of a pool's queues, or all.
    fn is_within(&self, queues: &[QueueName]) -> bool {
        self.queues.iter().all(|queue| queues.contains(queue))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::broker) struct UnansweredClaims(Vec<UnansweredClaim>);

impl UnansweredClaims {
    /// No answer came to a claim of `count` executions from `first` on, which was sent on the connection `by`.
    pub fn add(&mut self, queues: &[QueueName], first: i64, count: usize, until: Mono, by: Option<ClientId>) {
        let end = first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        self.0.push(UnansweredClaim {
            queues: queues.to_vec(),
            first,
            end,
            until,
            by,
            found: BTreeSet::new(),
        });
    }

    /// The numbers to look for before the next claim for these queues, from and to before.
    pub fn ranges(&self, queues: &[QueueName]) -> Vec<(i64, i64)> {
        self.of(queues).map(|claim| (claim.first, claim.end)).collect()
    }

    /// When the next look for these queues makes sure of one more claim.
    pub fn next(&self, queues: &[QueueName]) -> Option<Mono> {
        self.of(queues).map(|claim| claim.until).min()
    }

    /// The claim that is made sure of first: its queues, and when.
    pub fn first(&self) -> Option<(Vec<QueueName>, Mono)> {
        let claim = self.0.iter().min_by_key(|claim| claim.until)?;
        Some((claim.queues.clone(), claim.until))
    }

    /// Takes note that this execution was found. Returns whether it is news.
    pub fn find(&mut self, number: i64) -> bool {
        let mut of_it = self.0.iter_mut();
        of_it
            .find(|claim| (claim.first..claim.end).contains(&number))
            .is_some_and(|claim| claim.found.insert(number))
    }

    /// The connections by which such claims for these queues came, and which may still be there.
    pub fn connections(&self, queues: &[QueueName]) -> Vec<ClientId> {
        self.of(queues).filter_map(|claim| claim.by.clone()).collect()
    }

    /// This connection is no more: nothing that came by it is carried out from `at` on.
    pub fn ended(&mut self, by: &ClientId, at: Mono) {
        for claim in self.by(by) {
            claim.until = claim.until.min(at);
            claim.by = None;
        }
    }

    /// This connection can't be ended: time decides.
    pub fn cannot_end(&mut self, by: &ClientId) {
        self.by(by).for_each(|claim| claim.by = None);
    }

    fn by(&mut self, by: &ClientId) -> impl Iterator<Item = &mut UnansweredClaim> {
        self.0
            .iter_mut()
            .filter(move |claim| claim.by.as_ref() == Some(by))
    }

    /// A look that began at `began` found all that there was for these queues.
    pub fn looked(&mut self, queues: &[QueueName], began: Mono) {
        self.0
            .retain(|claim| !claim.is_within(queues) || claim.until > began);
    }

    fn of<'a>(&'a self, queues: &'a [QueueName]) -> impl Iterator<Item = &'a UnansweredClaim> {
        self.0.iter().filter(move |claim| claim.is_within(queues))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(names: &[&str]) -> Vec<QueueName> {
        names.iter().map(|name| QueueName::new(name).unwrap()).collect()
    }

    #[test]
    fn a_claim_is_looked_for_until_a_look_began_after_its_time() {
        let (mut claims, mail) = (UnansweredClaims::default(), queues(&["mail"]));
        claims.add(&mail, 5, 3, Mono(100), None);
        claims.looked(&mail, Mono(99));
        assert_eq!(claims.ranges(&mail), [(5, 8)]);
        assert_eq!(claims.next(&mail), Some(Mono(100)));
        claims.looked(&mail, Mono(100));
        assert_eq!(claims.ranges(&mail), []);
        assert_eq!(claims.next(&mail), None);
    }

    #[test]
    fn a_claim_whose_connection_is_no_more_is_settled_by_the_next_look() {
        let (mut claims, mail) = (UnansweredClaims::default(), queues(&["mail"]));
        let [cut, other] = [7, 8].map(ClientId::of_test);
        claims.add(&mail, 1, 1, Mono(100), Some(cut.clone()));
        claims.add(&mail, 2, 1, Mono(100), Some(other.clone()));
        assert_eq!(claims.connections(&mail), [cut.clone(), other.clone()]);
        claims.ended(&cut, Mono(50));
        claims.looked(&mail, Mono(49));
        assert_eq!(claims.ranges(&mail), [(1, 2), (2, 3)], "a look that began before");
        claims.looked(&mail, Mono(50));
        assert_eq!(claims.ranges(&mail), [(2, 3)]);
        claims.cannot_end(&other);
        assert_eq!(claims.connections(&mail), []);
        assert_eq!(claims.next(&mail), Some(Mono(100)), "its time is waited for");
    }

    #[test]
    fn what_was_found_once_is_not_found_again() {
        let (mut claims, mail) = (UnansweredClaims::default(), queues(&["mail"]));
        claims.add(&mail, 5, 3, Mono(100), None);
        assert!(claims.find(7));
        assert!(!claims.find(7));
        assert!(!claims.find(8), "of no claim in claim");
    }

    #[test]
    fn a_claim_belongs_to_who_serves_all_its_queues() {
        let mut claims = UnansweredClaims::default();
        claims.add(&queues(&["a", "b"]), 1, 1, Mono(100), None);
        claims.add(&queues(&["b"]), 2, 1, Mono(100), None);
        assert_eq!(claims.ranges(&queues(&["b", "a"])), [(1, 2), (2, 3)]);
        assert_eq!(claims.ranges(&queues(&["b"])), [(2, 3)]);
        assert_eq!(claims.ranges(&queues(&["a"])), []);
        claims.looked(&queues(&["b"]), Mono(100));
        assert_eq!(claims.ranges(&queues(&["a", "b"])), [(1, 2)]);
    }
}
