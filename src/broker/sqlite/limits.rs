//! Jobs of which only so many with the same key run at once.
//!
//! A claim counts for its key as long as it is in table `running`, so whatever ends a claim frees its place. A claim that
//! meets a job over its limit moves it to table `blocked`, out of the way of those behind it. Whoever frees a place moves
//! the first blocked jobs back, to the positions that they had.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row};

use super::error::Failure;
use super::store::{Store, text};

/// Claims of keys, as one claim of several jobs counts them.
pub(super) type Running = HashMap<String, i64>;

/// A blocked job that may go back to its queue.
struct Next {
    position: i64,
    handle: i64,
    since: i64,
    epoch: i64,
}

/// The limit of a job, if it has one: two columns of `jobs`, from `at`.
pub(super) fn read_limit(row: &Row<'_>, at: usize) -> Result<Option<(String, i64)>, Failure> {
    let Some(max) = row.get(at + 1)? else {
        return Ok(None);
    };
    Ok(Some((text(row, at, "jobs.limit_key")?.to_owned(), max)))
}

impl Store {
    /// Whether one more job of this key may be claimed, beside those that `running` has counted.
    pub(super) fn takes_place(&self, key: &str, max: i64, running: &mut Running) -> Result<bool, Failure> {
        if !running.contains_key(key) {
            running.insert(key.to_owned(), self.running_of(key)?);
        }
        let Some(count) = running.get_mut(key).filter(|count| **count < max) else {
            return Ok(false);
        };
        *count += 1;
        Ok(true)
    }

    fn running_of(&self, key: &str) -> Result<i64, Failure> {
        let mut count = self
            .conn
            .prepare_cached("SELECT count(*) FROM running INDEXED BY running_limit WHERE limit_key = ?1")?;
        Ok(count.query_row([key], |row| row.get(0))?)
    }

    /// Notes for which key a claim counts.
    pub(super) fn count_for(&self, handle: i64, key: &str) -> Result<(), Failure> {
        let mut count = self
            .conn
            .prepare_cached("UPDATE running SET limit_key = ?2 WHERE handle = ?1")?;
        count.execute((handle, key))?;
        Ok(())
    }

    /// Moves jobs that are over their limit out of their queue.
    pub(super) fn block(&self, queue: i64, positions: &[i64]) -> Result<(), Failure> {
        let mut block = self.conn.prepare_cached(
            "INSERT INTO blocked (limit_key, queue, position, handle, since, epoch)
             SELECT limit_key, waiting.queue, position, handle, since, epoch
             FROM waiting JOIN jobs USING (handle) WHERE waiting.queue = ?1 AND position = ?2",
        )?;
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM waiting WHERE queue = ?1 AND position = ?2")?;
        for position in positions {
            block.execute([queue, *position])?;
            leave.execute([queue, *position])?;
        }
        self.count(queue, -i64::try_from(positions.len()).unwrap_or(i64::MAX), 0)
    }

    /// Notes that a job has left its queue otherwise than by a claim: it may have stood there for a place that is free.
    pub(super) fn free_limit_of(&self, handle: i64) -> Result<(), Failure> {
        let mut key = self
            .conn
            .prepare_cached("SELECT limit_key FROM jobs WHERE handle = ?1")?;
        let key: Option<Option<String>> = key.query_row([handle], |row| row.get(0)).optional()?;
        self.freed.borrow_mut().extend(key.flatten());
        Ok(())
    }

    /// Notes that all claims of a session are about to end.
    pub(super) fn free_limits(&self, session: i64) -> Result<(), Failure> {
        let mut keys = self.conn.prepare_cached(
            "SELECT DISTINCT limit_key FROM running INDEXED BY running_limit
             WHERE limit_key NOTNULL AND session = ?1",
        )?;
        let mut keys = keys.query([session])?;
        while let Some(row) = keys.next()? {
            let key = text(row, 0, "running.limit_key")?.to_owned();
            self.freed.borrow_mut().insert(key);
        }
        Ok(())
    }

    /// Lets the first blocked jobs of keys with free places go back to their queues.
    ///
    /// As many of each queue as there are places: which queue is served next, and by whom, is not known here. A claim
    /// blocks those again that find no place.
    pub(super) fn unblock(&mut self) -> Result<(), Failure> {
        for key in self.freed.take() {
            let running = self.running_of(&key)?;
            let mut last = i64::MIN;
            while let Some(queue) = self.next_blocked_queue(&key, last)? {
                self.unblock_in(&key, queue, running)?;
                last = queue;
            }
        }
        Ok(())
    }

    fn next_blocked_queue(&self, key: &str, after: i64) -> Result<Option<i64>, Failure> {
        let mut next = self
            .conn
            .prepare_cached("SELECT min(queue) FROM blocked WHERE limit_key = ?1 AND queue > ?2")?;
        Ok(next.query_row((key, after), |row| row.get(0))?)
    }

    fn unblock_in(&mut self, key: &str, queue: i64, running: i64) -> Result<(), Failure> {
        let next = self.next_blocked(key, queue, running)?;
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM blocked WHERE handle = ?1")?;
        for job in &next {
            leave.execute([job.handle])?;
            self.wait(queue, job.position, job.handle, job.since, job.epoch)?;
        }
        drop(leave);
        self.count(queue, i64::try_from(next.len()).unwrap_or(i64::MAX), 0)?;
        self.rings |= !next.is_empty();
        Ok(())
    }

    /// The first blocked jobs of a queue that may run beside `running` others.
    fn next_blocked(&self, key: &str, queue: i64, mut running: i64) -> Result<Vec<Next>, Failure> {
        let mut next = self.conn.prepare_cached(
            "SELECT position, handle, since, epoch, limit_max FROM blocked LEFT JOIN jobs USING (handle)
             WHERE blocked.limit_key = ?1 AND blocked.queue = ?2 ORDER BY position",
        )?;
        let mut rows = next.query((key, queue))?;
        let mut next = Vec::new();
        while let Some(row) = rows.next()? {
            // One whose row another program has changed is the claim's to judge.
            if row
                .get::<_, Option<i64>>(4)
                .ok()
                .flatten()
                .is_some_and(|max| running >= max)
            {
                break;
            }
            running += 1;
            next.push(Next {
                position: row.get(0)?,
                handle: row.get(1)?,
                since: row.get(2)?,
                epoch: row.get(3)?,
            });
        }
        Ok(next)
    }
}
