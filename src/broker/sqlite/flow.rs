//! Groups and chains: what the end of a job means for others, in the transaction in which it ends.

use rusqlite::{OptionalExtension, Row};

use super::error::Failure;
use super::store::{EXPIRED_MAX, Store, job_id, text};
use super::ties::Ties;
use crate::broker::flow::{self, GROUP, PREVIOUS};
use crate::broker::{BrokerError, GroupView, NewGroup};
use crate::job::{GroupId, JobError, JobId, NewJob};
use crate::time::Unix;

/// Groups forgotten by one transaction.
const FORGOTTEN_MAX: i64 = 100;

/// Callbacks that have not been let go.
struct Callbacks {
    on_done: Option<i64>,
    on_failure: Option<i64>,
}

impl Store {
    /// Adds a group, all of it or nothing.
    pub(super) fn enqueue_group(&mut self, group: &NewGroup) -> Result<(), Failure> {
        self.promote()?;
        let grp = self.numbers(1)?;
        let callbacks = Callbacks {
            on_done: self.enqueue_callback(group.on_done.as_ref())?,
            on_failure: self.enqueue_callback(group.on_failure.as_ref())?,
        };
        let mut make = self.conn.prepare_cached(
            "INSERT INTO groups (grp, id, total, created, on_done, on_failure)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
        )?;
        let made = make.execute((
            grp,
            group.id.as_str(),
            i64::try_from(group.jobs.len()).unwrap_or(i64::MAX),
            self.now.0,
            callbacks.on_done,
            callbacks.on_failure,
        ))?;
        drop(make);
        if made == 0 {
            return Err(BrokerError::GroupTaken(group.id.clone()).into());
        }
        let ties = Ties {
            grp: Some(grp),
            next: None,
        };
        self.enqueue_tied(&group.jobs, ties)?;
        if group.jobs.is_empty() {
            self.count_member(grp, 0, 0)?;
        }
        self.rings = true;
        Ok(())
    }

    fn enqueue_callback(&mut self, job: Option<&NewJob>) -> Result<Option<i64>, Failure> {
        job.map(|job| {
            let handle = self.numbers(1)?;
            self.enqueue_deferred(job, handle, Ties::default())?;
            Ok(handle)
        })
        .transpose()
    }

    /// Adds jobs of which each gets the result of the one before it.
    pub(super) fn enqueue_chain(&mut self, jobs: &[NewJob]) -> Result<(), Failure> {
        let Some((first, followers)) = jobs.split_first() else {
            return Ok(());
        };
        self.promote()?;
        let handle = self.numbers(followers.len())?;
        let ties = Ties {
            grp: None,
            next: (!followers.is_empty()).then_some(handle),
        };
        self.enqueue_tied(std::slice::from_ref(first), ties)?;
        for (at, (handle, job)) in (handle..).zip(followers).enumerate() {
            let next = (at + 1 < followers.len()).then_some(handle + 1);
            self.enqueue_deferred(job, handle, Ties { grp: None, next })?;
        }
        Ok(())
    }

    fn enqueue_deferred(&mut self, job: &NewJob, handle: i64, ties: Ties) -> Result<(), Failure> {
        self.insert_new(job, handle, ties)?;
        self.defer(handle)
    }

    fn defer(&self, handle: i64) -> Result<(), Failure> {
        let mut defer = self
            .conn
            .prepare_cached("INSERT INTO deferred (handle) VALUES (?1)")?;
        defer.execute([handle])?;
        Ok(())
    }

    /// Ends a deferment; false when the job is not deferred, or gone.
    pub(super) fn undefer(&self, handle: i64) -> Result<bool, Failure> {
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM deferred WHERE handle = ?1")?;
        Ok(leave.execute([handle])? == 1)
    }

    /// What a job that ended well means for others. Returns whether its group keeps its result.
    pub(super) fn after_success(&self, ties: Ties, result: &[u8]) -> Result<bool, Failure> {
        if let Some(next) = ties.next {
            self.let_go(next, PREVIOUS, result)?;
        }
        match ties.grp {
            Some(grp) => self.count_member(grp, 1, 0),
            None => Ok(false),
        }
    }

