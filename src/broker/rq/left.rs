//! Scheduled jobs that are overdue and that no scheduler moves into their queues: the log says so once.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::intervals::Beats;
use crate::broker::WorkerView;
use crate::time::Mono;

/// From one look to the next, which goes with a heartbeat of the workers.
const INTERVAL: Duration = Duration::from_secs(30);

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct LeftJobs {
    looks: Beats,
    /// The queues that the log named.
    told: Mutex<BTreeSet<String>>,
}

impl LeftJobs {
    /// The queues of these workers as a comma list, if it is time for a look.
    pub fn queues_to_look_at(&self, workers: &[(String, WorkerView)], now: Mono) -> Option<String> {
        if workers.is_empty() || !self.looks.is_due(INTERVAL, now) {
            return None;
        }
        self.looks.made(now);
        let queues: BTreeSet<&str> = workers
            .iter()
            .flat_map(|(_, worker)| worker.queues.iter().map(|queue| queue.as_str()))
            .collect();
        Some(queues.into_iter().collect::<Vec<_>>().join(","))
    }

    /// A look found such jobs in these queues.
    pub fn found(&self, queues: BTreeSet<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues.difference(&told) {
            tracing::warn!(
                queue,
                "scheduled jobs are overdue, and no scheduler moves them into their queue: add `--with-scheduler`"
            );
        }
        *told = queues;
    }
}
