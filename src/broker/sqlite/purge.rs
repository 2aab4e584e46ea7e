//! Deleting what waits.

use async_trait::async_trait;

use super::SqliteBroker;
use super::error::Failure;
use super::store::{Access, Store};
use crate::broker::{BrokerError, Purge};
use crate::job::{JobError, QueueName};

impl Store {
    fn purge_waiting(&mut self, name: &QueueName, limit: usize) -> Result<u64, Failure> {
        self.promote()?;
        let Some(queue) = self.queue(name)? else {
            return Ok(0);
        };
        let waiting = "DELETE FROM waiting WHERE (queue, position) IN (
                           SELECT queue, position FROM waiting WHERE queue = ?1 ORDER BY position LIMIT ?2)
                       RETURNING handle";
        let mut gone = self.take_some(waiting, queue, limit)?;
        self.count(queue, -i64::try_from(gone.len()).unwrap_or(i64::MAX), 0)?;
        let blocked = "DELETE FROM blocked WHERE handle IN (
                           SELECT handle FROM blocked INDEXED BY blocked_queue WHERE queue = ?1 LIMIT ?2)
                       RETURNING handle";
        gone.extend(self.take_some(blocked, queue, limit - gone.len())?);
        self.delete_unrun(&gone)
    }

    fn purge_scheduled(&mut self, name: &QueueName, limit: usize) -> Result<u64, Failure> {
        self.promote()?;
        let Some(queue) = self.queue(name)? else {
            return Ok(0);
        };
        let scheduled = "DELETE FROM scheduled WHERE handle IN (
                             SELECT handle FROM scheduled WHERE queue = ?1 LIMIT ?2)
                         RETURNING handle";
        let gone = self.take_some(scheduled, queue, limit)?;
        self.count(queue, 0, -i64::try_from(gone.len()).unwrap_or(i64::MAX))?;
        self.delete_unrun(&gone)
    }

    fn take_some(&self, sql: &str, queue: i64, limit: usize) -> Result<Vec<i64>, Failure> {
        let mut take = self.conn.prepare_cached(sql)?;
        let handles = take.query_map([queue, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            row.get(0)
        })?;
        Ok(handles.collect::<Result<_, _>>()?)
    }

    /// Deletes jobs that stand nowhere any more, and tells those who wait for them.
    fn delete_unrun(&mut self, handles: &[i64]) -> Result<u64, Failure> {
        let canceled = JobError::canceled();
        for &handle in handles {
            self.free_limit_of(handle)?;
            if let Err(reason) = self.alone(|| self.tell_of_failure(handle, &canceled))? {
                tracing::error!(handle, %reason, "a job that is deleted can't be read");
            }
            self.forget(handle)?;
        }
        self.unblock()?;
        self.rings |= !handles.is_empty();
        Ok(handles.len() as u64)
    }
}

#[async_trait]
impl Purge for SqliteBroker {
    async fn purge_waiting(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        let queue = queue.clone();
        self.engine
            .run(Access::Write, move |store| store.purge_waiting(&queue, limit))
            .await
    }

    async fn purge_scheduled(&self, queue: &QueueName, limit: usize) -> Result<u64, BrokerError> {
        let queue = queue.clone();
        self.engine
            .run(Access::Write, move |store| store.purge_scheduled(&queue, limit))
            .await
    }
}
