//! Jobs that are canceled or stopped, and claims that come back.

use std::time::Duration;

use super::store::{CalledOff, Place, Slot, Store};
use crate::broker::Canceled;
use crate::broker::source::StopHow;
use crate::job::{Attempt, Claim, JobError, JobId, Progress};
use crate::time::Unix;

impl Store {
    pub(super) fn note_begun(&mut self, session: u64, claims: &[Claim]) {
        for claim in claims {
            if let Some(Place::Running { begun, .. }) = self.held(session, claim) {
                *begun = true;
            }
        }
    }

    pub(super) fn note_progress(&mut self, session: u64, news: Vec<(Claim, Progress)>) {
        for (claim, told) in news {
            if let Some(Place::Running { progress, .. }) = self.held(session, &claim) {
                *progress = Some(told);
            }
        }
    }

    /// The place of a job that this session holds by this claim.
    fn held(&mut self, session: u64, claim: &Claim) -> Option<&mut Place> {
        let job = self.jobs.get_mut(&claim.handle)?;
        let is_ours = job.epoch == claim.epoch
            && matches!(job.place, Place::Running { session: holder, .. } if holder == session);
        is_ours.then_some(&mut job.place)
    }

    /// Which of these claims were called off, and how. A cancel of one that has begun came too late.
    pub(super) fn called_off(&self, session: u64, claims: &[Claim]) -> Vec<(usize, StopHow)> {
        let how = |(at, claim): (usize, &Claim)| {
            let job = self
                .jobs
                .get(&claim.handle)
                .filter(|job| job.epoch == claim.epoch)?;
            match &job.place {
                Place::Running {
                    session: holder,
                    stop: Some(stop),
                    begun,
                    ..
                } if *holder == session && !(*begun && stop.how == StopHow::IfNotBegun) => {
                    Some((at, stop.how))
                }
                _ => None,
            }
        };
        claims.iter().enumerate().filter_map(how).collect()
    }

    /// Cancels or stops jobs; one answer a job.
    pub(super) fn cancel(
        &mut self,
        ids: &[JobId],
        how: StopHow,
        result_ttl: Duration,
        now: Unix,
    ) -> Vec<Canceled> {
        self.promote(now);
        let cancel = |id| self.cancel_one(id, how, result_ttl, now);
        let answers = ids.iter().map(cancel).collect();
        self.unblock();
        answers
    }

    fn cancel_one(&mut self, id: &JobId, how: StopHow, result_ttl: Duration, now: Unix) -> Canceled {
        let Some(&handle) = self.ids.get(id) else {
            return Canceled::Unknown;
        };
        let Some(job) = self.jobs.get_mut(&handle) else {
            return Canceled::Unknown;
        };
        match &mut job.place {
            Place::Finished { expires, .. } if *expires <= now => return Canceled::Unknown,
            Place::Finished { .. } | Place::Dead { .. } => return Canceled::Ended,
            Place::Running { begun: true, .. } if how == StopHow::IfNotBegun => return Canceled::Runs,
            Place::Running { stop, .. } => {
                let error = how.error();
                *stop = Some(CalledOff { how, error });
                return Canceled::Asked;
            }
            Place::Waiting(_) | Place::Blocked(_) | Place::Scheduled(_) | Place::Deferred => {}
        }
        self.take_from_its_place(handle);
        self.bury(handle, JobError::canceled(), result_ttl, now);
        Canceled::Done
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
                if let Some(limit) = &job.new.limit {
                    self.limits.free(limit);
                }
            }
            (Place::Scheduled(due), Some(queue)) => {
                self.scheduled.remove(&(*due, handle));
                queue.scheduled -= 1;
            }
            _ => {}
        }
    }

    /// Lets the first blocked jobs of keys with free places go back to their queues.
    pub(super) fn unblock(&mut self) {
        let jobs = &self.jobs;
        let max_of = |handle| {
            jobs[&handle]
                .new
                .limit
                .as_ref()
                .map_or(u32::MAX, |limit| limit.max)
        };
        for handle in self.limits.next(max_of) {
            if let Place::Blocked(slot) = self.jobs[&handle].place {
                self.put(handle, Place::Waiting(slot));
            }
        }
    }

    /// A job that stands nowhere at the moment is a dead letter.
    pub(super) fn bury(&mut self, handle: i64, error: JobError, result_ttl: Duration, now: Unix) {
        let Some(job) = self.jobs.get_mut(&handle) else {
            return;
        };
        job.error = Some(error.clone());
        let ties = job.ties;
        self.release_key(handle);
        self.after_failure(handle, ties, &error, result_ttl, now);
        self.put(handle, Place::Dead { ended: now });
    }

    /// Gives back what these held; `lost`: their holders are no more, and what had begun counts as lost.
    pub(super) fn give_back(
        &mut self,
        of: impl Fn(u64) -> bool,
        lost: bool,
        result_ttl: Duration,
        now: Unix,
    ) -> u64 {
        let back: Vec<i64> = self
            .jobs
            .iter()
            .filter_map(|(&handle, job)| match job.place {
                Place::Running { session, .. } if of(session) => Some(handle),
                _ => None,
            })
            .collect();
        for &handle in &back {
            let Some(job) = self.jobs.get_mut(&handle) else {
                continue;
            };
            let Place::Running {
                slot, begun, stop, ..
            } = job.place.clone()
            else {
                continue;
            };
            if begun && lost {
                job.losses += 1;
                let error = JobError::supervisor_lost();
                job.note(Attempt::new(&error, None));
                job.error = Some(error);
            }
            match stop {
                Some(stop) => self.bury(handle, stop.error, result_ttl, now),
                None => self.put(handle, Place::Waiting(slot)),
            }
        }
        self.unblock();
        back.len() as u64
    }
}
