//! Jobs that are not to begin after a time of their own.

use rusqlite::OptionalExtension;

use super::control::EXPIRED;
use super::error::Failure;
use super::store::{EXPIRED_MAX, Store};
use crate::job::JobError;
use crate::time::Unix;

impl Store {
    /// Notes the time of a new job.
    pub(super) fn note_expiry(&self, handle: i64, begin_by: Unix) -> Result<(), Failure> {
        let mut note = self
            .conn
            .prepare_cached("INSERT INTO expiring (begin_by, handle) VALUES (?1, ?2)")?;
        note.execute([begin_by.0, handle])?;
        Ok(())
    }

    /// When the next job expires that has not begun, as far as is known.
    pub(super) fn next_expiry(&self) -> Result<Option<Unix>, Failure> {
        let mut next = self.conn.prepare_cached("SELECT min(begin_by) FROM expiring")?;
        let next: Option<i64> = next.query_row([], |row| row.get(0))?;
        Ok(next.map(Unix))
    }

    /// Ends some jobs whose time is over: those that wait become dead letters. One that is claimed and has not begun is
    /// called off. Returns how many there were.
    pub(super) fn expire(&mut self) -> Result<u64, Failure> {
        if self.next_expiry()?.is_none_or(|next| next > self.now) {
            return Ok(0);
        }
        let mut leave = self.conn.prepare_cached(
            "DELETE FROM expiring WHERE (begin_by, handle) IN (
                 SELECT begin_by, handle FROM expiring WHERE begin_by <= ?1 ORDER BY begin_by LIMIT ?2)
             RETURNING begin_by, handle",
        )?;
        let over: Vec<(i64, i64)> = leave
            .query_map([self.now.0, EXPIRED_MAX.cast_signed()], |row| row.try_into())?
            .collect::<Result<_, _>>()?;
        drop(leave);
        for &(begin_by, handle) in &over {
            if self.begin_by(handle)? == Some(Unix(begin_by)) {
                let expired = self.alone(|| self.expire_one(handle, Unix(begin_by)))?;
                if let Err(reason) = expired {
                    tracing::error!(handle, %reason, "a job can't be read: it did not expire");
                }
            }
        }
        self.unblock()?;
        self.rings |= !over.is_empty();
        Ok(over.len() as u64)
    }

    fn expire_one(&self, handle: i64, begin_by: Unix) -> Result<(), Failure> {
        if let Some(epoch) = self.take_from_its_place(handle)? {
            return self.bury_unblamed(handle, epoch, &JobError::expired(begin_by));
        }
        self.conn
            .prepare_cached("UPDATE running SET stop = ?2 WHERE handle = ?1 AND begun = 0 AND stop = 0")?
            .execute([handle, EXPIRED])?;
        Ok(())
    }

    /// When a job is to begin at the latest; `None` also where table `jobs` lacks it.
    pub(super) fn begin_by(&self, handle: i64) -> Result<Option<Unix>, Failure> {
        let mut begin_by = self
            .conn
            .prepare_cached("SELECT begin_by FROM jobs WHERE handle = ?1")?;
        let begin_by: Option<Option<i64>> = begin_by.query_row([handle], |row| row.get(0)).optional()?;
        Ok(begin_by.flatten().map(Unix))
    }
}
