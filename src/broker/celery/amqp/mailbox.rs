//! Requests of remote control come through a fanout exchange, to each node by a queue of its own. Answers and events go to
//! exchanges, too. Source: `kombu/pidbox.py`, `Mailbox`.
//!
//! The requests come on the connection that publishes: they need no acknowledgement, so an alarm does not hold them up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::AmqpBroker;
use super::declare::short;
use super::message::headers_of;
use super::options::{Declared, Exchange};
use crate::broker::celery::control::{Hearing, Mailbox, Question};
use crate::broker::celery::envelope::Message;
use crate::broker::celery::options::Queue;
use crate::broker::celery::publish::{ExchangeType, Publication, Publish};
use crate::broker::celery::remote::ReplyTo;
use crate::broker::parts::backoff::Backoff;
use crate::broker::{BrokerError, Orders};
use crate::time::Mono;

/// Nobody's queue vanishes after so long. Source: `celery/app/defaults.py`, `control_queue_expires`.
const EXPIRES: Duration = Duration::from_secs(10);
/// A request is old after so long. Source: the same, `control_queue_ttl`.
const TTL: Duration = Duration::from_secs(300);

/// Where requests come from, once somebody listens.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<Listening>);

#[derive(Debug, Default)]
struct Listening {
    /// The consumer needs its channel.
    open: Option<(Channel, lapin::Consumer)>,
    backoff: Backoff,
}

impl AmqpBroker {
    /// Begins to hear what is asked of our node, and to tell what it does.
    pub(super) fn listen(self: Arc<Self>, orders: Orders) -> Hearing {
        let consumer = Arc::clone(&self.consumer);
        let mailbox: Arc<dyn Mailbox> = self;
        Hearing::begin(&consumer, &mailbox, orders)
    }

    async fn begin_listening(&self) -> Result<(Channel, lapin::Consumer), BrokerError> {
        let exchange = self.consumer.app.node.exchange.as_deref().unwrap_or_default();
        self.publisher
            .declare(self, &transient(exchange, "fanout"))
            .await?;
        let channel = self.publisher.channel(self).await?;
        let begun = self.consume_requests(&channel).await;
        let consumer = begun.map_err(|error| self.link.error(&error))?;
        Ok((channel, consumer))
    }

    async fn consume_requests(&self, channel: &Channel) -> lapin::Result<lapin::Consumer> {
        let node = &self.consumer.app.node;
        let exchange = node.exchange.clone().unwrap_or_default();
        let queue = short(&format!("{}.{exchange}", node.name));
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel.queue_declare(queue.clone(), options, arguments()).await?;
        let (from, none) = (short(&exchange), FieldTable::default);
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.clone(), from, ShortString::default(), bind, none())
            .await?;
        let consume = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        channel
            .basic_consume(queue, ShortString::default(), consume, none())
            .await
    }
}

impl AmqpBroker {
    async fn consume_answers(&self, channel: &Channel, reply_to: &ReplyTo) -> lapin::Result<lapin::Consumer> {
        let queue = short(&format!("{}.{}", reply_to.routing_key, reply_to.exchange));
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let mut expires = FieldTable::default();
        expires.insert("x-expires".into(), millis(EXPIRES));
        channel.queue_declare(queue.clone(), options, expires).await?;
        let (from, key) = (short(&reply_to.exchange), short(&reply_to.routing_key));
        let (bind, none) = (QueueBindOptions::default(), FieldTable::default);
        channel.queue_bind(queue.clone(), from, key, bind, none()).await?;
        let consume = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        channel
            .basic_consume(queue, ShortString::default(), consume, none())
            .await
    }
}

#[async_trait]
impl Mailbox for AmqpBroker {
    async fn next(&self) -> Vec<u8> {
        let mut listening = self.requests.0.lock().await;
        let Listening { open, backoff } = &mut *listening;
        loop {
            if let Some((_, consumer)) = open {
                match consumer.next().await {
                    Some(Ok(delivery)) => return envelope(&delivery),
                    Some(Err(_)) | None => *open = None,
                }
            }
            if let Some(at) = backoff.next(Mono::now()) {
                tokio::time::sleep(at.since(Mono::now())).await;
            }
            match self.begin_listening().await {
                Ok(begun) => {
                    if backoff.worked() {
                        tracing::info!("remote control requests are heard again");
                    }
                    *open = Some(begun);
                }
                Err(error) => {
                    if !backoff.is_failing() {
                        tracing::warn!(%error, "remote control requests can't be heard");
                    }
                    backoff.failed(Mono::now(), fastrand::f64());
                }
            }
        }
    }

