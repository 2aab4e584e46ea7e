//! Requests of remote control come by `PUBLISH`. Source: `kombu/transport/redis.py`, `Channel`, `_get_publish_topic`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::RedisBroker;
use crate::broker::celery::control::{Hearing, Mailbox, Question};
use crate::broker::celery::envelope::{Message, unacked};
use crate::broker::celery::options::Queue;
use crate::broker::celery::publish::Publication;
use crate::broker::celery::remote::ReplyTo;
use crate::broker::{BrokerError, Orders};

/// Tasks that wait for their time and are read in one call.
const BATCH_MAX: usize = 500;

impl RedisBroker {
    /// Begins to hear what is asked of our node, and to tell what it does.
    pub(super) fn listen(self: Arc<Self>, orders: Orders) -> Hearing {
        if let Some(exchange) = &self.consumer.app.node.exchange {
            let channel = self.transport.channel(exchange);
            self.mailbox.listen_to(BTreeMap::from([(channel, 0)]));
        }
        let consumer = Arc::clone(&self.consumer);
        let mailbox: Arc<dyn Mailbox> = self;
        Hearing::begin(&consumer, &mailbox, orders)
    }
}

impl RedisBroker {
    /// What comes into this list, until all have answered who hear the question, or the time is up.
    async fn answers(
        &self,
        question: &Publication,
        list: &str,
        within: Duration,
    ) -> Result<Vec<Vec<u8>>, BrokerError> {
        let asked = self.send(question).await?;
        let mut answers = Vec::new();
        let deadline = tokio::time::sleep(within);
        tokio::pin!(deadline);
        while answers.len() < asked {
            tokio::select! {
                () = &mut deadline => break,
                came = self.wake_ups.any(vec![list.to_owned()]) => came.map_err(|error| self.link.endpoint.error(&error))?,
            }
            let mut take = redis::cmd("RPOP");
            take.arg(list).arg(asked);
            let came: Option<Vec<Vec<u8>>> = self.link.run_command(&take).await?;
            answers.extend(came.unwrap_or_default());
        }
        Ok(answers)
    }
}

#[async_trait]
impl Question for RedisBroker {
    /// The server says how many hear the question.
    async fn ask(
        &self,
        question: &Publication,
        reply_to: &ReplyTo,
        within: Duration,
    ) -> Result<Vec<Vec<u8>>, BrokerError> {
        let queue = format!("{}.{}", reply_to.routing_key, reply_to.exchange);
        let binding = self.keys.binding(&reply_to.routing_key, "", &queue);
        let (bindings, list) = (
            self.keys.bindings(&reply_to.exchange),
            self.keys.list_for(&queue, 0),
        );
        let mut bind = redis::cmd("SADD");
        bind.arg(&bindings).arg(&binding);
        self.link.run_command::<i64>(&bind).await?;
        let answers = self.answers(question, &list, within).await;
        let mut forget = redis::pipe();
        forget.srem(&bindings, &binding).ignore().del(&list).ignore();
        self.link.run_pipeline::<()>(&forget).await?;
        answers
    }
}

#[async_trait]
impl Mailbox for RedisBroker {
    async fn next(&self) -> Vec<u8> {
        let (_, message) = self.mailbox.next().await;
        message
    }

    fn changes_queues(&self) -> bool {
        true
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), BrokerError> {
        self.bind(std::iter::once(queue)).await
    }

    /// Only the server has their messages. Their scores stay.
    async fn waiting(&self, numbers: &[i64]) -> Result<Vec<Message>, BrokerError> {
        let mut messages = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(BATCH_MAX) {
            let mut ask = redis::cmd("HMGET");
            ask.arg(self.keys.unacked());
            for number in chunk {
                ask.arg(self.tag(*number));
            }
            let entries: Vec<Option<Vec<u8>>> = self.link.run_command(&ask).await?;
            for entry in entries.into_iter().flatten() {
                let raw = unacked(&entry).map_or(entry, |(raw, _)| raw);
                messages.extend(Message::read(&raw, false));
            }
        }
        Ok(messages)
    }
}
