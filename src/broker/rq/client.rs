//! What producers and readers ask.

use async_trait::async_trait;

use super::RqBroker;
use crate::broker::{
    Backlog, BrokerError, DeadFilter, DeadLetters, Enqueued, GroupView, Groups, NewGroup, Producer, Queues,
    Reader, StateName, Watch,
};
use crate::job::{GroupId, JobId, JobView, NewJob, QueueName};

#[async_trait]
impl Producer for RqBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.open_still()?;
        self.add_jobs(&jobs).await
    }
}

#[async_trait]
impl Queues for RqBroker {
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        self.open_still()?;
        self.count(queues).await
    }

    async fn blocked(&self, queues: &[QueueName]) -> Result<Vec<u64>, BrokerError> {
        self.open_still()?;
        self.count_blocked(queues).await
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.open_still()?;
        self.queue_names().await
    }

    async fn unserved(&self, queues: &[QueueName]) -> Result<Option<Vec<QueueName>>, BrokerError> {
        self.open_still()?;
        let mut unserved = Vec::new();
        for queue in queues {
            let workers = self.keys.workers_of(queue.as_str());
            let count: u64 = self.link.run_command(redis::cmd("SCARD").arg(workers)).await?;
            if count == 0 {
                unserved.push(queue.clone());
            }
        }
        Ok(Some(unserved))
    }

    async fn without_scheduler(&self, queues: &[QueueName]) -> Result<Vec<QueueName>, BrokerError> {
        self.open_still()?;
        let mut without = Vec::new();
        for queue in queues {
            let lock = self.keys.scheduler_lock(queue.as_str());
            let is_held: bool = self.link.run_command(redis::cmd("EXISTS").arg(lock)).await?;
            if !is_held {
                without.push(queue.clone());
            }
        }
        Ok(without)
    }
}

#[async_trait]
impl Reader for RqBroker {
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        self.open_still()?;
        self.look_up_with_attempts(ids).await
    }

    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        self.watch_results(ids)
    }
}

#[async_trait]
impl DeadLetters for RqBroker {
    /// RQ requeues what failed. A canceled job is in a registry of its own.
    fn states(&self) -> &'static [StateName] {
        &[StateName::Dead]
    }

    async fn list(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        self.open_still()?;
        self.failed(filter).await
    }

    async fn retry(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.open_still()?;
        self.requeue(ids, "requeue").await
    }

    async fn delete(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.open_still()?;
        self.requeue(ids, "delete").await
    }
}

#[async_trait]
impl Groups for RqBroker {
    async fn enqueue(&self, group: NewGroup) -> Result<(), BrokerError> {
        self.open_still()?;
        self.add_group(group).await
    }

    async fn find(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        self.open_still()?;
        self.group_view(id).await
    }

    async fn members(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        self.open_still()?;
        self.group_members(id).await
    }

    async fn wait(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        self.open_still()?;
        self.await_group(id, beyond).await
    }
}