    fn changes_queues(&self) -> bool {
        true
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), BrokerError> {
        {
            let mut added = self.added();
            added.retain(|known| known.name != queue.name);
            added.push(declared(queue));
        }
        self.publisher.declare_queue(self, &queue.name).await
    }

    /// Those that wait for their time in this process.
    async fn waiting(&self, numbers: &[i64]) -> Result<Vec<Message>, BrokerError> {
        let waiting = AmqpBroker::waiting(self);
        Ok(numbers
            .iter()
            .filter_map(|number| waiting.get(number).cloned())
            .collect())
    }
}

/// Answers to a question come into a queue of its own. Source: `kombu/pidbox.py`, `Mailbox.get_reply_queue`.
#[async_trait]
impl Question for AmqpBroker {
    /// The server says whether anybody hears it, and not how many do.
    async fn ask(
        &self,
        question: &Publication,
        reply_to: &ReplyTo,
        within: Duration,
    ) -> Result<Vec<Vec<u8>>, BrokerError> {
        self.publisher
            .declare(self, &transient(&question.exchange, "fanout"))
            .await?;
        self.publisher
            .declare(self, &transient(&reply_to.exchange, "direct"))
            .await?;
        let channel = self.publisher.channel(self).await?;
        let begun = self.consume_answers(&channel, reply_to).await;
        let mut answers = begun.map_err(|error| self.link.error(&error))?;
        let mut came = Vec::new();
        if self.publisher.question(self, question).await? {
            let deadline = tokio::time::sleep(within);
            tokio::pin!(deadline);
            loop {
                tokio::select! {
                    () = &mut deadline => break,
                    answer = answers.next() => match answer {
                        Some(Ok(delivery)) => came.push(envelope(&delivery)),
                        Some(Err(_)) | None => break,
                    },
                }
            }
        }
        let _ = channel.close(200, "all have answered".into()).await; // it may be gone already
        Ok(came)
    }
}

#[async_trait]
impl Publish for AmqpBroker {
    async fn publish(&self, message: &Publication) -> Result<(), BrokerError> {
        // Source: `kombu/pidbox.py`, `Mailbox`; `celery/events/event.py`, `get_exchange`.
        let (kind, durable) = match message.exchange_type {
            ExchangeType::Direct => ("direct", false),
            ExchangeType::Topic => ("topic", true),
            ExchangeType::Fanout => ("fanout", false),
        };
        let exchange = Exchange {
            durable,
            ..transient(&message.exchange, kind)
        };
        self.publisher.note(self, &exchange, message).await
    }
}

/// A queue that somebody adds. Source: `celery/worker/consumer/consumer.py`, `Consumer.add_task_queue`.
fn declared(queue: &Queue) -> Declared {
    let missing = Declared::missing(&queue.name);
    Declared {
        exchange: Exchange {
            name: queue.exchange.clone(),
            kind: queue.exchange_type.clone(),
            ..missing.exchange
        },
        routing_key: queue.routing_key.clone(),
        ..missing
    }
}

/// An exchange of remote control's. Source: `kombu/pidbox.py`, `_get_exchange`, `_get_reply_exchange`.
fn transient(name: &str, kind: &str) -> Exchange {
    Exchange {
        name: name.to_owned(),
        kind: kind.to_owned(),
        ..Exchange::default()
    }
}

fn millis(duration: Duration) -> AMQPValue {
    AMQPValue::LongInt(i32::try_from(duration.as_millis()).unwrap_or(i32::MAX))
}

fn arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), millis(EXPIRES));
    arguments.insert("x-message-ttl".into(), millis(TTL));
    arguments
}

/// A request as kombu writes it into a list of Redis.
fn envelope(delivery: &Delivery) -> Vec<u8> {
    let text = |value: &Option<ShortString>| value.as_ref().map_or(Value::Null, |text| text.as_str().into());
    let message = json!({
        "body": STANDARD.encode(&delivery.data),
        "content-type": text(delivery.properties.content_type()),
        "content-encoding": text(delivery.properties.content_encoding()),
        "headers": headers_of(delivery),
        "properties": {"body_encoding": "base64"},
    });
    message.to_string().into_bytes()
}
