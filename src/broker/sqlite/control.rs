//! Jobs that are canceled or stopped, and what is known of claims beyond that they are held.

use rusqlite::OptionalExtension;

use super::error::Failure;
use super::store::Store;
use crate::broker::Canceled;
use crate::broker::source::StopHow;
use crate::job::{Claim, JobError, JobId, Progress};

/// In the column `stop` of table `running`: time has called the job off, and nobody else.
pub(super) const EXPIRED: i64 = 3;

/// What the column `stop` of table `running` holds.
fn stop_of(number: i64) -> Option<StopHow> {
    match number {
        0 => None,
        1 | EXPIRED => Some(StopHow::IfNotBegun),
        _ => Some(StopHow::ForGood),
    }
}

fn number_of(how: StopHow) -> i64 {
    match how {
        StopHow::IfNotBegun => 1,
        StopHow::ForGood => 2,
    }
}

/// A job that came back so often is taken alone: if it takes its supervisor down, no other is under suspicion with it.
pub(super) const RETURNS_ALONE: i64 = 2;
/// When a job has come back so often, it counts as lost each time: that it had not begun is not believed any more.
pub(super) const RETURNS_MAX: u32 = 3;

impl Store {
    /// Notes that claims of this handle have begun.
    pub(super) fn note_begun(&mut self, claims: &[Claim]) -> Result<(), Failure> {
        let held_suspect = self.holds_suspect()?;
        let mut note = self.conn.prepare_cached(
            "UPDATE running SET begun = 1 WHERE handle = ?1 AND session = ?2 AND epoch = ?3",
        )?;
        for claim in claims {
            note.execute((claim.handle, self.session, claim.epoch))?;
        }
        drop(note);
        // The next one may be taken.
        self.rings |= held_suspect && !self.holds_suspect()?;
        Ok(())
    }

    /// Notes how far claims of this handle are.
    pub(super) fn note_progress(&mut self, news: &[(Claim, Progress)]) -> Result<(), Failure> {
        let mut note = self.conn.prepare_cached(
            "UPDATE running SET progress = ?4 WHERE handle = ?1 AND session = ?2 AND epoch = ?3",
        )?;
        for (claim, progress) in news {
            let json = serde_json::to_string(progress).expect("a number and a text are always JSON");
            note.execute((claim.handle, self.session, claim.epoch, json))?;
        }
        Ok(())
    }

    /// Which of these claims of this handle were called off, and how. A cancel of one that has begun came too late.
    pub(super) fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, Failure> {
        let mut marks = self.conn.prepare_cached(
            "SELECT handle, epoch, stop FROM running INDEXED BY running_stop
             WHERE session = ?1 AND stop > 0 AND NOT (begun > 0 AND stop = ?2)",
        )?;
        let mut marks = marks.query([self.session, number_of(StopHow::IfNotBegun)])?;
        let mut found = Vec::new();
        while let Some(row) = marks.next()? {
            let (handle, epoch): (i64, u32) = (row.get(0)?, row.get(1)?);
            let is_it = |claim: &Claim| (claim.handle, claim.epoch) == (handle, epoch);
            let at = claims.iter().position(is_it);
            found.extend(at.zip(stop_of(row.get(2)?)));
        }
        Ok(found)
    }

    /// Why a job that was called off does not come back: by the column `stop`.
    pub(super) fn why_called_off(&self, handle: i64, stop: i64) -> Result<Option<JobError>, Failure> {
        if stop == EXPIRED
            && let Some(begin_by) = self.begin_by(handle)?
        {
            return Ok(Some(JobError::expired(begin_by)));
        }
        Ok(stop_of(stop).map(StopHow::error))
    }

    /// Cancels or stops jobs; one answer a job.
    pub(super) fn cancel(&mut self, ids: &[JobId], how: StopHow) -> Result<Vec<Canceled>, Failure> {
        self.promote()?;
        let answers = ids.iter().map(|id| self.cancel_alone(id, how));
        let answers: Vec<Canceled> = answers.collect::<Result<_, _>>()?;
        self.unblock()?;
        self.rings |= answers
            .iter()
            .any(|answer| matches!(answer, Canceled::Done | Canceled::Asked));
        Ok(answers)
    }

    /// A job whose rows can't be read is left as it is, and stops no other.
    fn cancel_alone(&self, id: &JobId, how: StopHow) -> Result<Canceled, Failure> {
        let answer = self.alone(|| self.cancel_one(id, how))?;
        Ok(answer.unwrap_or_else(Canceled::Refused))
    }

    fn cancel_one(&self, id: &JobId, how: StopHow) -> Result<Canceled, Failure> {
        let mut find = self
            .conn
            .prepare_cached("SELECT handle FROM jobs WHERE id = ?1")?;
        let Some(handle) = find.query_row([id.as_str()], |row| row.get(0)).optional()? else {
            return Ok(Canceled::Unknown);
        };
        if let Some(begun) = self.begun(handle)? {
            if begun && how == StopHow::IfNotBegun {
                return Ok(Canceled::Runs);
            }
            self.conn
                .prepare_cached("UPDATE running SET stop = ?2 WHERE handle = ?1")?
                .execute([handle, number_of(how)])?;
            return Ok(Canceled::Asked);
        }
        match self.take_from_its_place(handle)? {
            Some(epoch) => {
                self.bury_unblamed(handle, epoch, &JobError::canceled())?;
                Ok(Canceled::Done)
            }
            None if self.has_expired(handle)? => Ok(Canceled::Unknown),
            None => Ok(Canceled::Ended),
        }
    }

