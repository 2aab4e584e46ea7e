//! Which queue of a pool gives the next job.

use crate::job::{QueueName, QueueOrder};

/// How one claim chooses among its queues: a law for each of its jobs. Queues are known by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// The first queue that has a job.
    Strict,
    /// The next queue that has a job, from this one on; the one that gave goes last.
    RoundRobin {
        /// Whose turn it is.
        first: usize,
    },
    /// Any of those that have a job, drawn anew for each; but the very first job is of the first queue that has one.
    Random {
        /// Whether a job was taken before.
        is_begun: bool,
    },
}

impl Turns {
    /// For a pool with these queues, of which `last` gave its last job.
    pub fn new(order: QueueOrder, queues: &[QueueName], last: Option<&QueueName>) -> Self {
        let next_of = |last| queues.iter().position(|queue| queue == last).map(|at| at + 1);
        match order {
            // Without a choice, a claim takes the shortest way.
            _ if queues.len() < 2 => Turns::Strict,
            QueueOrder::Strict => Turns::Strict,
            QueueOrder::RoundRobin => Turns::RoundRobin {
                first: last.and_then(next_of).unwrap_or(0) % queues.len(),
            },
            QueueOrder::Random => Turns::Random {
                is_begun: last.is_some(),
            },
        }
    }

    /// The same, when a job of `last` was taken meanwhile.
    pub fn after(self, queues: &[QueueName], last: Option<&QueueName>) -> Self {
        match (self, last) {
            (Turns::RoundRobin { .. }, Some(_)) => Turns::new(QueueOrder::RoundRobin, queues, last),
            (Turns::Random { .. }, Some(_)) => Turns::Random { is_begun: true },
            _ => self,
        }
    }

    /// The queue that is looked into first, where there is a first.
    pub fn first(self) -> usize {
        match self {
            Turns::RoundRobin { first } => first,
            Turns::Strict | Turns::Random { .. } => 0,
        }
    }

    /// The queue of each job of a claim for up to `limit` jobs, when the queues have so many.
    pub fn share(self, has: &[usize], limit: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
        let mut left = has.to_vec();
        let mut queues: Vec<usize> = (0..has.len()).filter(|at| has[*at] > 0).collect();
        // Where in `queues` the next job is taken.
        let mut at = queues.partition_point(|queue| *queue < self.first());
        let mut plan = Vec::new();
        while plan.len() < limit && !queues.is_empty() {
            at = match self {
                Turns::Strict => 0,
                Turns::RoundRobin { .. } => at % queues.len(),
                Turns::Random { is_begun: false } if plan.is_empty() => 0,
                Turns::Random { .. } => rng.usize(..queues.len()),
            };
            let queue = queues[at];
            plan.push(queue);
            left[queue] -= 1;
            match left[queue] {
                // The next one has moved to its place.
                0 => drop(queues.remove(at)),
                _ => at += 1,
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(turns: Turns, has: &[usize], limit: usize) -> Vec<usize> {
        turns.share(has, limit, &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn the_queue_that_gave_goes_last() {
        let turn = |first| Turns::RoundRobin { first };
        assert_eq!(share(turn(0), &[2, 3, 1], 9), [0, 1, 2, 0, 1, 1]);
        assert_eq!(share(turn(2), &[2, 3, 1], 4), [2, 0, 1, 0]);
        assert_eq!(
            share(turn(1), &[2, 0, 2], 9),
            [2, 0, 2, 0],
            "one without jobs has no turn"
        );
        assert_eq!(share(turn(2), &[1, 1, 0], 9), [0, 1]);
        assert_eq!(share(Turns::Strict, &[2, 0, 2], 3), [0, 0, 2]);
        assert!(share(turn(0), &[], 3).is_empty());
    }

    #[test]
    fn each_job_is_drawn_among_the_queues_that_have_one() {
        let random = |is_begun| Turns::Random { is_begun };
        let plan = share(random(true), &[400, 0, 400], 400);
        let of_first = plan.iter().filter(|queue| **queue == 0).count();
        assert!((100..300).contains(&of_first), "{of_first}");
        assert!(!plan.contains(&1));
        assert_eq!(share(random(true), &[3, 3], 9).len(), 6);
        let first =
            |is_begun, seed| random(is_begun).share(&[0, 1, 1], 2, &mut fastrand::Rng::with_seed(seed))[0];
        assert!(
            (0..100).all(|seed| first(false, seed) == 1),
            "the first is of the first queue"
        );
        assert!((0..100).any(|seed| first(true, seed) == 2));
    }

    #[test]
    fn the_next_turn_is_the_one_behind_the_last() {
        let queues: Vec<_> = ["a", "b", "c"].map(|name| QueueName::new(name).unwrap()).into();
        let first = |order, last: Option<usize>| Turns::new(order, &queues, last.map(|at| &queues[at]));
        let turn = |first| Turns::RoundRobin { first };
        assert_eq!(first(QueueOrder::RoundRobin, None), turn(0));
        assert_eq!(first(QueueOrder::RoundRobin, Some(0)), turn(1));
        assert_eq!(first(QueueOrder::RoundRobin, Some(2)), turn(0));
        assert_eq!(first(QueueOrder::Strict, Some(0)), Turns::Strict);
        let random = Turns::new(QueueOrder::Random, &queues, None);
        assert_eq!(random, Turns::Random { is_begun: false });
        assert_eq!(
            random.after(&queues, Some(&queues[1])),
            Turns::Random { is_begun: true }
        );
        let one = Turns::new(QueueOrder::Random, &queues[..1], None);
        assert_eq!(one, Turns::Strict, "there is nothing to choose");
    }
}
