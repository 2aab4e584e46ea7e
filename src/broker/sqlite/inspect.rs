//! The verbs of readers: backlog, find, dead letters, queues.

use std::sync::LazyLock;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row};
use serde::de::DeserializeOwned;

use super::error::Failure;
use super::store::{Store, job_id, text};
use crate::broker::dead::{shown, unreadable};
use crate::broker::{Backlog, DeadFilter};
use crate::job::{Attempt, JobError, JobId, JobState, JobView, QueueName};
use crate::time::Unix;

/// A job with the place where it is. Columns as [`read_view`] expects them.
const VIEW: &str = "
    j.handle, j.id, q.name, j.task, j.payload, j.enqueued, s.due, coalesce(f.ended, d.ended),
    a.failures, a.losses, f.result, a.error,
    CASE WHEN f.handle NOTNULL THEN 'finished' WHEN d.handle NOTNULL THEN 'dead'
         WHEN r.handle NOTNULL THEN 'running' WHEN s.handle NOTNULL THEN 'scheduled'
         WHEN EXISTS (SELECT 1 FROM deferred w WHERE w.handle = j.handle) THEN 'deferred'
         WHEN EXISTS (SELECT 1 FROM blocked b WHERE b.handle = j.handle) THEN 'blocked'
         ELSE 'waiting' END, a.history, r.progress, f.started";
const PLACES: &str = "
    JOIN queues q ON q.queue = j.queue
    LEFT JOIN attempts a ON a.handle = j.handle
    LEFT JOIN scheduled s ON s.handle = j.handle
    LEFT JOIN running r ON r.handle = j.handle
    LEFT JOIN finished f ON f.handle = j.handle";

/// The job with an id, unless its result has expired.
pub(super) static FIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {VIEW} FROM jobs j {PLACES} LEFT JOIN dead d ON d.handle = j.handle
         WHERE j.id = ?1 AND coalesce(f.expires > ?2, 1)"
    )
});

impl Store {
    /// What waits in these queues.
    pub(super) fn backlog(&mut self, queues: &[QueueName]) -> Result<Backlog, Failure> {
        self.promote()?;
        let mut backlog = Backlog::default();
        for name in queues {
            let Some(queue) = self.queue(name)? else {
                continue;
            };
            let mut counts = self
                .conn
                .prepare_cached("SELECT waiting, scheduled FROM queues WHERE queue = ?1")?;
            let (waiting, scheduled): (i64, i64) = counts.query_row([queue], |row| row.try_into())?;
            // Never negative: the schema sees to it.
            backlog.by_queue.push((name.clone(), waiting.cast_unsigned()));
            backlog.scheduled += scheduled.cast_unsigned();
            if waiting > 0 {
                let oldest = self.oldest(queue)?;
                backlog.oldest = [backlog.oldest, oldest].into_iter().flatten().min();
            }
        }
        Ok(backlog)
    }

    /// How many jobs of each of these queues are over their limit.
    pub(super) fn blocked(&self, queues: &[QueueName]) -> Result<Vec<u64>, Failure> {
        let mut count = self.conn.prepare_cached(
            "SELECT count(*) FROM blocked WHERE queue = (SELECT queue FROM queues WHERE name = ?1)",
        )?;
        let blocked = queues.iter().map(|name| {
            Ok(count
                .query_row([name.as_str()], |row| row.get::<_, i64>(0))?
                .cast_unsigned())
        });
        blocked.collect()
    }

    /// When the oldest waiting job of a queue became ready: of those at the front it is the last,
    /// of the others the first.
    fn oldest(&self, queue: i64) -> Result<Option<Unix>, Failure> {
        let mut oldest = None;
        for end in [
            "SELECT since FROM waiting WHERE queue = ?1 AND position < 0 ORDER BY position DESC LIMIT 1",
            "SELECT since FROM waiting WHERE queue = ?1 AND position > 0 ORDER BY position LIMIT 1",
        ] {
            let mut end = self.conn.prepare_cached(end)?;
            let since: Option<i64> = end.query_row([queue], |row| row.get(0)).optional()?;
            oldest = [oldest, since.map(Unix)].into_iter().flatten().min();
        }
        Ok(oldest)
    }