    /// Whether a job that is held has begun; `None`: nobody holds it.
    fn begun(&self, handle: i64) -> Result<Option<bool>, Failure> {
        let mut held = self
            .conn
            .prepare_cached("SELECT begun FROM running WHERE handle = ?1")?;
        Ok(held.query_row([handle], |row| row.get(0)).optional()?)
    }

    /// Takes a job that nobody holds from where it waits. Returns how often it was claimed; `None`: it waits nowhere.
    pub(super) fn take_from_its_place(&self, handle: i64) -> Result<Option<i64>, Failure> {
        let take = |sql: &str| -> Result<Option<(i64, i64)>, Failure> {
            let mut take = self.conn.prepare_cached(sql)?;
            Ok(take.query_row([handle], |row| row.try_into()).optional()?)
        };
        if let Some((_, epoch)) = take("DELETE FROM blocked WHERE handle = ?1 RETURNING queue, epoch")? {
            return Ok(Some(epoch));
        }
        let take_waiting = |place: &str| {
            let taken = take(&format!(
                "DELETE FROM waiting WHERE queue = (SELECT queue FROM jobs WHERE handle = ?1)
                 AND handle = ?1 AND {place} RETURNING queue, epoch"
            ))?;
            if let Some((queue, _)) = taken {
                self.count(queue, -1, 0)?;
                self.free_limit_of(handle)?;
            }
            Ok::<_, Failure>(taken.map(|(_, epoch)| epoch))
        };
        // Where it stood from the start.
        if let Some(epoch) = take_waiting("position IN (?1, -?1)")? {
            return Ok(Some(epoch));
        }
        if let Some((queue, epoch)) = take("DELETE FROM scheduled WHERE handle = ?1 RETURNING queue, epoch")?
        {
            self.count(queue, 0, -1)?;
            return Ok(Some(epoch));
        }
        if self.undefer(handle)? {
            return Ok(Some(0));
        }
        // Anywhere, for a job that has moved: this goes through the queue.
        match self.has_ended(handle)? {
            true => Ok(None),
            false => take_waiting("true"),
        }
    }

    fn has_expired(&self, handle: i64) -> Result<bool, Failure> {
        let mut expires = self
            .conn
            .prepare_cached("SELECT expires FROM finished WHERE handle = ?1")?;
        let expires: Option<i64> = expires.query_row([handle], |row| row.get(0)).optional()?;
        Ok(expires.is_some_and(|expires| expires <= self.now.0))
    }

    /// Of a session that is over: jobs that were called off do not come back, and those that had begun are lost.
    pub(super) fn settle_lost(&self, session: i64, lost: bool) -> Result<(), Failure> {
        let mut called_off_ones = self.conn.prepare_cached(
            "DELETE FROM running WHERE session = ?1 AND stop > 0 RETURNING handle, epoch, stop",
        )?;
        let rows = called_off_ones.query_map([session], |row| row.try_into())?;
        let rows: Vec<(i64, i64, i64)> = rows.collect::<Result<_, _>>()?;
        for (handle, epoch, stop) in rows {
            if let Some(error) = self.why_called_off(handle, stop)? {
                self.bury_unblamed(handle, epoch, &error)?;
            }
        }
        if !lost {
            return Ok(());
        }
        let error = serde_json::to_string(&JobError::supervisor_lost())
            .map_err(|problem| Failure::Corrupt(problem.to_string()))?;
        self.conn
            .prepare_cached(
                "INSERT INTO attempts (handle, failures, losses, error)
                 SELECT handle, 0, 1, ?2 FROM running WHERE session = ?1 AND begun > 0
                 ON CONFLICT (handle) DO UPDATE SET losses = losses + 1, error = excluded.error",
            )?
            .execute((session, &error))?;
        self.count_returned(session, &error)?;
        self.note_lost(session)
    }

    /// Counts how often claims that are not known to have begun came back: one that takes its supervisor down at once
    /// never is. Nothing is held against the job before `RETURNS_MAX`; then all of them are.
    fn count_returned(&self, session: i64, error: &str) -> Result<(), Failure> {
        self.conn
            .prepare_cached(
                "INSERT INTO attempts (handle, failures, losses, returned)
                 SELECT handle, 0, 0, 1 FROM running WHERE session = ?1 AND begun = 0
                 ON CONFLICT (handle) DO UPDATE SET returned = returned + 1",
            )?
            .execute([session])?;
        self.conn
            .prepare_cached(
                "UPDATE attempts SET error = ?2, losses = losses + iif(returned = ?3, ?3, 1)
                 WHERE returned >= ?3
                   AND handle IN (SELECT handle FROM running WHERE session = ?1 AND begun = 0)",
            )?
            .execute((session, error, RETURNS_MAX))?;
        Ok(())
    }

    /// Whether this handle holds a job that is taken alone and is not known to have begun.
    pub(super) fn holds_suspect(&self) -> Result<bool, Failure> {
        let mut suspects = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM attempts INDEXED BY attempts_returned CROSS JOIN running USING (handle)
                            WHERE returned > 1 AND session = ?1 AND begun = 0)",
        )?;
        Ok(suspects.query_row([self.session], |row| row.get(0))?)
    }

    /// Whether the first job that waits in a queue is one that is taken alone.
    pub(super) fn is_first_suspect(&self, queue: i64) -> Result<bool, Failure> {
        let mut first = self.conn.prepare_cached(
            "SELECT returned > 1 FROM waiting LEFT JOIN attempts USING (handle)
             WHERE waiting.queue = ?1 ORDER BY position LIMIT 1",
        )?;
        let first: Option<Option<bool>> = first.query_row([queue], |row| row.get(0)).optional()?;
        Ok(first.flatten().unwrap_or(false))
    }
}