    /// What a job that failed for good means for others.
    pub(super) fn after_failure(&self, handle: i64, ties: Ties, error: &JobError) -> Result<(), Failure> {
        if let Some(grp) = ties.grp {
            self.count_member(grp, 0, 1)?;
        }
        let Some(mut next) = ties.next else {
            return Ok(());
        };
        let mut culprit = self
            .conn
            .prepare_cached("SELECT id, task FROM jobs WHERE handle = ?1")?;
        let (id, task): (String, String) = culprit.query_row([handle], |row| row.try_into())?;
        let error = flow::earlier_failed(&job_id(&id)?, &task, error);
        while self.undefer(next)? {
            self.remember(next, 0, 0, &error)?;
            self.lay_out(next, 0)?;
            match self.ties(next)?.next {
                Some(later) => next = later,
                None => break,
            }
        }
        Ok(())
    }

    /// What a dead letter that runs again means for others: it has not ended, and those who died of it may live.
    pub(super) fn after_retry(&self, handle: i64) -> Result<(), Failure> {
        let mut ties = self.ties(handle)?;
        if let Some(grp) = ties.grp {
            let mut uncount = self
                .conn
                .prepare_cached("UPDATE groups SET failed = failed - 1 WHERE grp = ?1 AND ended ISNULL")?;
            uncount.execute([grp])?;
        }
        while let Some(next) = ties.next {
            if !self.fell_with_its_chain(next)? {
                break;
            }
            let mut revive = self.conn.prepare_cached("DELETE FROM dead WHERE handle = ?1")?;
            revive.execute([next])?;
            let mut forget = self
                .conn
                .prepare_cached("DELETE FROM attempts WHERE handle = ?1")?;
            forget.execute([next])?;
            self.defer(next)?;
            ties = self.ties(next)?;
        }
        Ok(())
    }

