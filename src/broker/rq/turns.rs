//! Which queue comes first.

use std::sync::{Mutex, PoisonError};

use super::options::DequeueStrategy;
use crate::job::QueueName;

/// The order of the queues. Source: `rq/worker/base.py`, `reorder_queues`.
#[derive(Debug)]
pub(super) struct Turns {
    strategy: DequeueStrategy,
    /// The queue of the last job taken.
    served: Mutex<Option<QueueName>>,
}

impl Turns {
    pub fn new(strategy: DequeueStrategy) -> Self {
        Turns {
            strategy,
            served: Mutex::default(),
        }
    }

    /// The last job was of this queue.
    pub fn served(&self, queue: &QueueName) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue.clone());
    }

    /// The queues; with the strategy `round_robin` the one after the last that was served comes first.
    pub fn order<'q>(&self, queues: &'q [QueueName]) -> impl Iterator<Item = &'q QueueName> + use<'q> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match (self.strategy, &*served) {
            (DequeueStrategy::RoundRobin, Some(last)) => queues
                .iter()
                .position(|queue| queue == last)
                .map_or(0, |at| at + 1),
            _ => 0,
        };
        queues[at..].iter().chain(&queues[..at])
    }
}
