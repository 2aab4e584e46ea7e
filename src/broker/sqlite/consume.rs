//! The verbs of supervisors: claim, extend, settle, and what a lease needs.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row};

use super::control::RETURNS_ALONE;
use super::error::Failure;
use super::limits::{Running, read_limit};
use super::store::{EXPIRED_MAX, Store, duration, job_id, text};
use super::ties::Ties;
use crate::broker::Maintained;
use crate::broker::parts::turns::Turns;
use crate::job::{Claim, Claimed, Job, JobError, Loss, QueueName, Settlement, Verdict, Work};
use crate::time::Unix;

/// Jobs that one claim takes out of the way of others, at the most: some milliseconds of work.
const SKIPPED_MAX: usize = 1000;

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

/// Jobs of a queue that a claim has come by, and does not hand out.
#[derive(Default)]
struct Skipped {
    /// Positions of those that are over their limit.
    blocked: Vec<i64>,
    /// Handles of those that can't be read, with the reason.
    unreadable: Vec<(i64, String)>,
    /// Handles of those whose time is over.
    expired: Vec<(i64, Unix)>,
}

impl Store {
    /// Takes up to `limit` jobs.
    pub(super) fn claim(
        &mut self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, Failure> {
        self.promote()?;
        self.recover()?;
        self.expire()?;
        let (mut claimed, mut turns, mut all_skipped) = (Vec::new(), turns, 0);
        loop {
            let left = limit - claimed.len();
            let (jobs, skipped) = match turns {
                Turns::Strict => self.claim_in_order(queues, left)?,
                Turns::RoundRobin { .. } | Turns::Random => self.claim_in_turn(queues, turns, left)?,
            };
            claimed.extend(jobs);
            all_skipped += skipped;
            // Behind those that were skipped, which wait no more, others may wait.
            if skipped == 0 || claimed.len() >= limit || all_skipped >= SKIPPED_MAX {
                break;
            }
            turns = turns.after(queues, claimed.last().map(|job: &Claimed| &job.job.queue));
        }
        if !claimed.is_empty() {
            self.hold_lease()?;
        }
        Ok(claimed)
    }

    /// The jobs, and how many more were skipped.
    fn claim_in_order(
        &mut self,
        queues: &[QueueName],
        limit: usize,
    ) -> Result<(Vec<Claimed>, usize), Failure> {
        let (mut claimed, mut skipped) = (Vec::new(), 0);
        for name in queues {
            if claimed.len() == limit {
                break;
            }
            if let Some(queue) = self.queue(name)? {
                skipped += self.claim_share(name, queue, limit, &mut claimed)?;
            }
        }
        Ok((claimed, skipped))
    }

    /// Counts what waits, shares it out, and takes the first jobs of each queue at once. How many more were skipped?
    fn claim_in_turn(
        &mut self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<(Vec<Claimed>, usize), Failure> {
        let mut has = Vec::with_capacity(queues.len());
        for name in queues {
            has.push(match self.queue(name)? {
                Some(queue) => self.count_first(queue, limit)?,
                None => 0,
            });
        }
        let plan = turns.share(&has, limit, &mut fastrand::Rng::new());
        let (mut of_queues, mut skipped) = (Vec::with_capacity(queues.len()), 0);
        for (at, name) in queues.iter().enumerate() {
            let share = plan.iter().filter(|queue| **queue == at).count();
            let mut of_queue = Vec::with_capacity(share);
            // One that has nothing is looked into all the same: its count may be wrong.
            let is_looked_into = share > 0 || has[at] == 0;
            if let Some(queue) = self.queue(name)?.filter(|_| is_looked_into) {
                skipped += self.claim_share(name, queue, share, &mut of_queue)?;
            }
            of_queues.push(of_queue.into_iter());
        }
        // Of a job that was skipped the turn goes to the next.
        let jobs = plan.into_iter().filter_map(|at| of_queues[at].next());
        Ok((jobs.collect(), skipped))
    }

    /// How many jobs of a queue wait, counted up to `limit`.
    fn count_first(&self, queue: i64, limit: usize) -> Result<usize, Failure> {
        let mut count = self
            .conn
            .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM waiting WHERE queue = ?1 LIMIT ?2)")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(count.query_row([queue, limit], |row| row.get::<_, u32>(0))? as usize)
    }

    /// Takes jobs of one queue until there are `limit` of them. Returns how many others were skipped.
    fn claim_share(
        &mut self,
        name: &QueueName,
        queue: i64,
        limit: usize,
        claimed: &mut Vec<Claimed>,
    ) -> Result<usize, Failure> {
        let mut all_skipped = 0;
        loop {
            let skipped = self.claim_from(name, queue, limit - claimed.len(), claimed)?;
            all_skipped += skipped;
            if skipped == 0 || claimed.len() >= limit || all_skipped >= SKIPPED_MAX {
                return Ok(all_skipped);
            }
        }
    }

    /// Takes the first jobs of one queue: they are a range of it, so three statements do for all. Returns how many others
    /// it has skipped.
    fn claim_from(
        &mut self,
        name: &QueueName,
        queue: i64,
        limit: usize,
        claimed: &mut Vec<Claimed>,
    ) -> Result<usize, Failure> {
        let before = claimed.len();
        let mut skipped = Skipped::default();
        let (mut limited, mut running) = (Vec::new(), Running::new());
        let mut next = self.conn.prepare_cached(
            "SELECT position, handle, epoch, id, task, payload, timeout_ms, retries, since,
                    failures, losses, returned, begin_by, limit_key, limit_max
             FROM waiting CROSS JOIN jobs USING (handle) LEFT JOIN attempts USING (handle)
             WHERE waiting.queue = ?1 ORDER BY position LIMIT ?2",
        )?;
        let mut rows = next.query([queue, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let (mut last, mut is_left) = (None, false);
        let (mut task, mut holds_suspect): (Arc<str>, _) = ("".into(), None);
        while let Some(row) = rows.next()? {
            let (position, handle): (i64, i64) = (row.get(0)?, row.get(1)?);
            if let Ok(Some((key, max))) = read_limit(row, 13) {
                if !self.takes_place(&key, max, &mut running)? {
                    skipped.blocked.push(position);
                    continue;
                }
                limited.push((handle, key));
            }
            if row.get::<_, Option<i64>>(11)?.unwrap_or(0) >= RETURNS_ALONE {
                let holds_one = holds_suspect.map_or_else(|| self.holds_suspect(), Ok)?;
                if holds_one {
                    is_left = true;
                    break;
                }
                holds_suspect = Some(true);
            }
            last = Some(position);
            match read_claim(row, name.clone(), &mut task, self.now) {
                Ok(Ok(job)) => claimed.push(job),
                Ok(Err(begin_by)) => skipped.expired.push((handle, begin_by)),
                Err(failure) => skipped.unreadable.push((handle, failure.reason())),
            }
        }
        drop(rows);
        drop(next);
        self.block(queue, &skipped.blocked)?;
        match last {
            Some(last) => {
                let taken = self.take_up_to(queue, last)?;
                if taken != claimed.len() - before + skipped.unreadable.len() + skipped.expired.len() {
                    self.drop_lacking(name)?;
                }
            }
            None if skipped.blocked.is_empty() && !is_left => self.check_count(queue)?,
            None => {}
        }
        for (handle, key) in limited {
            self.count_for(handle, &key)?;
        }
        self.bury_skipped(&skipped)?;
        Ok(skipped.blocked.len() + skipped.unreadable.len() + skipped.expired.len())
    }

    /// Moves what waits in a queue up to a position into this handle's hands; how many.
    fn take_up_to(&self, queue: i64, last: i64) -> Result<usize, Failure> {
        let mut hold = self.conn.prepare_cached(
            "INSERT INTO running (handle, session, epoch, queue, position, since)
             SELECT handle, ?3, epoch + 1, queue, position, since FROM waiting
             WHERE queue = ?1 AND position <= ?2",
        )?;
        hold.execute([queue, last, self.session])?;
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM waiting WHERE queue = ?1 AND position <= ?2")?;
        let taken = leave.execute([queue, last])?;
        self.count(queue, -i64::try_from(taken).unwrap_or(i64::MAX), 0)?;
        Ok(taken)
    }

    /// Drops what was claimed and table `jobs` lacks; says so.
    fn drop_lacking(&self, name: &QueueName) -> Result<(), Failure> {
        let lacking = "DELETE FROM running WHERE session = ?1 AND handle NOT IN (SELECT handle FROM jobs)";
        let jobs = self.conn.prepare_cached(lacking)?.execute([self.session])?;
        tracing::warn!(queue = %name, jobs, "jobs waited that table `jobs` of the broker's file lacks: they are dropped");
        Ok(())
    }

    /// Of a queue that gave nothing: counts it again if its count says that it holds something.
    fn check_count(&self, queue: i64) -> Result<(), Failure> {
        let waiting = "SELECT waiting > 0 FROM queues WHERE queue = ?1";
        let counts_some = self
            .conn
            .prepare_cached(waiting)?
            .query_row([queue], |row| row.get(0))?;
        match counts_some {
            true => self.count_again(queue),
            false => Ok(()),
        }
    }

    /// Ends what was claimed only to be ended.
    fn bury_skipped(&mut self, skipped: &Skipped) -> Result<(), Failure> {
        for (handle, reason) in &skipped.unreadable {
            self.bury_unreadable(*handle, reason.clone())?;
        }
        for (handle, begin_by) in &skipped.expired {
            let (epoch, limit_key) = self.leave_running(*handle)?;
            self.freed.borrow_mut().extend(limit_key);
            self.bury_unblamed(*handle, epoch - 1, &JobError::expired(*begin_by))?;
        }
        self.rings |= !skipped.expired.is_empty();
        self.unblock()
    }

    /// Takes a job out of this handle's hands; how often it was claimed, and the limit that it counted for.
    fn leave_running(&self, handle: i64) -> Result<(i64, Option<String>), Failure> {
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM running WHERE handle = ?1 RETURNING epoch, limit_key")?;
        Ok(leave.query_row([handle], |row| row.try_into())?)
    }

    /// A job of which a column can't be read stops no other: it is a dead letter at once, with the reason.
    fn bury_unreadable(&self, handle: i64, reason: String) -> Result<(), Failure> {
        tracing::error!(handle, %reason, "a job can't be read: it is a dead letter");
        let (epoch, limit_key) = self.leave_running(handle)?;
        self.freed.borrow_mut().extend(limit_key);
        let error = JobError::new("unreadable", reason);
        self.remember(handle, 1, 0, &error)?;
        self.tell_of_failure(handle, &error)?;
        self.lay_out(handle, epoch)
    }

    /// Begins this handle's lease, or renews it.
    fn hold_lease(&self) -> Result<(), Failure> {
        // Locked first, seen by others after the commit: they never meet a lease without its lock.
        let bell = match self.bell.hold(self.session) {
            Ok(()) => self.bell.inode().cast_signed(),
            // A file system without locks: others wait for the lease to run out.
            Err(_) => 0,
        };
        let mut hold = self.conn.prepare_cached(
            "INSERT INTO sessions (session, expires, bell) VALUES (?1, ?2, ?3)
             ON CONFLICT (session) DO UPDATE SET expires = excluded.expires, bell = excluded.bell",
        )?;
        hold.execute([self.session, self.lease_end(), bell])?;
        Ok(())
    }

    /// Renews this handle's lease, if it has one.
    pub(super) fn extend(&self) -> Result<(), Failure> {
        let mut extend = self
            .conn
            .prepare_cached("UPDATE sessions SET expires = ?2 WHERE session = ?1")?;
        extend.execute([self.session, self.lease_end()])?;
        Ok(())
    }

    fn lease_end(&self) -> i64 {
        (self.now + self.settings.lease).0
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
                Verdict::Finish { result } => self.finish(claim, result)?,
                // No runtime settles with an embedded broker itself; one that says so has no result.
                Verdict::Forget => self.finish(claim, b"null")?,
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

    fn finish(&self, claim: &Claim, result: &[u8]) -> Result<bool, Failure> {
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
            .prepare_cached("INSERT INTO finished (handle, ended, expires, result) VALUES (?1, ?2, ?3, ?4)")?
            .execute((claim.handle, self.now.0, expires, result))?;
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
    fn tell_of_failure(&self, handle: i64, error: &JobError) -> Result<(), Failure> {
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
            expired: expired.len() as u64 + self.forget_groups()?,
        })
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

/// One row of the claiming query; of a job whose time is over by `now`, that time. `task` is the last row's, which mostly
/// is this one's as well.
fn read_claim(
    row: &Row<'_>,
    queue: QueueName,
    task: &mut Arc<str>,
    now: Unix,
) -> Result<Result<Claimed, Unix>, Failure> {
    let begin_by = row.get::<_, Option<i64>>(12)?.map(Unix);
    if let Some(begin_by) = begin_by.filter(|begin_by| *begin_by <= now) {
        return Ok(Err(begin_by));
    }
    read_limit(row, 13)?;
    let named = text(row, 4, "jobs.task")?;
    if **task != *named {
        *task = named.into();
    }
    let timeout = row.get::<_, Option<i64>>(6)?;
    if let Some(timeout) = timeout.filter(|timeout| *timeout < 0) {
        return Err(Failure::Corrupt(format!("`jobs.timeout_ms` is {timeout}")));
    }
    let claim = Claim {
        job: job_id(text(row, 3, "jobs.id")?)?,
        handle: row.get(1)?,
        epoch: row.get::<_, u32>(2)?.saturating_add(1),
    };
    let job = Job {
        id: claim.job.clone(),
        queue,
        task: Arc::clone(task),
        payload: row.get_ref(5)?.as_blob()?.into(),
        timeout: timeout.map(duration),
        retries: row.get(7)?,
        retry_after: None,
        loss: Loss::RunsAgain,
        work: Work::Job,
        kind: 0,
        batches: true,
        failures: row.get::<_, Option<u32>>(9)?.unwrap_or(0),
        losses: row.get::<_, Option<u32>>(10)?.unwrap_or(0),
        ready: Unix(row.get(8)?),
    };
    Ok(Ok(Claimed { claim, job }))
}
