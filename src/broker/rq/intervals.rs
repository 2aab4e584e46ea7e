//! What is due again after a time: the housekeeping of queues, and the heartbeats of what is in hand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::job::QueueName;
use crate::time::Mono;

/// When the housekeeping of some queues is due.
#[derive(Debug, Default)]
pub(super) struct Housekeeping(Mutex<HashMap<Vec<QueueName>, Mono>>);

impl Housekeeping {
    /// When that of these queues is due; `None`: it was never done.
    pub fn due(&self, queues: &[QueueName]) -> Option<Mono> {
        let due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.get(queues).copied()
    }

    /// It is done, and due again then.
    pub fn done(&self, queues: &[QueueName], again: Mono) {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.insert(queues.to_vec(), again);
    }
}

/// The heartbeats of what is in hand.
#[derive(Debug, Default)]
pub(super) struct Beats(Mutex<Option<Mono>>);

impl Beats {
    /// Whether the next one is due, where one is to come each `interval`. An eighth before its time it is.
    pub fn is_due(&self, interval: Duration, now: Mono) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| now.since(last) + now.since(last) / 8 >= interval)
    }

    /// One was made.
    pub fn made(&self, now: Mono) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}
