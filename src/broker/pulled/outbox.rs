//! Outcomes on their way to the broker.

use std::collections::VecDeque;

use super::message::Outcome;
use crate::job::Verdict;

/// Settlements that go out in one call.
const BATCH_MAX: usize = 4096;
/// Outcomes kept for a broker that can't be used; above it nothing more is claimed.
const WAITING_MAX: usize = 16 * BATCH_MAX;

/// Outcomes that the broker does not have yet. One call is on its way at a time; what ends meanwhile goes with the next.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Outcome>,
    /// In the call that is on its way.
    sent: usize,
    /// Outcomes of the supervisor's that the broker has.
    settled: u64,
}

impl Outbox {
    pub fn push(&mut self, outcome: Outcome) {
        self.waiting.push_back(outcome);
    }

    /// Whether there is something to send, and no call on its way.
    pub fn wants_to_send(&self) -> bool {
        self.sent == 0 && !self.waiting.is_empty()
    }

    /// What goes out with the next call.
    pub fn send(&mut self) -> Vec<Outcome> {
        assert_eq!(self.sent, 0, "one call at a time");
        let count = self.waiting.len().min(BATCH_MAX);
        self.sent = count;
        self.waiting.drain(..count).collect()
    }

    /// A call was not answered, or refused: all of it is sent again, before the rest.
    pub fn came_back(&mut self, outcomes: Vec<Outcome>) {
        assert_eq!(self.sent, outcomes.len(), "the call that was on its way");
        self.sent = 0;
        for outcome in outcomes.into_iter().rev() {
            self.waiting.push_front(outcome);
        }
    }

    /// The broker has all that was sent, so many outcomes of the supervisor's among them.
    pub fn arrived(&mut self, of_supervisor: usize) {
        assert!(of_supervisor <= self.sent, "more than was sent");
        self.sent = 0;
        self.settled += of_supervisor as u64;
    }

    /// Whether the broker has all of them.
    pub fn is_empty(&self) -> bool {
        self.sent == 0 && self.waiting.is_empty()
    }

    /// Whether so many wait that nothing more should be taken.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// How many outcomes of the supervisor's the broker has.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// How many outcomes of the supervisor's it may not have.
    pub fn unsettled(&self) -> usize {
        let of_supervisor = |outcome: &&Outcome| outcome.token.is_some();
        self.waiting.iter().filter(of_supervisor).count() + self.sent
    }
}

/// Whether this verdict may leave something that can be claimed at once.
pub(super) fn runs_at_once(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::GiveBack | Verdict::Again { due: None, .. } | Verdict::Forget
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Claim, JobId, Settlement, Token};

    fn outcome(number: u64) -> Outcome {
        let claim = Claim {
            job: JobId::new("job").unwrap(),
            handle: 0,
            epoch: 1,
        };
        Outcome {
            settlement: Settlement {
                of: claim,
                verdict: Verdict::GiveBack,
                run: None,
            },
            token: (number > 0).then_some(Token(number)),
        }
    }

    #[test]
    fn what_was_refused_is_sent_again_before_the_rest() {
        let mut outbox = Outbox::default();
        (1..3).for_each(|number| outbox.push(outcome(number)));
        let sent = outbox.send();
        outbox.push(outcome(3));
        assert!(!outbox.wants_to_send() && !outbox.is_empty());
        outbox.came_back(sent);
        let tokens = |sent: &[Outcome]| -> Vec<_> { sent.iter().map(|outcome| outcome.token).collect() };
        let again = outbox.send();
        assert_eq!(tokens(&again), [1, 2, 3].map(|number| Some(Token(number))));
        assert_eq!((outbox.unsettled(), outbox.settled()), (3, 0));
        outbox.arrived(3);
        assert_eq!((outbox.unsettled(), outbox.settled()), (0, 3));
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_the_supervisor_never_knew_of_is_not_told() {
        let mut outbox = Outbox::default();
        (0..2).for_each(|number| outbox.push(outcome(number)));
        assert_eq!(outbox.unsettled(), 1);
        outbox.send();
        outbox.arrived(1);
        assert_eq!(outbox.settled(), 1);
    }
}
