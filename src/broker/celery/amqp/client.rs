//! What producers and readers ask.

use std::time::Duration;

use async_trait::async_trait;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

use super::AmqpBroker;
use super::declare::Declaring;
use crate::broker::celery::abilities;
use crate::broker::celery::cancel::{TakenOut, Waiting};
use crate::broker::celery::new_task::NewTask;
use crate::broker::{
    Backlog, BrokerError, Canceled, Control, Enqueued, Producer, Purge, Queues, Reader, Watch, check,
};
use crate::job::{JobId, JobView, NewJob, QueueName};

/// Before a queue that had no consumer is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl AmqpBroker {
    /// Declares the queues that the application consumes.
    pub(super) async fn declare_all(&self) -> Result<(), BrokerError> {
        let connection = self.link.connection().await?;
        let mut declaring = Declaring::on(&connection);
        for queue in &self.transport.queues {
            let declared = declaring.queue(queue).await;
            declared.map_err(|error| self.link.error(&error))?;
        }
        let declared = self.declare_native_delays(&connection).await;
        declared.map_err(|error| self.link.error(&error))
    }

    /// Messages that wait in these queues; none in one that is not there.
    pub(super) async fn lengths(&self, queues: &[QueueName]) -> Result<Vec<u64>, BrokerError> {
        let connection = self.link.connection().await?;
        let mut declaring = Declaring::on(&connection);
        let mut lengths = Vec::with_capacity(queues.len());
        for queue in queues {
            match declaring.length(self.at_server(queue.as_str())).await {
                Ok(length) => lengths.push(length.into()),
                Err(error) if is_missing(&error) => lengths.push(0),
                Err(error) => return Err(self.link.error(&error)),
            }
        }
        Ok(lengths)
    }

    /// Those of these queues that have no consumer, as the server counts them. One that is not there has none.
    async fn without_consumer(&self, queues: &[QueueName]) -> Result<Vec<QueueName>, BrokerError> {
        let connection = self.link.connection().await?;
        let mut declaring = Declaring::on(&connection);
        let mut without = Vec::new();
        for queue in queues {
            match declaring.counts(self.at_server(queue.as_str())).await {
                Ok((_, 0)) => without.push(queue.clone()),
                Ok(_) => {}
                Err(error) if is_missing(&error) => without.push(queue.clone()),
                Err(error) => return Err(self.link.error(&error)),
            }
        }
        Ok(without)
    }
}

fn is_missing(error: &lapin::Error) -> bool {
    let not_found = AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND);
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(said) if *said.kind() == not_found)
}

#[async_trait]
impl Queues for AmqpBroker {
    /// How long the oldest has waited is not known. Queues of which is known that nothing waits in them are not asked.
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        self.open_still()?;
        let asked: Vec<QueueName> = {
            let drained = self.drained();
            let asked = queues.iter().filter(|queue| !drained.contains(*queue));
            asked.cloned().collect()
        };
        let lengths = match asked.is_empty() {
            true => Vec::new(),
            false => self.lengths(&asked).await?,
        };
        let hand = self.consumer.hand();
        Ok(Backlog {
            by_queue: asked.into_iter().zip(lengths).collect(),
            scheduled: queues.iter().map(|queue| hand.etas.len_of(queue) as u64).sum(),
            oldest: None,
        })
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.open_still()?;
        let named = self.transport.queues.iter();
        let mut names: Vec<_> = named
            .filter_map(|queue| QueueName::new(&queue.known_as).ok())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn unserved(&self, queues: &[QueueName]) -> Result<Option<Vec<QueueName>>, BrokerError> {
        self.open_still()?;
        let unserved = self.without_consumer(queues).await?;
        if unserved.is_empty() {
            return Ok(Some(unserved));
        }
        // A pool has no consumer while all of its workers are busy; as a node it tells its queues.
        if self.consumer.app.node.exchange.is_some() {
            return self.consumer.unserved(&unserved, self).await;
        }
        // It may just be ending one consumer to begin another.
        tokio::time::sleep(LOOK_AGAIN).await;
        Ok(Some(self.without_consumer(&unserved).await?))
    }
}

#[async_trait]
impl Purge for AmqpBroker {
    /// All of them at once.
    async fn purge_waiting(&self, queue: &QueueName, _limit: usize) -> Result<u64, BrokerError> {
        self.open_still()?;
        let connection = self.link.connection().await?;
        match Declaring::on(&connection).purge(queue.as_str()).await {
            Ok(count) => Ok(count.into()),
            Err(error) if is_missing(&error) => Ok(0),
            Err(error) => Err(self.link.error(&error)),
        }
    }

    async fn purge_scheduled(&self, _queue: &QueueName, _limit: usize) -> Result<u64, BrokerError> {
        Err(abilities::purges_no_etas())
    }
}

#[async_trait]
impl Waiting for AmqpBroker {
    /// A queue shows its messages only to who takes them.
    async fn take_out(&self, _ids: &[JobId]) -> Result<Option<TakenOut>, BrokerError> {
        Ok(None)
    }
}

#[async_trait]
impl Control for AmqpBroker {
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.open_still()?;
        self.consumer.cancel(ids, self).await
    }

    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.open_still()?;
        self.consumer.stop(ids, self).await
    }
}

#[async_trait]
impl Reader for AmqpBroker {
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
impl Producer for AmqpBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.open_still()?;
        check::new_jobs(&jobs, self.options.payload_len_max)?;
        let tasks: Result<Vec<_>, _> = jobs.iter().map(NewTask::of).collect();
        let tasks = tasks?;
        if let Some(job) = jobs.iter().find(|job| job.at_front) {
            return Err(BrokerError::Refused(format!(
                "cannot enqueue job `{}` at the front: a queue of RabbitMQ has no such place (use a priority)",
                job.id
            )));
        }
        self.publisher.tasks(self, &tasks).await?;
        Ok(jobs.into_iter().map(|job| Enqueued::New(job.id)).collect())
    }
}
