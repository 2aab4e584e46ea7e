//! The claim: the first jobs of queues go into a supervisor's hands, and what is not to run goes out of their way.

use std::sync::Arc;

use rusqlite::Row;

use super::control::RETURNS_ALONE;
use super::error::Failure;
use super::limits::{Running, read_limit};
use super::store::{Store, duration, job_id, text};
use crate::broker::parts::turns::Turns;
use crate::job::{Claim, Claimed, Job, JobError, Loss, QueueName, Work};
use crate::time::Unix;

/// Jobs that one claim takes out of the way of others, at the most: some milliseconds of work.
const SKIPPED_MAX: usize = 1000;

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
                Turns::RoundRobin { .. } | Turns::Random { .. } => self.claim_in_turn(queues, turns, left)?,
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
