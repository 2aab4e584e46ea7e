//! Claims whose answer never came: the server may have carried them out, or may still do so.
//!
//! Each claim for the same queues, or for these and more, looks first for what an earlier one took, which is known by the
//! numbers of its executions. A look settles it once the claim's deadline has passed (see
//! [`super::connection::Line::deadline`]): the server does not carry it out after that.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::connection::Link;
use crate::broker::BrokerError;
use crate::job::QueueName;
use crate::time::Mono;

/// How soon a server that can't be asked is tried again by who must know: this doubles up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A claim that was sent.
#[derive(Debug)]
struct Sent {
    /// The queues that it asked for.
    queues: Vec<QueueName>,
    /// Its executions have the numbers from here…
    first: i64,
    /// …to before here.
    end: i64,
    /// From then on it is not carried out any more.
    until: Mono,
    /// Somebody still waits for its answer.
    is_awaited: bool,
    /// What was found of it.
    found: BTreeSet<i64>,
}

/// The claims that were sent and not answered.
#[derive(Debug, Default)]
pub(in crate::broker) struct UnansweredClaims(Mutex<Vec<Sent>>);

/// A claim on its way. It counts as unanswered when this is dropped without an answer.
#[derive(Debug)]
pub(in crate::broker) struct OnItsWay<'a> {
    claims: &'a UnansweredClaims,
    first: i64,
}

impl OnItsWay<'_> {
    /// It is known what the server did.
    pub fn answered(self) {
        self.claims.lock().retain(|sent| sent.first != self.first);
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        for sent in &mut *self.claims.lock() {
            sent.is_awaited &= sent.first != self.first;
        }
    }
}

impl UnansweredClaims {
    /// A claim of `count` executions from `first` on is about to be sent; it is not carried out after `until`.
    /// One of no executions can't be told from the next, which has the same first number: nothing is kept of it.
    pub fn send(&self, queues: &[QueueName], first: i64, count: usize, until: Mono) -> Option<OnItsWay<'_>> {
        if count == 0 {
            return None;
        }
        self.lock().push(Sent {
            queues: queues.to_vec(),
            first,
            end: first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)),
            until,
            is_awaited: true,
            found: BTreeSet::new(),
        });
        Some(OnItsWay { claims: self, first })
    }

    /// Nobody waits for answers any more. A connection on which one was lost may be dead: the next call opens another.
    pub async fn give_up(&self, link: &Link) {
        self.lock().iter_mut().for_each(|sent| sent.is_awaited = false);
        if self.first().is_some() {
            link.renew().await;
        }
    }

    /// The numbers to look for before the next claim for these queues, from and to before.
    pub fn ranges(&self, queues: &[QueueName]) -> Vec<(i64, i64)> {
        let claims = self.lock();
        let lost = claims.iter().filter(|sent| sent.is_lost_of(queues));
        lost.map(|sent| (sent.first, sent.end)).collect()
    }

    /// When the next look for these queues makes sure of one more claim.
    pub fn next(&self, queues: &[QueueName]) -> Option<Mono> {
        let claims = self.lock();
        let lost = claims.iter().filter(|sent| sent.is_lost_of(queues));
        lost.map(|sent| sent.until).min()
    }

    /// The claim that is made sure of first: its queues, and when.
    pub fn first(&self) -> Option<(Vec<QueueName>, Mono)> {
        let claims = self.lock();
        let lost = claims.iter().filter(|sent| !sent.is_awaited);
        let sent = lost.min_by_key(|sent| sent.until)?;
        Some((sent.queues.clone(), sent.until))
    }

    /// Takes note that this execution was found. Returns whether it is news.
    pub fn find(&self, number: i64) -> bool {
        let mut claims = self.lock();
        let sent = claims
            .iter_mut()
            .find(|sent| (sent.first..sent.end).contains(&number));
        sent.is_some_and(|sent| sent.found.insert(number))
    }

    /// A look that began at `began` found all that there was for these queues.
    pub fn looked(&self, queues: &[QueueName], began: Mono) {
        self.lock()
            .retain(|sent| !sent.is_lost_of(queues) || sent.until > began);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long who must know what was taken rests between two looks.
#[derive(Debug)]
pub(in crate::broker) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(PAUSE)
    }
}

