//! Jobs of which only so many with the same key run at once, and jobs that are not to begin after a time of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::store::{CalledOff, Job, Place, Slot, Store};
use crate::broker::source::StopHow;
use crate::job::{JobError, QueueName};
use crate::time::Unix;

/// Who runs, and who waits for them to end, of each key.
#[derive(Debug, Default)]
pub(super) struct Limits {
    running: HashMap<Arc<str>, u32>,
    /// Positions of blocked jobs in their queues, with their handles.
    blocked: HashMap<Arc<str>, BTreeMap<QueueName, BTreeMap<i64, i64>>>,
    /// Of these, claims have ended that are still counted in no queue.
    freed: BTreeSet<Arc<str>>,
}

impl Limits {
    /// A job leaves a place, or comes to one.
    pub(super) fn note(&mut self, handle: i64, job: &Job, place: &Place, comes: bool) {
        let Some(limit) = &job.new.limit else {
            return;
        };
        match place {
            Place::Running { .. } => {
                let running = self.running.entry(Arc::clone(&limit.key)).or_default();
                if comes {
                    *running += 1;
                } else {
                    *running -= 1;
                    self.freed.insert(Arc::clone(&limit.key));
                }
            }
            Place::Blocked(slot) => {
                let of_key = self.blocked.entry(Arc::clone(&limit.key)).or_default();
                let of_queue = of_key.entry(job.new.queue.clone()).or_default();
                if comes {
                    of_queue.insert(slot.position, handle);
                } else {
                    of_queue.remove(&slot.position);
                }
            }
            _ => {}
        }
    }

    /// Whether a job may not be claimed now.
    pub(super) fn is_over(&self, job: &Job) -> bool {
        let Some(limit) = &job.new.limit else {
            return false;
        };
        let running = self.running.get(&limit.key);
        running.is_some_and(|running| *running >= limit.max)
    }
}

impl Store {
    /// Lets the first blocked jobs of keys with free places go back to their queues.
    pub(super) fn unblock(&mut self) {
        for key in std::mem::take(&mut self.limits.freed) {
            let running = self.limits.running.get(&key).copied().unwrap_or(0);
            let Some(queues) = self.limits.blocked.get(&key) else {
                continue;
            };
            let mut back: Vec<i64> = Vec::new();
            for of_queue in queues.values() {
                let fits = |(handle, running): &(i64, u32)| {
                    let limit = self.jobs[handle].new.limit.as_ref();
                    limit.is_none_or(|limit| *running < limit.max)
                };
                let next = of_queue.values().copied().zip(running..).take_while(fits);
                back.extend(next.map(|(handle, _)| handle));
            }
            for handle in back {
                if let Place::Blocked(slot) = self.jobs[&handle].place {
                    self.put(handle, Place::Waiting(slot));
                }
            }
        }
    }

    /// Ends jobs whose time is over; one that is claimed and has not begun is called off.
    /// Returns whether there were any.
    pub(super) fn expire(&mut self, result_ttl: Duration, now: Unix) -> bool {
        let before = self.begin_by.len();
        while let Some(&(begin_by, handle)) = self.begin_by.first()
            && begin_by <= now
        {
            self.begin_by.pop_first();
            let Some(job) = self.jobs.get_mut(&handle) else {
                continue;
            };
            if job.new.begin_by != Some(begin_by) {
                continue;
            }
            let error = JobError::expired(begin_by);
            match &mut job.place {
                Place::Finished { .. } | Place::Dead { .. } | Place::Running { begun: true, .. } => {}
                Place::Running { stop, .. } => {
                    stop.get_or_insert(CalledOff {
                        how: StopHow::IfNotBegun,
                        error,
                    });
                }
                _ => {
                    self.take_from_its_place(handle);
                    self.bury(handle, error, result_ttl, now);
                }
            }
        }
        self.unblock();
        self.begin_by.len() < before
    }

    /// Takes a job that nobody holds from where it waits.
    pub(super) fn take_from_its_place(&mut self, handle: i64) {
        let Some(job) = self.jobs.get(&handle) else {
            return;
        };
        let queue = self.queues.get_mut(&job.new.queue);
        match (&job.place, queue) {
            (Place::Waiting(Slot { position, .. }), Some(queue)) => {
                queue.waiting.remove(position);
                // It may have stood there for a place that is free.
                let key = job.new.limit.as_ref().map(|limit| Arc::clone(&limit.key));
                self.limits.freed.extend(key);
            }
            (Place::Scheduled(due), Some(queue)) => {
                self.scheduled.remove(&(*due, handle));
                queue.scheduled -= 1;
            }
            _ => {}
        }
    }
}
