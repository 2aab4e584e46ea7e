//! Messages that came and for which their pool has no room yet.
//!
//! They wait here for a worker, as a stock worker holds what it prefetched: each return to a queue is counted there, and may
//! end a message. Only what has waited for long goes back, for somebody who has room.

use std::collections::VecDeque;
use std::time::Duration;

use crate::broker::parts::turns::Turns;
use crate::job::{Claimed, QueueName};
use crate::time::Mono;

/// After so long a message goes back.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// One that came back so often stays here. RabbitMQ 4 gives a message of a quorum queue up after 20 returns.
const RETURNS_MAX: u32 = 5;

/// All of a pool, in the order in which they are to run.
#[derive(Debug, Default)]
pub(super) struct Surplus(VecDeque<Waiting>);

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting {
    pub job: Claimed,
    pub since: Mono,
    /// How often it came back to its queue, as far as the server counts that.
    pub returns: u32,
}

impl Waiting {
    /// When it may go back.
    fn patience_ends(&self) -> Option<Mono> {
        (self.returns < RETURNS_MAX).then(|| self.since + PATIENCE)
    }
}

impl Surplus {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One came.
    pub fn push(&mut self, job: Waiting) {
        self.0.push_back(job);
    }

    /// The pool gave one back that came before all others.
    pub fn push_front(&mut self, job: Waiting) {
        self.0.push_front(job);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are of a queue.
    fn of(&self, queue: &QueueName) -> usize {
        self.0
            .iter()
            .filter(|waiting| waiting.job.job.queue == *queue)
            .count()
    }

    /// Takes so many of them, each of these queues in its turn; first those of queues that are served no more.
    pub fn take(
        &mut self,
        count: usize,
        queues: &[QueueName],
        turns: Turns,
        rng: &mut fastrand::Rng,
    ) -> Vec<Claimed> {
        if queues.len() == 1 {
            return self.0.drain(..count).map(|waiting| waiting.job).collect();
        }
        let has: Vec<usize> = queues.iter().map(|queue| self.of(queue)).collect();
        let mut taken = Vec::with_capacity(count);
        let is_left = |waiting: &Waiting| !queues.contains(&waiting.job.job.queue);
        while taken.len() < count
            && let Some(at) = self.0.iter().position(is_left)
        {
            taken.extend(self.0.remove(at).map(|waiting| waiting.job));
        }
        for at in turns.share(&has, count - taken.len(), rng) {
            let of_queue = |waiting: &Waiting| waiting.job.job.queue == queues[at];
            if let Some(at) = self.0.iter().position(of_queue) {
                taken.extend(self.0.remove(at).map(|waiting| waiting.job));
            }
        }
        taken
    }

    /// Takes those that fit, in their order.
    pub fn extract(&mut self, goes_back: impl Fn(&Waiting) -> bool) -> Vec<Claimed> {
        let (out, rest): (VecDeque<_>, _) = std::mem::take(&mut self.0).into_iter().partition(goes_back);
        self.0 = rest;
        out.into_iter().map(|waiting| waiting.job).collect()
    }

    /// When the first one has waited for too long.
    pub fn patience_ends(&self) -> Option<Mono> {
        self.0.iter().filter_map(Waiting::patience_ends).min()
    }

    /// Whether this one has.
    pub fn is_overdue(waiting: &Waiting, now: Mono) -> bool {
        waiting.patience_ends().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::celery::amqp::tests::job;

    fn waiting(id: &str, queue: &str, since: u64, returns: u32) -> Waiting {
        Waiting {
            job: job(id, queue),
            since: Mono::default() + Duration::from_secs(since),
            returns,
        }
    }

    fn ids(jobs: &[Claimed]) -> Vec<&str> {
        jobs.iter().map(|job| job.job.id.as_str()).collect()
    }

    #[test]
    fn each_queue_has_its_turn() {
        let queues = ["a", "b"].map(|name| QueueName::new(name).unwrap());
        let mut surplus = Surplus::default();
        for (id, queue) in [("1", "b"), ("2", "a"), ("3", "b"), ("4", "a")] {
            surplus.push(waiting(id, queue, 0, 0));
        }
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!(
            ids(&surplus.take(3, &queues, Turns::Strict, &mut rng)),
            ["2", "4", "1"]
        );
        surplus.push_front(waiting("0", "b", 0, 0));
        assert_eq!(
            ids(&surplus.take(2, &queues[1..], Turns::Strict, &mut rng)),
            ["0", "3"]
        );
    }

    #[test]
    fn what_has_waited_for_long_goes_back_unless_it_often_did() {
        let mut surplus = Surplus::default();
        surplus.push(waiting("often", "a", 0, RETURNS_MAX));
        surplus.push(waiting("old", "a", 1, 0));
        surplus.push(waiting("new", "a", 2, 0));
        let at = Mono::default() + Duration::from_secs(1) + PATIENCE;
        assert_eq!(surplus.patience_ends(), Some(at));
        let gone = surplus.extract(|waiting| Surplus::is_overdue(waiting, at));
        assert_eq!((ids(&gone), surplus.len()), (vec!["old"], 2));
    }
}
