//! The verbs of supervisors: claim, extend, settle, and what a lease needs.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row};

use super::error::Failure;
use super::store::{EXPIRED_MAX, Store, duration, millis};
use super::ties::Ties;
use crate::broker::Maintained;
use crate::job::{Claim, JobError, RunStamp, Settlement, Verdict};

/// Where a claimed job came from.
struct Slot {
    queue: i64,
    position: i64,
    since: i64,
    /// Whether somebody has called it off: see table `running`.
    stop: i64,
    /// The limit that it counted for.
    limit_key: Option<String>,
}

/// What a job left behind that ended well.
struct Leaving {
    ttl_ms: Option<i64>,
    ties: Ties,
    limit_key: Option<String>,
}

impl Store {
    /// Begins this handle's lease, or renews it.
    pub(super) fn hold_lease(&self) -> Result<(), Failure> {
        // Locked first, seen by others after the commit: they never meet a lease without its lock.
        let bell = match self.bell.hold(self.session) {
            Ok(()) => self.bell.inode().cast_signed(),
            // A file system without locks: others wait for the lease to run out.
            Err(_) => 0,
        };
        let mut hold = self.conn.prepare_cached(
            "INSERT INTO sessions (session, expires, expires_monotonic, bell) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (session) DO UPDATE
             SET expires = excluded.expires, expires_monotonic = excluded.expires_monotonic, bell = excluded.bell",
        )?;
        let (expires, monotonic) = self.lease_end();
        hold.execute([self.session, expires, monotonic, bell])?;
        Ok(())
    }

    /// Renews this handle's lease, if it has one.
    pub(super) fn extend(&self) -> Result<(), Failure> {
        let mut extend = self
            .conn
            .prepare_cached("UPDATE sessions SET expires = ?2, expires_monotonic = ?3 WHERE session = ?1")?;
        let (expires, monotonic) = self.lease_end();
        extend.execute([self.session, expires, monotonic])?;
        Ok(())
    }

    /// By the clock of the wall, and by the monotonic one.
    fn lease_end(&self) -> (i64, i64) {
        let expires = self.now + self.settings.lease;
        let monotonic = self.monotonic.saturating_add(millis(self.settings.lease));
        (expires.0, monotonic)
    }

