//! What readers see of the jobs, and what people do with dead ones.

use super::store::{Job, Place, Slot, Store};
use crate::broker::DeadFilter;
use crate::job::{JobId, JobState, JobView, QueueName};
use crate::time::Unix;

impl Store {
    pub(super) fn find(&self, id: &JobId, now: Unix) -> Option<JobView> {
        let job = &self.jobs[self.ids.get(id)?];
        (!job.has_expired(now)).then(|| job.view())
    }

    pub(super) fn dead(&self, filter: &DeadFilter) -> Vec<JobView> {
        let mut dead: Vec<(Unix, i64)> = self
            .jobs
            .iter()
            .filter(|(_, job)| filter.queue.as_ref().is_none_or(|queue| job.new.queue == *queue))
            .filter(|(_, job)| filter.task.as_deref().is_none_or(|task| *job.new.task == *task))
            .filter_map(|(&handle, job)| match job.place {
                Place::Dead { ended } => Some((ended, handle)),
                _ => None,
            })
            .filter(|(ended, _)| filter.ended_by.is_none_or(|ended_by| *ended <= ended_by))
            .collect();
        dead.sort_unstable_by(|a, b| b.cmp(a));
        dead.truncate(filter.limit);
        dead.iter().map(|(_, handle)| self.jobs[handle].view()).collect()
    }

    pub(super) fn retry_dead(&mut self, ids: &[JobId], now: Unix) -> Vec<JobId> {
        self.promote(now);
        self.of_dead(ids, |store, handle| {
            if store.jobs[&handle].epoch == 0 {
                return false; // it never ran: its chain failed earlier
            }
            let key = store.jobs[&handle].new.unique_key.clone();
            if let Some(key) = key {
                if store.keys.contains_key(&key) {
                    return false;
                }
                store.keys.insert(key, handle);
            }
            let slot = Slot {
                position: store.next(),
                since: now,
            };
            if let Some(job) = store.jobs.get_mut(&handle) {
                // Whoever asks for it now wants it whatever the time.
                job.new.begin_by = None;
                (job.failures, job.losses, job.error) = (0, 0, None);
                job.attempts.clear();
            }
            store.put(handle, Place::Waiting(slot));
            store.after_retry(handle);
            true
        })
    }

    pub(super) fn delete_dead(&mut self, ids: &[JobId]) -> Vec<JobId> {
        self.of_dead(ids, |store, handle| {
            store.remove(handle);
            true
        })
    }

    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.queues.keys().cloned().collect()
    }

    fn of_dead(&mut self, ids: &[JobId], mut act: impl FnMut(&mut Self, i64) -> bool) -> Vec<JobId> {
        let mut done = Vec::new();
        for id in ids {
            if let Some(&handle) = self.ids.get(id)
                && matches!(self.jobs[&handle].place, Place::Dead { .. })
                && act(self, handle)
            {
                done.push(id.clone());
            }
        }
        done
    }
}

impl Job {
    pub(super) fn state(&self) -> JobState {
        match self.place {
            Place::Waiting(_) => JobState::Waiting,
            Place::Blocked(_) => JobState::Blocked,
            Place::Scheduled(_) => JobState::Scheduled,
            Place::Deferred => JobState::Deferred,
            Place::Running { .. } => JobState::Running,
            Place::Finished { .. } => JobState::Finished,
            Place::Dead { .. } => JobState::Dead,
        }
    }

    pub(super) fn view(&self) -> JobView {
        let mut view = JobView {
            payload: self.payload.to_vec(),
            enqueued: self.enqueued,
            failures: Some(self.failures),
            losses: Some(self.losses),
            error: self.error.clone(),
            attempts: self.attempts.iter().cloned().collect(),
            ..JobView::new(
                self.new.id.clone(),
                self.new.queue.clone(),
                &self.new.task,
                self.state(),
            )
        };
        match &self.place {
            Place::Scheduled(due) => view.due = Some(*due),
            Place::Running { progress, .. } => view.progress.clone_from(progress),
            Place::Finished {
                started,
                ended,
                result,
                ..
            } => {
                (view.started, view.ended) = (*started, Some(*ended));
                view.result = Some(result.clone());
            }
            Place::Dead { ended } => {
                view.started = self.attempts.back().and_then(|attempt| attempt.started);
                view.ended = Some(*ended);
            }
            Place::Waiting(_) | Place::Blocked(_) | Place::Deferred => {}
        }
        view
    }
}
