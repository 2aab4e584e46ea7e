//! Jobs that are not to begin after a time of their own, and what is kept only for a time.

use std::time::Duration;

use super::store::{CalledOff, Job, Place, Store};
use crate::broker::Maintained;
use crate::broker::source::StopHow;
use crate::job::JobError;
use crate::time::Unix;

/// Expired results deleted by one call of `maintain`.
const EXPIRED_MAX: usize = 1000;

impl Store {
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

    pub(super) fn maintain(
        &mut self,
        session: u64,
        result_ttl: Duration,
        dead_ttl: Option<Duration>,
        now: Unix,
    ) -> Maintained {
        self.promote(now);
        let recovered = self.recover(session, result_ttl, now);
        self.expire(result_ttl, now);
        let expired: Vec<i64> = self
            .expiring
            .iter()
            .take_while(|&&(expires, _)| expires <= now)
            .take(EXPIRED_MAX)
            .map(|&(_, handle)| handle)
            .collect();
        for &handle in &expired {
            self.remove(handle);
        }
        Maintained {
            recovered,
            expired: expired.len() as u64 + self.forget_dead(dead_ttl, now) + self.forget_groups(now),
        }
    }

    /// Deletes some dead letters whose time ended; how many.
    fn forget_dead(&mut self, ttl: Option<Duration>, now: Unix) -> u64 {
        let is_over = |job: &Job| match job.place {
            Place::Dead { ended } => ttl.is_some_and(|ttl| ended + ttl <= now),
            _ => false,
        };
        let over = self.jobs.iter().filter(|(_, job)| is_over(job));
        let over: Vec<i64> = over.map(|(&handle, _)| handle).take(EXPIRED_MAX).collect();
        for &handle in &over {
            self.remove(handle);
        }
        over.len() as u64
    }
}
