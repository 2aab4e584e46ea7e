//! The transport over RabbitMQ, as kombu has it: queues whose server pushes messages, and takes acknowledgements.
//!
//! One connection consumes, and never publishes: a server that is short of memory reads nothing more from who published, and
//! acknowledgements would stick. A pool has a channel, and on it a consumer a queue, which may hold as many messages as the
//! pool has room for. The connection is the lease: what was not acknowledged on it comes again when it is lost.
//!
//! - [`options`]: what it is told; [`declare`]: exchanges, queues, bindings; [`message`]: what comes;
//! - [`source`]: the task that feeds a supervisor; [`session`], [`pool`], [`surplus`], [`deliveries`], [`outbox`]: what it
//!   knows of the server, of a pool, of what waits for room, of each delivery, and of outcomes; [`calls`]: what the server is asked;
//! - what it does: [`reach`] the server, [`consume`] queues, [`intake`] of messages, [`settle`] them;
//! - [`delay`], [`chain`]: tasks that are due much later; [`mailbox`]: remote control, and [`publish`] what we send;
//! - [`client`]: what producers and readers ask.

mod calls;
mod chain;
mod client;
mod consume;
mod declare;
mod delay;
mod deliveries;
mod intake;
mod mailbox;
mod message;
pub(super) mod options;
mod outbox;
mod pool;
mod publish;
mod reach;
mod search;
mod session;
mod settle;
mod source;
mod surplus;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::delay::Delays;
use self::mailbox::Requests;
use self::options::{AmqpTransport, Declared};
use self::publish::Publisher;
use super::abilities;
use super::consumer::Consumer;
use super::envelope::Message;
use super::options::{Application, Options};
use crate::broker::amqp::link::Link;
use crate::broker::{Abilities, Broker, BrokerError, Events, Orders, Presence, Queues, Reader, Source};
use crate::job::QueueName;

/// One handle on a RabbitMQ server that holds Celery's tasks.
#[derive(Debug)]
pub struct AmqpBroker {
    link: Link,
    transport: AmqpTransport,
    options: Options,
    consumer: Arc<Consumer>,
    publisher: Publisher,
    delays: Delays,
    requests: Requests,
    /// Tasks that wait for their time here: the server does not tell their messages again.
    waiting: Mutex<HashMap<i64, Message>>,
    /// Queues that somebody added while it runs.
    added: Mutex<Vec<Declared>>,
    /// Queues in which nothing waits: the server would have pushed it.
    drained: Mutex<HashSet<QueueName>>,
}

impl AmqpBroker {
    pub(super) async fn open(
        options: &Options,
        app: Application,
        transport: AmqpTransport,
    ) -> Result<Self, BrokerError> {
        let link = Link::new(transport.server.clone(), app.node.name.clone());
        link.connection().await?;
        Ok(AmqpBroker {
            link,
            transport,
            options: options.clone(),
            consumer: Arc::new(Consumer::new(app)?),
            publisher: Publisher::default(),
            delays: Delays::default(),
            requests: Requests::default(),
            waiting: Mutex::default(),
            added: Mutex::default(),
            drained: Mutex::default(),
        })
    }

    fn open_still(&self) -> Result<(), BrokerError> {
        self.consumer.open_still(self.url())
    }

    fn drained(&self) -> MutexGuard<'_, HashSet<QueueName>> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<i64, Message>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue as it is declared.
    fn declared(&self, name: &str) -> Declared {
        let known = self.transport.queues.iter().find(|queue| queue.known_as == name);
        known
            .cloned()
            .or_else(|| self.added().iter().find(|queue| queue.name == name).cloned())
            .unwrap_or_else(|| Declared::missing(name))
    }

    /// The name of a queue at the server.
    fn at_server<'q>(&'q self, queue: &'q str) -> &'q str {
        let known = self.transport.queues.iter().find(|known| known.known_as == queue);
        known.map_or(queue, |known| &known.name)
    }

    fn added(&self) -> MutexGuard<'_, Vec<Declared>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    fn url(&self) -> &str {
        &self.link.shown
    }

    fn queues(&self) -> &dyn Queues {
        self
    }

    fn abilities(&self) -> Abilities<'_> {
        Abilities {
            producer: Some(self),
            reader: self.consumer.results.as_ref().map(|_| self as &dyn Reader),
            purge: Some(self),
            search: Some(self),
            control: Some(self),
            instead: abilities::INSTEAD,
            ..Abilities::default()
        }
    }

    fn app_queues(&self) -> Vec<QueueName> {
        self.consumer.app_queues()
    }

    fn queue_of(&self, task: &str) -> Option<QueueName> {
        self.consumer.queue_of(task)
    }

    fn app_reloaded(&self, facts: &str) -> Result<Vec<String>, BrokerError> {
        self.consumer.reloaded(facts)
    }

    fn presence(self: Arc<Self>, orders: Orders) -> Option<Box<dyn Presence>> {
        Some(Box::new(self.listen(orders)))
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.open_still()?;
        self.declare_all().await?;
        self.consumer.remember()?;
        self.consumer.mingle(&*self).await;
        Ok(source::start(self, events))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        if self.open_still().is_ok() {
            self.consumer.events.leave(self, self.consumer.load_of(0)).await;
            self.consumer.close();
            self.publisher.close().await;
            self.link.close().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::job::{Claim, Claimed, Job, QueueName};

    /// A job of this id from this queue.
    pub fn job(id: &str, queue: &str) -> Claimed {
        let job = Job {
            queue: QueueName::new(queue).unwrap(),
            ..Job::sample(id)
        };
        let claim = Claim {
            job: job.id.clone(),
            handle: 0,
            epoch: 0,
        };
        Claimed { claim, job }
    }
}
