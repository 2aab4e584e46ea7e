//! Which queue comes first. Source: `kombu/utils/scheduling.py`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::options::QueueStrategy;
use crate::broker::parts::turns::Turns;
use crate::job::QueueName;

/// The order of the queues that the application asks for. A pool that asks for another one gets it.
#[derive(Debug)]
pub(super) struct Cycle {
    strategy: QueueStrategy,
    /// When each queue gave last, as a count.
    gave: Mutex<(u64, HashMap<QueueName, u64>)>,
}

/// What `claim.lua` is told.
pub(super) struct Plan {
    /// The queues, each once.
    pub queues: Vec<QueueName>,
    /// Whether each message is of the first queue that has one, of each in turn, or of any.
    pub word: &'static str,
}

impl Cycle {
    pub fn new(strategy: QueueStrategy) -> Self {
        Cycle {
            strategy,
            gave: Mutex::default(),
        }
    }

    /// For the next claim.
    pub fn plan(&self, queues: &[QueueName], turns: Turns) -> Plan {
        let first = turns.first().min(queues.len());
        let mut order: Vec<QueueName> = Vec::with_capacity(queues.len());
        for queue in queues[first..].iter().chain(&queues[..first]) {
            if !order.contains(queue) {
                order.push(queue.clone());
            }
        }
        let word = match (turns, self.strategy) {
            _ if order.len() < 2 => "strict",
            (Turns::Random { .. }, _) => "random",
            (Turns::RoundRobin { .. }, _) => "turn",
            (Turns::Strict, QueueStrategy::Priority) => "strict",
            (Turns::Strict, QueueStrategy::Sorted) => {
                order.sort();
                "strict"
            }
            (Turns::Strict, QueueStrategy::RoundRobin) => {
                let gave = self.gave.lock().unwrap_or_else(PoisonError::into_inner);
                order.sort_by_key(|queue| gave.1.get(queue).copied().unwrap_or(0));
                "turn"
            }
        };
        Plan { queues: order, word }
    }

    /// These queues gave, one after the other.
    pub fn gave<'q>(&self, queues: impl Iterator<Item = &'q QueueName>) {
        if self.strategy != QueueStrategy::RoundRobin {
            return;
        }
        let mut gave = self.gave.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues {
            gave.0 += 1;
            let count = gave.0;
            match gave.1.get_mut(queue) {
                Some(last) => *last = count,
                None => drop(gave.1.insert(queue.clone(), count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_that_gave_goes_last() {
        let queues = ["b", "a", "c"].map(|name| QueueName::new(name).unwrap());
        let names = |cycle: &Cycle, turns| {
            let plan = cycle.plan(&queues, turns);
            format!(
                "{}:{}",
                plan.word,
                plan.queues.iter().map(QueueName::to_string).collect::<String>()
            )
        };
        let cycle = Cycle::new(QueueStrategy::RoundRobin);
        assert_eq!(names(&cycle, Turns::Strict), "turn:bac");
        cycle.gave([&queues[0], &queues[1]].into_iter());
        assert_eq!(names(&cycle, Turns::Strict), "turn:cba");
        cycle.gave([&queues[0]].into_iter());
        assert_eq!(names(&cycle, Turns::Strict), "turn:cab");
        assert_eq!(names(&cycle, Turns::RoundRobin { first: 1 }), "turn:acb");
        assert_eq!(
            names(&Cycle::new(QueueStrategy::Sorted), Turns::Strict),
            "strict:abc"
        );
        assert_eq!(
            names(&Cycle::new(QueueStrategy::Priority), Turns::Strict),
            "strict:bac"
        );
        assert_eq!(
            names(
                &Cycle::new(QueueStrategy::Priority),
                Turns::Random { is_begun: false }
            ),
            "random:bac"
        );
    }
}