impl Pause {
    /// Rests after a look that began when so much of a claim's time was left. `next`: when one more look makes sure of more.
    ///
    /// # Errors
    /// That of the look, if the time was over.
    pub async fn after(
        &mut self,
        looked: Result<(), BrokerError>,
        left: Duration,
        next: Option<Mono>,
    ) -> Result<(), BrokerError> {
        match looked {
            // Of those that are left nobody can say more before their time is over.
            Ok(()) => {
                tokio::time::sleep(next.map_or(Duration::ZERO, |at| at.since(Mono::now()))).await;
            }
            Err(error) if left.is_zero() => return Err(error),
            Err(_) => {
                tokio::time::sleep(self.0.min(left)).await;
                self.0 = (self.0 * 2).min(PAUSE_MAX);
            }
        }
        Ok(())
    }
}

impl Sent {
    /// Its answer never came, and it asked for none but these queues: one of a pool's, or all.
    fn is_lost_of(&self, queues: &[QueueName]) -> bool {
        !self.is_awaited && self.queues.iter().all(|queue| queues.contains(queue))
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
        let (unanswered, mail) = (UnansweredClaims::default(), queues(&["mail"]));
        drop(unanswered.send(&mail, 5, 3, Mono(100)));
        unanswered.looked(&mail, Mono(99));
        assert_eq!(unanswered.ranges(&mail), [(5, 8)]);
        assert_eq!(unanswered.next(&mail), Some(Mono(100)));
        unanswered.looked(&mail, Mono(100));
        assert_eq!(unanswered.ranges(&mail), []);
        assert_eq!(unanswered.next(&mail), None);
    }

    #[test]
    fn a_claim_is_not_looked_for_while_its_answer_may_come_nor_after_it_came() {
        let (unanswered, mail) = (UnansweredClaims::default(), queues(&["mail"]));
        let on_its_way = unanswered.send(&mail, 1, 1, Mono(100));
        assert_eq!((unanswered.ranges(&mail), unanswered.next(&mail)), (vec![], None));
        assert_eq!(unanswered.first(), None);
        unanswered.looked(&mail, Mono(200));
        drop(on_its_way);
        assert_eq!(unanswered.ranges(&mail), [(1, 2)]);
        unanswered.send(&mail, 2, 1, Mono(100)).unwrap().answered();
        assert_eq!(unanswered.ranges(&mail), [(1, 2)]);
    }

    #[test]
    fn what_was_found_once_is_not_found_again() {
        let (unanswered, mail) = (UnansweredClaims::default(), queues(&["mail"]));
        drop(unanswered.send(&mail, 5, 3, Mono(100)));
        assert!(unanswered.find(7));
        assert!(!unanswered.find(7));
        assert!(!unanswered.find(8), "of no claim that was sent");
    }

    #[test]
    fn a_claim_belongs_to_who_serves_all_its_queues() {
        let unanswered = UnansweredClaims::default();
        drop(unanswered.send(&queues(&["a", "b"]), 1, 1, Mono(100)));
        drop(unanswered.send(&queues(&["b"]), 2, 1, Mono(100)));
        assert_eq!(unanswered.ranges(&queues(&["b", "a"])), [(1, 2), (2, 3)]);
        assert_eq!(unanswered.ranges(&queues(&["b"])), [(2, 3)]);
        assert_eq!(unanswered.ranges(&queues(&["a"])), []);
        unanswered.looked(&queues(&["b"]), Mono(100));
        assert_eq!(unanswered.ranges(&queues(&["a", "b"])), [(1, 2)]);
    }
}
