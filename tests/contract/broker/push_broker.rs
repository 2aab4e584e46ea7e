//! What programs ask of the broker that pushes, besides being fed.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use pool::broker::source::{Events, Source};
use pool::broker::{Backlog, Broker, BrokerError, Canceled, Control, Enqueued, NotHere, Producer, Queues};
use pool::job::{JobId, NewJob, QueueName, Verdict};
use pool::time::Unix;

use super::feed;
use super::server::{Message, Pushed, Server, State};

const URL: &str = "push:";
/// Largest payload of a message, in bytes.
const PAYLOAD_LEN_MAX: usize = 1000;

/// One handle on a server.
#[derive(Debug)]
pub struct PushBroker {
    server: Server,
    is_closed: AtomicBool,
}

impl PushBroker {
    pub fn on(server: Server) -> Self {
        let is_closed = AtomicBool::new(false);
        PushBroker { server, is_closed }
    }

    /// The server, if it can be reached.
    fn reach(&self) -> Result<MutexGuard<'_, State>, BrokerError> {
        if self.is_closed.load(Relaxed) {
            return Err(BrokerError::Refused(format!("{URL} was closed by this program")));
        }
        let state = self.server.state();
        if state.is_away { Err(away()) } else { Ok(state) }
    }
}

/// Nobody answers.
pub fn away() -> BrokerError {
    BrokerError::Unreachable {
        url: URL.to_owned(),
        reason: "the connection is refused".to_owned(),
        hint: "is the server running?",
    }
}

#[async_trait]
impl Broker for PushBroker {
    fn url(&self) -> &str {
        URL
    }

    fn queues(&self) -> &dyn Queues {
        self
    }

    fn producer(&self) -> Result<&dyn Producer, NotHere> {
        Ok(self)
    }

    fn control(&self) -> Result<&dyn Control, NotHere> {
        Ok(self)
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        drop(self.reach()?);
        Ok(feed(&self.server, events))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        self.is_closed.store(true, Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Producer for PushBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        let mut state = self.reach()?;
        if let Some(job) = jobs.iter().find(|job| job.payload.len() > PAYLOAD_LEN_MAX) {
            return Err(BrokerError::Refused(format!(
                "the payload of job `{}` is too large",
                job.id
            )));
        }
        let mut enqueued = Vec::new();
        for job in jobs {
            enqueued.push(Enqueued::New(job.id.clone()));
            let message = Message {
                failures: 0,
                losses: 0,
                since: Unix::now(),
                odd: None,
                job,
            };
            let queue = state.queues.entry(message.job.queue.clone()).or_default();
            queue.push_back(message);
        }
        state.push();
        Ok(enqueued)
    }
}

#[async_trait]
impl Control for PushBroker {
    /// As Celery revokes: what waits is taken out, and who may have the rest is told.
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        let mut state = self.reach()?;
        let mut answers = Vec::new();
        for id in ids {
            let mut queues = state.queues.values_mut();
            let taken = queues.any(|queue| {
                let at = queue.iter().position(|message| message.job.id == *id);
                at.and_then(|at| queue.remove(at)).is_some()
            });
            if taken {
                state.end(id.clone(), Verdict::Canceled);
                answers.push(Canceled::Done);
                continue;
            }
            state.revoked.insert(id.clone());
            for channel in state.channels.values() {
                let _ = channel.push.send(Pushed::Revoked { job: id.clone() });
            }
            answers.push(match state.ended.contains_key(id) {
                true => Canceled::Ended,
                false => Canceled::Asked,
            });
        }
        Ok(answers)
    }

    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.cancel(ids).await
    }
}

#[async_trait]
impl Queues for PushBroker {
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        let state = self.reach()?;
        let found = queues
            .iter()
            .filter_map(|queue| state.queues.get_key_value(queue));
        let counted = found
            .clone()
            .map(|(name, jobs)| (name.clone(), jobs.len() as u64));
        Ok(Backlog {
            by_queue: counted.collect(),
            scheduled: 0,
            oldest: found.filter_map(|(_, jobs)| Some(jobs.front()?.since)).min(),
        })
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        Ok(self.reach()?.queues.keys().cloned().collect())
    }
}
