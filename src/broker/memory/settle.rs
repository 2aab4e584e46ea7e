//! What becomes of jobs that were claimed.

use std::time::Duration;

use super::store::{Place, Slot, Store};
use crate::job::{Attempt, Claim, JobError, RunStamp, Settlement, Verdict};
use crate::time::Unix;

impl Store {
    pub(super) fn settle(
        &mut self,
        session: u64,
        settlements: Vec<Settlement<Claim>>,
        result_ttl: Duration,
        now: Unix,
    ) -> Vec<bool> {
        let done = settlements
            .into_iter()
            .map(|settlement| self.settle_one(session, settlement, result_ttl, now))
            .collect();
        self.unblock();
        done
    }

    fn settle_one(
        &mut self,
        session: u64,
        settled: Settlement<Claim>,
        result_ttl: Duration,
        now: Unix,
    ) -> bool {
        let Claim { handle, epoch, .. } = settled.of;
        let Some(job) = self.jobs.get_mut(&handle).filter(|job| job.epoch == epoch) else {
            return false;
        };
        let (slot, stop) = match &job.place {
            Place::Running {
                session: holder,
                slot,
                stop,
                ..
            } if *holder == session => (*slot, stop.clone()),
            _ => return false,
        };
        if let Some(attempt) = Attempt::of(&settled.verdict, settled.run.as_ref()) {
            job.note(attempt);
        }
        // What was called off meanwhile does not come back.
        let ends = matches!(
            settled.verdict,
            Verdict::GiveBack | Verdict::Again { .. } | Verdict::Canceled
        );
        if let Some(stop) = stop.filter(|_| ends) {
            self.bury(handle, stop.error, result_ttl, now);
            return true;
        }
        match settled.verdict {
            Verdict::Finish { result } => self.finish((handle, settled.run), result, result_ttl, now),
            // No runtime settles with this broker itself; one that says so has no result.
            Verdict::Forget => self.finish((handle, settled.run), b"null".to_vec(), result_ttl, now),
            Verdict::GiveBack => self.put(handle, Place::Waiting(slot)),
            Verdict::Again {
                due,
                at_front,
                failures,
                losses,
                error,
            } => {
                (job.failures, job.losses) = (failures, losses);
                job.error = Some(error);
                job.new.at_front = at_front;
                let place = match due {
                    Some(due) if due > now => Place::Scheduled(due),
                    _ if at_front => Place::Waiting(slot),
                    _ => Place::Waiting(Slot {
                        position: self.next(),
                        since: now,
                    }),
                };
                self.put(handle, place);
            }
            Verdict::Bury {
                error,
                failures,
                losses,
            } => {
                (job.failures, job.losses) = (failures, losses);
                self.bury(handle, error, result_ttl, now);
            }
            Verdict::Stopped => self.bury(handle, JobError::stopped(), result_ttl, now),
            Verdict::Canceled => self.bury(handle, JobError::canceled(), result_ttl, now),
        }
        true
    }

    fn finish(
        &mut self,
        (handle, run): (i64, Option<RunStamp>),
        result: Vec<u8>,
        result_ttl: Duration,
        now: Unix,
    ) {
        let Some(job) = self.jobs.get(&handle) else {
            return;
        };
        let (ttl, ties) = (job.new.result_ttl.unwrap_or(result_ttl), job.ties);
        self.release_key(handle);
        let group_keeps = self.after_success(ties, &result, result_ttl, now);
        if ttl.is_zero() {
            return self.remove(handle);
        }
        let place = Place::Finished {
            started: run.map(|run| run.started),
            ended: now,
            expires: if group_keeps { Unix(i64::MAX) } else { now + ttl },
            result,
        };
        self.put(handle, place);
    }
}
