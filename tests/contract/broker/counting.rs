//! A broker that counts what its user asks of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use pool::broker::{
    Broker, BrokerError, Ended, Enqueued, Events, NotHere, Producer, Queues, Reader, Source, Watch,
};
use pool::job::{JobId, JobView, NewJob};

/// Passes everything on and counts it.
#[derive(Debug)]
pub struct Counting {
    inner: Arc<dyn Broker>,
    asked: Arc<AtomicU64>,
}

impl Counting {
    pub fn new(inner: Arc<dyn Broker>) -> Self {
        Counting {
            inner,
            asked: Arc::default(),
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
    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.inner.clone().supply(events).await
    }
    fn queues(&self) -> &dyn Queues {
        self.inner.queues()
    }
    fn producer(&self) -> Result<&dyn Producer, NotHere> {
        Ok(self)
    }
    fn reader(&self) -> Result<&dyn Reader, NotHere> {
        Ok(self)
    }
    async fn close(&self) -> Result<(), BrokerError> {
        self.count().close().await
    }
}

#[async_trait]
impl Producer for Counting {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.count().producer()?.enqueue(jobs).await
    }
}

#[async_trait]
impl Reader for Counting {
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        self.count().reader()?.find(ids).await
    }

    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        let inner = self.inner.reader().expect("a broker with results").watch(ids);
        let asked = Arc::clone(&self.asked);
        Box::new(CountingWatch { inner, asked })
    }
}

/// Counts how often it is asked for more.
struct CountingWatch {
    inner: Box<dyn Watch>,
    asked: Arc<AtomicU64>,
}

#[async_trait]
impl Watch for CountingWatch {
    async fn next(&mut self) -> Result<Vec<Ended>, BrokerError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.next().await
    }
}
