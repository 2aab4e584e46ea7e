//! A broker that counts what its user asks of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use pool::broker::{Backlog, Broker, BrokerError, DeadFilter, Enqueued, Maintained};
use pool::job::{Claimed, JobId, JobView, NewJob, QueueName, Settlement};

/// Passes everything on and counts it.
#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn Broker>,
    asked: AtomicU64,
}

impl Counting {
    pub fn new(inner: Arc<dyn Broker>) -> Self {
        Counting {
            inner,
            asked: AtomicU64::new(0),
        }
    }

    /// Requests so far, those included that are not answered yet.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn count(&self) -> &dyn Broker {
        self.asked.fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }
}

#[async_trait]
impl Broker for Counting {
    fn url(&self) -> &str {
        self.inner.url()
    }
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.count().enqueue(jobs).await
    }
    async fn claim(&self, queues: &[QueueName], limit: usize) -> Result<Vec<Claimed>, BrokerError> {
        self.count().claim(queues, limit).await
    }
    async fn extend(&self) -> Result<(), BrokerError> {
        self.count().extend().await
    }
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, BrokerError> {
        self.count().settle(settlements).await
    }
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        self.count().backlog(queues).await
    }
    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        self.count().ready(queues).await
    }
    async fn maintain(&self) -> Result<Maintained, BrokerError> {
        self.count().maintain().await
    }
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        self.count().find(ids).await
    }
    async fn wait_any(&self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        self.count().wait_any(ids).await
    }
    async fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        self.count().dead(filter).await
    }
    async fn retry_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.count().retry_dead(ids).await
    }
    async fn delete_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.count().delete_dead(ids).await
    }
    async fn queues(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.count().queues().await
    }
    async fn close(&self) -> Result<(), BrokerError> {
        self.count().close().await
    }
}