    /// Carries out verdicts; whether each took effect.
    pub(super) fn settle(&mut self, settlements: &[Settlement<Claim>]) -> Result<Vec<bool>, Failure> {
        self.promote()?;
        let mut done = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let Settlement {
                of: claim,
                verdict,
                run,
            } = settlement;
            done.push(match verdict {
                Verdict::Finish { result } => self.finish(claim, result, run.as_ref())?,
                // No runtime settles with an embedded broker itself; one that says so has no result.
                Verdict::Forget => self.finish(claim, b"null", run.as_ref())?,
                _ => match self.take_back(claim)? {
                    None => false,
                    Some(mut slot) => {
                        self.freed.borrow_mut().extend(slot.limit_key.take());
                        self.unwind(claim, slot, verdict)?;
                        self.note_attempt(claim.handle, verdict, run.as_ref())?;
                        true
                    }
                },
            });
        }
        self.unblock()?;
        self.rings |= done.contains(&true);
        Ok(done)
    }

    fn finish(&self, claim: &Claim, result: &[u8], run: Option<&RunStamp>) -> Result<bool, Failure> {
        let held = self
            .conn
            .prepare_cached("DELETE FROM running WHERE handle = ?1 AND session = ?2 AND epoch = ?3")?
            .execute((claim.handle, self.session, claim.epoch))?;
        if held == 0 {
            return Ok(false);
        }
        let Some(left) = self.leave(claim.handle)? else {
            return Ok(true);
        };
        self.freed.borrow_mut().extend(left.limit_key);
        let ties = left.ties;
        let group_keeps = match ties.is_some() {
            true => self.tell_others(claim.handle, || self.after_success(ties, result))?,
            false => false,
        };
        let ttl = left.ttl_ms.map_or(self.settings.result_ttl, duration);
        if ttl.is_zero() {
            self.forget(claim.handle)?;
            return Ok(true);
        }
        let expires = if group_keeps { i64::MAX } else { (self.now + ttl).0 };
        self.conn
            .prepare_cached(
                "INSERT INTO finished (handle, ended, expires, result, started) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                claim.handle,
                self.now.0,
                expires,
                result,
                run.map(|run| run.started.0),
            ))?;
        Ok(true)
    }

    /// Frees the unique key of a job that ended well; `None`: table `jobs` lacks it.
    fn leave(&self, handle: i64) -> Result<Option<Leaving>, Failure> {
        let mut options = self.conn.prepare_cached(
            "SELECT result_ttl_ms, unique_key, grp, next, limit_key FROM jobs WHERE handle = ?1",
        )?;
        let mut options = options.query([handle])?;
        let Some(job) = options.next()? else {
            return Ok(None);
        };
        self.release_key(job.get_ref(1)?)?;
        Ok(Some(Leaving {
            ttl_ms: job.get(0)?,
            ties: read_ties(job, 2)?,
            limit_key: job.get(4)?,
        }))
    }

    /// Ends a claim; `None` when this handle does not hold it.
    fn take_back(&self, claim: &Claim) -> Result<Option<Slot>, Failure> {
        let mut held = self.conn.prepare_cached(
            "SELECT queue, position, since, stop, limit_key FROM running
             WHERE handle = ?1 AND session = ?2 AND epoch = ?3",
        )?;
        let slot = held
            .query_row((claim.handle, self.session, claim.epoch), |row| {
                Ok(Slot {
                    queue: row.get(0)?,
                    position: row.get(1)?,
                    since: row.get(2)?,
                    stop: row.get(3)?,
                    limit_key: row.get(4)?,
                })
            })
            .optional()?;
        if slot.is_some() {
            let mut leave = self
                .conn
                .prepare_cached("DELETE FROM running WHERE handle = ?1")?;
            leave.execute([claim.handle])?;
        }
        Ok(slot)
    }

    /// Carries out a verdict that is no success, on a job that stands nowhere at the moment.
    fn unwind(&self, claim: &Claim, slot: Slot, verdict: &Verdict) -> Result<(), Failure> {
        let handle = claim.handle;
        let epoch = i64::from(claim.epoch);
        if let Verdict::GiveBack | Verdict::Again { .. } | Verdict::Canceled = verdict
            && let Some(error) = self.why_called_off(handle, slot.stop)?
        {
            return self.bury_unblamed(handle, epoch, &error);
        }
        match verdict {
            Verdict::Finish { .. } | Verdict::Forget => Ok(()),
            // Where it was claimed from: ahead of what waits, and jobs given back one after another stand in their old order.
            Verdict::GiveBack => {
                self.wait(slot.queue, slot.position, handle, slot.since, epoch)?;
                self.count(slot.queue, 1, 0)
            }
            Verdict::Again {
                due,
                at_front,
                failures,
                losses,
                error,
            } => {
                self.remember(handle, *failures, *losses, error)?;
                if let Some(due) = due.filter(|due| *due > self.now) {
                    self.schedule(handle, due.0, slot.queue, *at_front, epoch)?;
                    return self.count(slot.queue, 0, 1);
                }
                if *at_front {
                    self.wait(slot.queue, slot.position, handle, slot.since, epoch)?;
                } else {
                    self.wait(slot.queue, self.numbers(1)?, handle, self.now.0, epoch)?;
                }
                self.count(slot.queue, 1, 0)
            }
            Verdict::Bury {
                error,
                failures,
                losses,
            } => {
                self.remember(handle, *failures, *losses, error)?;
                self.bury(handle, epoch, error)
            }
            Verdict::Stopped => self.bury_unblamed(handle, epoch, &JobError::stopped()),
            Verdict::Canceled => self.bury_unblamed(handle, epoch, &JobError::canceled()),
        }
    }

    /// A dead letter whose job is not at fault: what was counted against it stays.
    pub(super) fn bury_unblamed(&self, handle: i64, epoch: i64, error: &JobError) -> Result<(), Failure> {
        let mut counted = self
            .conn
            .prepare_cached("SELECT failures, losses FROM attempts WHERE handle = ?1")?;
        let counted = counted.query_row([handle], |row| row.try_into()).optional()?;
        let (failures, losses) = counted.unwrap_or((0, 0));
        self.remember(handle, failures, losses, error)?;
        self.bury(handle, epoch, error)
    }

    /// Puts a job that stands nowhere among the dead letters, and tells those who wait for it.
    fn bury(&self, handle: i64, epoch: i64, error: &JobError) -> Result<(), Failure> {
        self.tell_of_failure(handle, error)?;
        self.lay_out(handle, epoch)
    }

    /// Frees the unique key of a job that failed for good, and tells those who wait for it.
    pub(super) fn tell_of_failure(&self, handle: i64, error: &JobError) -> Result<(), Failure> {
        let mut job = self
            .conn
            .prepare_cached("SELECT unique_key, grp, next FROM jobs WHERE handle = ?1")?;
        let mut job = job.query([handle])?;
        let Some(job) = job.next()? else {
            return Ok(());
        };
        self.release_key(job.get_ref(0)?)?;
        let ties = read_ties(job, 1)?;
        if ties.is_some() {
            self.tell_others(handle, || self.after_failure(handle, ties, error).map(|()| false))?;
        }
        Ok(())
    }

    /// Does what the end of this job means for others. If a row of theirs can't be read, nothing of that is done, and
    /// the log says so: the end of this job is settled all the same.
    fn tell_others(
        &self,
        handle: i64,
        tell: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        self.alone(tell).map(|told| {
            told.unwrap_or_else(|reason| {
                tracing::error!(handle, %reason, "the group or chain of a job can't be read: it is not told that the job ended");
                false
            })
        })
    }

    /// Puts a job that stands nowhere among the dead letters.
    pub(super) fn lay_out(&self, handle: i64, epoch: i64) -> Result<(), Failure> {
        let mut bury = self
            .conn
            .prepare_cached("INSERT INTO dead (handle, ended, epoch) VALUES (?1, ?2, ?3)")?;
        bury.execute((handle, self.now.0, epoch))?;
        Ok(())
    }

    /// `key`: as the row has it, perhaps nothing.
    fn release_key(&self, key: ValueRef<'_>) -> Result<(), Failure> {
        if key == ValueRef::Null {
            return Ok(());
        }
        let mut release = self
            .conn
            .prepare_cached("DELETE FROM unique_keys WHERE key = ?1")?;
        release.execute([ToSqlOutput::Borrowed(key)])?;
        Ok(())
    }

    /// Takes back what dead supervisors held; deletes some results whose time ended.
    pub(super) fn maintain(&mut self) -> Result<Maintained, Failure> {
        self.promote()?;
        let recovered = self.recover()?;
        self.expire()?;
        let mut expired = self.conn.prepare_cached(
            "DELETE FROM finished WHERE handle IN (
                 SELECT handle FROM finished INDEXED BY finished_expires
                 WHERE expires <= ?1 ORDER BY expires LIMIT ?2)
             RETURNING handle",
        )?;
        let expired: Vec<i64> = expired
            .query_map([self.now.0, EXPIRED_MAX.cast_signed()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for &handle in &expired {
            self.forget(handle)?;
        }
        Ok(Maintained {
            recovered,
            expired: expired.len() as u64 + self.forget_dead()? + self.forget_groups()?,
        })
    }

    /// Deletes some dead letters whose time ended; how many.
    fn forget_dead(&self) -> Result<u64, Failure> {
        let Some(ttl) = self.settings.dead_ttl else {
            return Ok(0);
        };
        let mut leave = self.conn.prepare_cached(
            "DELETE FROM dead WHERE handle IN (
                 SELECT handle FROM dead INDEXED BY dead_ended WHERE ended <= ?1 ORDER BY ended LIMIT ?2)
             RETURNING handle",
        )?;
        let handles: Vec<i64> = leave
            .query_map([self.now.before(ttl).0, EXPIRED_MAX.cast_signed()], |row| {
                row.get(0)
            })?
            .collect::<Result<_, _>>()?;
        for &handle in &handles {
            self.forget(handle)?;
        }
        Ok(handles.len() as u64)
    }

    /// Gives up this handle's lease.
    pub(super) fn give_up(&mut self) -> Result<(), Failure> {
        self.give_back(self.session, false)?;
        Ok(())
    }
}

/// What ties a job to others: two columns, from `at`.
fn read_ties(row: &Row<'_>, at: usize) -> Result<Ties, Failure> {
    Ok(Ties {
        grp: row.get(at)?,
        next: row.get(at + 1)?,
    })
}