    /// Whether a job is a dead letter because one before it in its chain failed, and never ran.
    pub(super) fn fell_with_its_chain(&self, handle: i64) -> Result<bool, Failure> {
        let mut fell = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM dead JOIN attempts USING (handle)
                            WHERE handle = ?1 AND iif(json_valid(error), error ->> '$.kind', '') = ?2)",
        )?;
        Ok(fell.query_row((handle, flow::EARLIER_JOB_FAILED), |row| row.get(0))?)
    }

    fn ties(&self, handle: i64) -> Result<Ties, Failure> {
        let mut ties = self
            .conn
            .prepare_cached("SELECT grp, next FROM jobs WHERE handle = ?1")?;
        let ties = ties.query_row([handle], |row| {
            Ok(Ties {
                grp: row.get(0)?,
                next: row.get(1)?,
            })
        });
        Ok(ties.optional()?.unwrap_or_default())
    }

    /// Puts a deferred job into its queue with a value for its arguments.
    fn let_go(&self, handle: i64, key: &str, value: &[u8]) -> Result<(), Failure> {
        if !self.undefer(handle)? {
            return Ok(()); // deleted meanwhile
        }
        let mut job = self
            .conn
            .prepare_cached("SELECT queue, payload FROM jobs WHERE handle = ?1")?;
        let found = job.query_row([handle], |row| row.try_into()).optional()?;
        let Some((queue, payload)): Option<(i64, Vec<u8>)> = found else {
            return Ok(()); // table `jobs` lacks it
        };
        let mut write = self
            .conn
            .prepare_cached("UPDATE jobs SET payload = ?2 WHERE handle = ?1")?;
        write.execute((handle, flow::hand_on(&payload, key, value)))?;
        self.wait(queue, self.numbers(1)?, handle, self.now.0, 0)?;
        self.count(queue, 1, 0)
    }

    /// Counts members of a group that have ended; lets its callbacks go when it is time. False when the
    /// group has ended before: it counts no more.
    fn count_member(&self, grp: i64, finished: i64, failed: i64) -> Result<bool, Failure> {
        let mut count = self.conn.prepare_cached(
            "UPDATE groups SET finished = finished + ?2, failed = failed + ?3 WHERE grp = ?1 AND ended ISNULL
             RETURNING id, total, finished, failed, created, ended, on_done, on_failure",
        )?;
        let mut rows = count.query([grp, finished, failed])?;
        let Some(row) = rows.next()? else {
            return Ok(false);
        };
        let view = read_group(row)?;
        let callbacks = Callbacks {
            on_done: row.get(6)?,
            on_failure: row.get(7)?,
        };
        drop(rows);
        if let Some(handle) = callbacks.on_failure.filter(|_| view.failed > 0) {
            self.let_go(handle, GROUP, &view.summary())?;
            let mut gone = self
                .conn
                .prepare_cached("UPDATE groups SET on_failure = NULL WHERE grp = ?1")?;
            gone.execute([grp])?;
        }
        if view.is_complete() {
            self.end_group(grp, &view, &callbacks)?;
        }
        Ok(true)
    }

    fn end_group(&self, grp: i64, view: &GroupView, callbacks: &Callbacks) -> Result<(), Failure> {
        if let Some(handle) = callbacks.on_done {
            self.let_go(handle, GROUP, &view.summary())?;
        }
        if let Some(handle) = callbacks.on_failure.filter(|_| view.failed == 0)
            && self.undefer(handle)?
        {
            self.forget(handle)?;
        }
        let mut end = self.conn.prepare_cached(
            "UPDATE groups SET ended = ?2, expires = ?3, on_done = NULL, on_failure = NULL WHERE grp = ?1",
        )?;
        end.execute([grp, self.now.0, (self.now + self.settings.result_ttl).0])?;
        Ok(())
    }

    /// Deletes groups whose time ended, with the results of their members; how many results.
    pub(super) fn forget_groups(&self) -> Result<u64, Failure> {
        let mut expired = self.conn.prepare_cached(
            "SELECT grp FROM groups INDEXED BY groups_expires WHERE expires <= ?1 ORDER BY expires LIMIT ?2",
        )?;
        let expired: Vec<i64> = expired
            .query_map([self.now.0, FORGOTTEN_MAX], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut forgotten = 0;
        for grp in expired {
            let room = EXPIRED_MAX.saturating_sub(forgotten).cast_signed();
            let mut leave = self.conn.prepare_cached(
                "DELETE FROM finished WHERE handle IN (
                     SELECT handle FROM jobs INDEXED BY jobs_grp CROSS JOIN finished USING (handle)
                     WHERE grp = ?1 LIMIT ?2)
                 RETURNING handle",
            )?;
            let handles: Vec<i64> = leave
                .query_map([grp, room], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for &handle in &handles {
                self.forget(handle)?;
            }
            forgotten += handles.len() as u64;
            if forgotten >= EXPIRED_MAX {
                break; // perhaps not all of this one
            }
            let mut forget = self.conn.prepare_cached("DELETE FROM groups WHERE grp = ?1")?;
            forget.execute([grp])?;
        }
        Ok(forgotten)
    }

    /// How far a group is.
    pub(super) fn find_group(&self, id: &GroupId) -> Result<Option<GroupView>, Failure> {
        let mut find = self.conn.prepare_cached(
            "SELECT id, total, finished, failed, created, ended FROM groups
             WHERE id = ?1 AND coalesce(expires > ?2, 1)",
        )?;
        let mut rows = find.query((id.as_str(), self.now.0))?;
        rows.next()?.map(read_group).transpose()
    }

    /// The members of a group that are still there, in their order.
    pub(super) fn group_jobs(&self, id: &GroupId) -> Result<Vec<JobId>, Failure> {
        let mut find = self.conn.prepare_cached(
            "SELECT jobs.id FROM groups CROSS JOIN jobs INDEXED BY jobs_grp USING (grp)
             WHERE groups.id = ?1 ORDER BY handle",
        )?;
        let mut rows = find.query([id.as_str()])?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            ids.push(job_id(text(row, 0, "jobs.id")?)?);
        }
        Ok(ids)
    }
}

fn read_group(row: &Row<'_>) -> Result<GroupView, Failure> {
    let id = text(row, 0, "groups.id")?;
    // Never negative: the schema sees to it.
    let count = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    Ok(GroupView {
        id: GroupId::new(id)
            .map_err(|problem| Failure::Corrupt(format!("a group id in table `groups` {problem}")))?,
        total: count(1)?,
        finished: count(2)?,
        failed: count(3)?,
        created: Unix(row.get(4)?),
        ended: row.get::<_, Option<i64>>(5)?.map(Unix),
    })
}
