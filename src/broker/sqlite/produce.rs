//! The verb of producers: enqueue.

use rusqlite::OptionalExtension;

use super::error::Failure;
use super::store::{Store, job_id, millis, text};
use super::ties::Ties;
use crate::broker::{BrokerError, Enqueued};
use crate::job::{JobId, NewJob};

impl Store {
    /// Adds jobs; one answer a job, in order.
    pub(super) fn enqueue(&mut self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, Failure> {
        self.promote()?;
        self.enqueue_tied(jobs, Ties::default())
    }

    /// Adds jobs that are all tied to the same others.
    pub(super) fn enqueue_tied(&mut self, jobs: &[NewJob], ties: Ties) -> Result<Vec<Enqueued>, Failure> {
        let first = self.numbers(jobs.len())?;
        let mut answers = Vec::with_capacity(jobs.len());
        let mut handle = first;
        // Jobs of one queue mostly come together: counted once for each run of them.
        for run in jobs.chunk_by(|a, b| a.queue == b.queue) {
            let (mut waiting, mut scheduled) = (0, 0);
            for job in run {
                let holder = job.unique_key.as_deref().map(|key| self.key_holder(key));
                if let Some(holder) = holder.transpose()?.flatten() {
                    answers.push(Enqueued::Duplicate(holder));
                    continue;
                }
                self.enqueue_one(job, handle, ties)?;
                match self.is_later(job) {
                    false => waiting += 1,
                    true => scheduled += 1,
                }
                answers.push(Enqueued::New(job.id.clone()));
                handle += 1;
            }
            if let Some(job) = run.first().filter(|_| waiting + scheduled > 0) {
                let queue = self.queue_or_new(&job.queue)?;
                self.count(queue, waiting, scheduled)?;
            }
        }
        self.rings |= handle > first;
        Ok(answers)
    }

    fn enqueue_one(&mut self, job: &NewJob, handle: i64, ties: Ties) -> Result<(), Failure> {
        let queue = self.insert_new(job, handle, ties)?;
        if let Some(key) = job.unique_key.as_deref() {
            self.take_key(key, handle)?;
        }
        let now = self.now.0;
        match job.due {
            Some(due) if self.is_later(job) => self.schedule(handle, due.0, queue, job.at_front, 0),
            _ if job.at_front => self.wait(queue, -handle, handle, now, 0),
            _ => self.wait(queue, handle, handle, now, 0),
        }
    }

    /// Writes the row of a job that stands nowhere yet, under an id that nobody has. Returns its queue.
    pub(super) fn insert_new(&mut self, job: &NewJob, handle: i64, ties: Ties) -> Result<i64, Failure> {
        let queue = self.queue_or_new(&job.queue)?;
        while !self.insert_job(job, handle, queue, ties)? {
            if !self.forget_expired(&job.id)? {
                return Err(BrokerError::IdTaken(job.id.clone()).into());
            }
        }
        if let Some(begin_by) = job.begin_by {
            self.note_expiry(handle, begin_by)?;
        }
        Ok(queue)
    }

    fn is_later(&self, job: &NewJob) -> bool {
        job.due.is_some_and(|due| due > self.now)
    }

    /// Writes the job's row; false when its id is taken.
    fn insert_job(&self, job: &NewJob, handle: i64, queue: i64, ties: Ties) -> Result<bool, Failure> {
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO jobs (handle, id, queue, task, enqueued, timeout_ms, retries, result_ttl_ms,
                               unique_key, payload, grp, next, begin_by, limit_key, limit_max)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT (id) DO NOTHING",
        )?;
        let inserted = insert.execute((
            handle,
            job.id.as_str(),
            queue,
            &*job.task,
            self.now.0,
            job.timeout.map(millis),
            job.retries,
            job.result_ttl.map(millis),
            job.unique_key.as_deref(),
            &job.payload,
            ties.grp,
            ties.next,
            job.begin_by.map(|begin_by| begin_by.0),
            job.limit.as_ref().map(|limit| &*limit.key),
            job.limit.as_ref().map(|limit| limit.max),
        ))?;
        Ok(inserted == 1)
    }

    /// Makes room for an id whose holder has expired; false when it has not.
    fn forget_expired(&self, id: &JobId) -> Result<bool, Failure> {
        let mut find = self.conn.prepare_cached(
            "SELECT handle FROM jobs JOIN finished USING (handle) WHERE id = ?1 AND expires <= ?2",
        )?;
        let expired: Option<i64> = find
            .query_row((id.as_str(), self.now.0), |row| row.get(0))
            .optional()?;
        if let Some(handle) = expired {
            let mut leave = self
                .conn
                .prepare_cached("DELETE FROM finished WHERE handle = ?1")?;
            leave.execute([handle])?;
            self.forget(handle)?;
        }
        Ok(expired.is_some())
    }

    /// Deletes a job that has left all places.
    pub(super) fn forget(&self, handle: i64) -> Result<(), Failure> {
        for forget in [
            "DELETE FROM jobs WHERE handle = ?1",
            "DELETE FROM attempts WHERE handle = ?1",
        ] {
            self.conn.prepare_cached(forget)?.execute([handle])?;
        }
        Ok(())
    }

    /// Puts a job off; the caller counts it.
    pub(super) fn schedule(
        &self,
        handle: i64,
        due: i64,
        queue: i64,
        at_front: bool,
        epoch: i64,
    ) -> Result<(), Failure> {
        let mut schedule = self.conn.prepare_cached(
            "INSERT INTO scheduled (handle, due, queue, at_front, epoch) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        schedule.execute((handle, due, queue, at_front, epoch))?;
        Ok(())
    }

    /// The job that holds a unique key.
    pub(super) fn key_holder(&self, key: &str) -> Result<Option<JobId>, Failure> {
        let mut find = self
            .conn
            .prepare_cached("SELECT id FROM unique_keys JOIN jobs USING (handle) WHERE key = ?1")?;
        let mut rows = find.query([key])?;
        let holder = rows.next()?.map(|row| job_id(text(row, 0, "jobs.id")?));
        holder.transpose()
    }

    /// Takes a unique key that is free, or whose holder table `jobs` lacks.
    pub(super) fn take_key(&self, key: &str, handle: i64) -> Result<(), Failure> {
        let mut take = self
            .conn
            .prepare_cached("INSERT OR REPLACE INTO unique_keys (key, handle) VALUES (?1, ?2)")?;
        take.execute((key, handle))?;
        Ok(())
    }
}
