//! What producers and readers ask.

use super::RedisBroker;
use crate::broker::celery::abilities;
use crate::broker::celery::new_task::NewTask;
use crate::broker::{BrokerError, Enqueued, Producer, Purge, Reader, Watch, check};
use crate::job::{JobId, JobView, NewJob, QueueName};
use async_trait::async_trait;

#[async_trait]
impl Purge for RedisBroker {
    /// All of them at once. Source: `kombu/transport/redis.py`, `Channel._purge`.
    async fn purge_waiting(&self, queue: &QueueName, _limit: usize) -> Result<u64, BrokerError> {
        self.open_still()?;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for list in self.keys.lists(queue.as_str()) {
            pipeline.cmd("LLEN").arg(&list);
            pipeline.cmd("DEL").arg(&list).ignore();
        }
        let lengths: Vec<u64> = self.link.run_pipeline(&pipeline).await?;
        Ok(lengths.iter().sum())
    }

    async fn purge_scheduled(&self, _queue: &QueueName, _limit: usize) -> Result<u64, BrokerError> {
        Err(abilities::purges_no_etas())
    }
}

#[async_trait]
impl Reader for RedisBroker {
    fn can_retry(&self) -> bool {
        false
    }

    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        self.open_still()?;
        self.consumer.find(self, ids).await
    }

    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        self.consumer.watch(self, ids)
    }
}

#[async_trait]
impl Producer for RedisBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.open_still()?;
        check::new_jobs(&jobs, self.options.payload_len_max)?;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for job in &jobs {
            let message = NewTask::of(job)?.message();
            let list = self.keys.list_for(job.queue.as_str(), 0);
            let push = if job.at_front { "RPUSH" } else { "LPUSH" };
            pipeline.cmd(push).arg(list).arg(message).ignore();
            let expires = self
                .consumer
                .app
                .queues
                .iter()
                .find(|queue| queue.name == job.queue.as_str());
            if let Some(expires) = expires.and_then(|queue| queue.expires) {
                for list in self.keys.lists(job.queue.as_str()) {
                    let millis = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
                    pipeline.cmd("PEXPIRE").arg(list).arg(millis).ignore();
                }
            }
        }
        if !jobs.is_empty() {
            self.link.run_pipeline::<()>(&pipeline).await?;
        }
        Ok(jobs.into_iter().map(|job| Enqueued::New(job.id)).collect())
    }
}
