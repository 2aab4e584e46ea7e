//! How many jobs of a key run, and which of them wait for others to end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::job::{Limit, QueueName};

/// Who runs, and who waits for them to end, of each key.
#[derive(Debug, Default)]
pub(super) struct Limits {
    running: HashMap<Arc<str>, u32>,
    /// Positions of blocked jobs in their queues, with their handles.
    blocked: HashMap<Arc<str>, BTreeMap<QueueName, BTreeMap<i64, i64>>>,
    /// Keys of which a place may be free for one of these.
    freed: BTreeSet<Arc<str>>,
}

impl Limits {
    /// A job of this key is claimed.
    pub fn begin(&mut self, limit: &Limit) {
        *self.running.entry(Arc::clone(&limit.key)).or_default() += 1;
    }

    /// A claim has ended.
    pub fn end(&mut self, limit: &Limit) {
        if let Some(running) = self.running.get_mut(&limit.key) {
            *running -= 1;
        }
        self.free(limit);
    }

    /// A place of this key may be free.
    pub fn free(&mut self, limit: &Limit) {
        self.freed.insert(Arc::clone(&limit.key));
    }

    /// A job waits for others of its key to end.
    pub fn block(&mut self, limit: &Limit, queue: &QueueName, position: i64, handle: i64) {
        let of_key = self.blocked.entry(Arc::clone(&limit.key)).or_default();
        let of_queue = of_key.entry(queue.clone()).or_default();
        of_queue.insert(position, handle);
    }

    /// It does no longer.
    pub fn unblock(&mut self, limit: &Limit, queue: &QueueName, position: i64) {
        let of_key = self.blocked.get_mut(&limit.key);
        if let Some(of_queue) = of_key.and_then(|of_key| of_key.get_mut(queue)) {
            of_queue.remove(&position);
        }
    }

    /// How many jobs of this queue wait for others of their key to end.
    pub fn blocked_in(&self, queue: &QueueName) -> u64 {
        let of_queue = self.blocked.values().filter_map(|of_key| of_key.get(queue));
        of_queue.map(|jobs| jobs.len() as u64).sum()
    }

    /// Whether a job of this key may not be claimed now.
    pub fn is_over(&self, limit: &Limit) -> bool {
        let running = self.running.get(&limit.key);
        running.is_some_and(|running| *running >= limit.max)
    }

    /// Blocked jobs, the first of each queue, that may be claimed now that others have ended. `max_of`: of a job.
    pub fn next(&mut self, max_of: impl Fn(i64) -> u32) -> Vec<i64> {
        let mut next = Vec::new();
        for key in std::mem::take(&mut self.freed) {
            let running = self.running.get(&key).copied().unwrap_or(0);
            for of_queue in self.blocked.get(&key).into_iter().flat_map(BTreeMap::values) {
                let of_queue = of_queue.values().copied().zip(running..);
                let fitting = of_queue.take_while(|(handle, running)| *running < max_of(*handle));
                next.extend(fitting.map(|(handle, _)| handle));
            }
        }
        next
    }
}