    /// Whether any of these queues holds a job that could run now.
    pub(super) fn any_waiting(&mut self, queues: &[QueueName]) -> Result<bool, Failure> {
        let holds_suspect = self.holds_suspect()?;
        for name in queues {
            if let Some(queue) = self.queue(name)? {
                let mut look = self
                    .conn
                    .prepare_cached("SELECT waiting > 0 FROM queues WHERE queue = ?1")?;
                let waits = look.query_row([queue], |row| row.get(0))?;
                if waits && !(holds_suspect && self.is_first_suspect(queue)?) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Looks a job up, with its handle.
    pub(super) fn find(&self, id: &JobId) -> Result<Option<(i64, JobView)>, Failure> {
        let mut find = self.conn.prepare_cached(&FIND)?;
        let mut rows = find.query((id.as_str(), self.now.0))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        match read_view(row) {
            Err(failure) if failure.is_of_a_row() => {
                let reason = failure.reason();
                if row.get_ref(12)?.as_str()? == "dead" {
                    return Ok(Some((row.get(0)?, unreadable_view(row, reason)?)));
                }
                Err(Failure::Corrupt(format!("job `{id}` can't be read: {reason}")))
            }
            view => view.map(Some),
        }
    }

    /// Whether a job that was found before has ended since, or is gone.
    pub(super) fn has_ended(&self, handle: i64) -> Result<bool, Failure> {
        let mut look = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM finished WHERE handle = ?1)
                 OR EXISTS (SELECT 1 FROM dead WHERE handle = ?1)
                 OR NOT EXISTS (SELECT 1 FROM jobs WHERE handle = ?1)",
        )?;
        Ok(look.query_row([handle], |row| row.get(0))?)
    }

    /// Dead letters, the newest first.
    pub(super) fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, Failure> {
        let sql = format!(
            "SELECT {VIEW} FROM dead d CROSS JOIN jobs j ON j.handle = d.handle {PLACES}
             WHERE (?1 ISNULL OR q.name = ?1) AND (?2 ISNULL OR j.task = ?2) AND (?3 ISNULL OR d.ended <= ?3)
             ORDER BY d.ended DESC, d.handle DESC LIMIT ?4"
        );
        let mut find = self.conn.prepare_cached(&sql)?;
        let mut rows = find.query((
            filter.queue.as_ref().map(QueueName::as_str),
            filter.task.as_deref(),
            filter.ended_by.map(|ended_by| ended_by.0),
            i64::try_from(filter.limit).unwrap_or(i64::MAX),
        ))?;
        let mut dead = Vec::new();
        while let Some(row) = rows.next()? {
            dead.push(match read_view(row) {
                Ok((_, view)) => view,
                Err(failure) => unreadable_view(row, failure.reason())?,
            });
        }
        Ok(dead)
    }

    /// Puts dead letters back into their queues; those found whose unique key is free.
    pub(super) fn retry_dead(&mut self, ids: &[JobId]) -> Result<Vec<JobId>, Failure> {
        self.promote()?;
        let mut retried = Vec::new();
        for id in ids {
            let Some((handle, queue, epoch, key)) = self.find_dead(id)? else {
                continue;
            };
            if epoch == 0 {
                continue; // it never ran: its chain failed earlier, or it was called off
            }
            if let Some(key) = key {
                if self.key_holder(&key)?.is_some() {
                    continue;
                }
                self.take_key(&key, handle)?;
            }
            for leave in [
                "DELETE FROM dead WHERE handle = ?1",
                "DELETE FROM attempts WHERE handle = ?1",
            ] {
                self.conn.prepare_cached(leave)?.execute([handle])?;
            }
            // Whoever asks for it now wants it whatever the time.
            let for_ever = "UPDATE jobs SET begin_by = NULL WHERE handle = ?1 AND begin_by NOTNULL";
            self.conn.prepare_cached(for_ever)?.execute([handle])?;
            self.wait(queue, self.numbers(1)?, handle, self.now.0, epoch)?;
            self.count(queue, 1, 0)?;
            self.after_retry(handle)?;
            retried.push(id.clone());
        }
        self.rings |= !retried.is_empty();
        Ok(retried)
    }

    /// Deletes dead letters; those found.
    pub(super) fn delete_dead(&mut self, ids: &[JobId]) -> Result<Vec<JobId>, Failure> {
        let mut deleted = Vec::new();
        for id in ids {
            if let Some((handle, ..)) = self.find_dead(id)? {
                let mut leave = self.conn.prepare_cached("DELETE FROM dead WHERE handle = ?1")?;
                leave.execute([handle])?;
                self.forget(handle)?;
                deleted.push(id.clone());
            }
        }
        Ok(deleted)
    }

    /// Handle, queue, epoch and unique key of a dead letter.
    #[allow(clippy::type_complexity)] // a row
    fn find_dead(&self, id: &JobId) -> Result<Option<(i64, i64, i64, Option<String>)>, Failure> {
        let mut find = self.conn.prepare_cached(
            "SELECT handle, queue, epoch, unique_key FROM jobs JOIN dead USING (handle) WHERE id = ?1",
        )?;
        let mut rows = find.query([id.as_str()])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let key = match row.get_ref(3)? {
            ValueRef::Null => None,
            _ => Some(text(row, 3, "jobs.unique_key")?.to_owned()),
        };
        Ok(Some((row.get(0)?, row.get(1)?, row.get(2)?, key)))
    }

    /// Names of all queues, sorted.
    pub(super) fn queue_names(&self) -> Result<Vec<QueueName>, Failure> {
        let mut names = self
            .conn
            .prepare_cached("SELECT name FROM queues ORDER BY name")?;
        let mut rows = names.query([])?;
        let mut names = Vec::new();
        while let Some(row) = rows.next()? {
            // No job of another name can be enqueued or claimed.
            names.extend(text(row, 0, "queues.name").and_then(queue_name).ok());
        }
        Ok(names)
    }
}

/// Reads the columns of [`VIEW`].
pub(super) fn read_view(row: &Row<'_>) -> Result<(i64, JobView), Failure> {
    let state = row.get_ref(12)?.as_str()?;
    let state = JobState::ALL.into_iter().find(|known| known.as_str() == state);
    let count = |at, column| {
        let count: Option<i64> = row.get(at)?;
        u32::try_from(count.unwrap_or(0))
            .map_err(|problem| Failure::Corrupt(format!("`{column}`: {problem}")))
    };
    let error: Option<JobError> = read_json(row, 11, "attempts.error")?;
    let attempts: Vec<Attempt> = read_json(row, 13, "attempts.history")?.unwrap_or_default();
    let last_failed = || attempts.last()?.started.filter(|_| state == Some(JobState::Dead));
    let view = JobView {
        id: job_id(text(row, 1, "jobs.id")?)?,
        queue: Some(queue_name(text(row, 2, "queues.name")?)?),
        task: text(row, 3, "jobs.task")?.into(),
        payload: row.get(4)?,
        state: state.unwrap_or(JobState::Waiting),
        enqueued: Unix(row.get(5)?),
        due: row.get::<_, Option<i64>>(6)?.map(Unix),
        started: row.get::<_, Option<i64>>(15)?.map(Unix).or_else(last_failed),
        ended: row.get::<_, Option<i64>>(7)?.map(Unix),
        failures: Some(count(8, "attempts.failures")?),
        losses: Some(count(9, "attempts.losses")?),
        result: row.get(10)?,
        error,
        progress: read_json(row, 14, "running.progress")?,
        attempts,
    };
    Ok((row.get(0)?, view))
}

/// A column that holds JSON, or nothing.
fn read_json<T: DeserializeOwned>(row: &Row<'_>, at: usize, name: &str) -> Result<Option<T>, Failure> {
    let json = row.get_ref(at)?.as_bytes_or_null()?;
    let value = json.map(serde_json::from_slice).transpose();
    value.map_err(|problem| Failure::Corrupt(format!("`{name}`: {problem}")))
}

/// See [`unreadable`].
pub(super) fn unreadable_view(row: &Row<'_>, reason: String) -> Result<JobView, Failure> {
    let bytes = |at: usize| row.get_ref(at)?.as_bytes().map_err(Failure::from);
    let queue = queue_name(&shown(bytes(2)?)).or_else(|_| queue_name("?"))?;
    Ok(unreadable(bytes(1)?, queue, bytes(3)?, reason))
}

fn queue_name(text: &str) -> Result<QueueName, Failure> {
    QueueName::new(text)
        .map_err(|problem| Failure::Corrupt(format!("a queue name in table `queues` {problem}")))
}
