//! Jobs that are not to begin after a time of their own.

use std::time::Duration;

use super::store::{CalledOff, Place, Store};
use crate::broker::source::StopHow;
use crate::job::JobError;
use crate::time::Unix;

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
}
