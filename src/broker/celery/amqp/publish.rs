//! Publishing, on a connection of its own: while a server has a memory or disk alarm it reads nothing more from a connection
//! that has published, and acknowledgements would wait there.

use std::collections::HashSet;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use serde_json::Map;
use tokio::sync::Mutex;

use super::AmqpBroker;
use super::declare::{Declaring, short, table};
use super::options::Exchange;
use crate::broker::BrokerError;
use crate::broker::celery::new_task::NewTask;
use crate::broker::celery::publish::Publication;

/// Longest wait for the server to confirm what was published.
const CONFIRM_MAX: Duration = Duration::from_secs(30);
/// The server keeps it when it restarts. Source: `kombu/entity.py`, `PERSISTENT_DELIVERY_MODE`.
const PERSISTENT: u8 = 2;
/// It does not. Source: the same, `TRANSIENT_DELIVERY_MODE`.
const TRANSIENT: u8 = 1;

/// Connects with the first message, and anew after an error.
#[derive(Debug, Default)]
pub(super) struct Publisher(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// The server confirms what is published here.
    confirmed: Channel,
    /// Nobody waits for what is published here.
    plain: Channel,
    /// Queues and exchanges that were declared.
    declared: HashSet<String>,
}

impl Publisher {
    /// Sends these. The server has all of them then.
    pub async fn tasks(&self, broker: &AmqpBroker, tasks: &[NewTask<'_>]) -> Result<(), BrokerError> {
        let channel = {
            let mut slot = self.0.lock().await;
            let open = opened(&mut slot, broker).await?;
            for task in tasks {
                let declared = open.declare_queue(broker, task.queue()).await;
                declared.map_err(|error| broker.link.error(&error))?;
            }
            open.confirmed.clone()
        };
        let sending = async {
            let mut confirms = Vec::with_capacity(tasks.len());
            for task in tasks {
                let none = Map::new();
                let headers = task.headers.as_object().unwrap_or(&none);
                let properties = json_properties(PERSISTENT)
                    .with_correlation_id(task.id().into())
                    .with_headers(table(headers));
                let (queue, body) = (task.queue().into(), task.body.as_bytes());
                let options = BasicPublishOptions::default();
                let sent = channel.basic_publish("".into(), queue, options, body, properties);
                confirms.push(sent.await?);
            }
            for confirm in confirms {
                confirm.await?;
            }
            Ok(())
        };
        in_time(broker, sending).await
    }

    /// Sends a message, and waits until a queue has it.
    ///
    /// # Errors
    /// [`BrokerError::Busy`]: the server accepts nothing now, or no queue takes the message. Any other: whether a queue has it
    /// is not known.
    pub async fn message(
        &self,
        broker: &AmqpBroker,
        (exchange, key): (&str, ShortString),
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BrokerError> {
        let channel = opened(&mut *self.0.lock().await, broker).await?.confirmed.clone();
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let sending = async {
            let sent = channel.basic_publish(exchange.into(), key, options, body, properties);
            sent.await?.await
        };
        match in_time(broker, sending).await? {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
            Confirmation::Ack(Some(_)) => {
                Err(busy(broker, &format!("no queue takes a message to `{exchange}`")))
            }
            Confirmation::Nack(_) => Err(busy(
                broker,
                &format!("it does not accept a message to `{exchange}`"),
            )),
        }
    }

    /// Sends what nobody waits for: an answer, an event.
    pub async fn note(
        &self,
        broker: &AmqpBroker,
        exchange: &Exchange,
        message: &Publication,
    ) -> Result<(), BrokerError> {
        self.declare(broker, exchange).await?;
        let channel = opened(&mut *self.0.lock().await, broker).await?.plain.clone();
        let mode = if message.is_persistent {
            PERSISTENT
        } else {
            TRANSIENT
        };
        let content = &message.content;
        let properties = json_properties(mode)
            .with_content_type(short(&content.content_type))
            .with_content_encoding(short(&content.encoding))
            .with_headers(table(&message.headers));
        let (to, key) = (short(&exchange.name), short(&message.routing_key));
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(to, key, options, &content.body, properties);
        in_time(broker, async { sent.await.map(drop) }).await
    }

    /// Sends a question to whoever is bound to its exchange. Returns whether anybody is.
    pub async fn question(&self, broker: &AmqpBroker, message: &Publication) -> Result<bool, BrokerError> {
        let channel = opened(&mut *self.0.lock().await, broker).await?.confirmed.clone();
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = json_properties(TRANSIENT).with_headers(table(&message.headers));
        let (to, key) = (short(&message.exchange), short(&message.routing_key));
        let sending = async {
            let sent = channel.basic_publish(to, key, options, &message.content.body, properties);
            sent.await?.await
        };
        Ok(!matches!(
            in_time(broker, sending).await?,
            Confirmation::Ack(Some(_)) | Confirmation::Nack(_)
        ))
    }

    /// Declares a queue, once a connection.
    pub async fn declare_queue(&self, broker: &AmqpBroker, name: &str) -> Result<(), BrokerError> {
        let mut slot = self.0.lock().await;
        let open = opened(&mut slot, broker).await?;
        let declared = open.declare_queue(broker, name).await;
        declared.map_err(|error| broker.link.error(&error))
    }

    /// Declares an exchange, once a connection.
    pub async fn declare(&self, broker: &AmqpBroker, exchange: &Exchange) -> Result<(), BrokerError> {
        let mut slot = self.0.lock().await;
        let open = opened(&mut slot, broker).await?;
        let declared = open.declare_exchange(exchange).await;
        declared.map_err(|error| broker.link.error(&error))
    }

    /// A channel of its connection, for what is not published: an error closes it.
    pub async fn channel(&self, broker: &AmqpBroker) -> Result<Channel, BrokerError> {
        let mut slot = self.0.lock().await;
        let open = opened(&mut slot, broker).await?;
        let channel = open.connection.create_channel().await;
        channel.map_err(|error| broker.link.error(&error))
    }

    pub async fn close(&self) {
        if let Some(open) = self.0.lock().await.take() {
            let _ = open.connection.close(200, "goodbye".into()).await; // it may be gone already
        }
    }
}

/// What is open, connected anew if an error closed it. It is for publishing, so an alarm of the server's is an error.
async fn opened<'o>(slot: &'o mut Option<Open>, broker: &AmqpBroker) -> Result<&'o mut Open, BrokerError> {
    let is_usable = |open: &Open| {
        let channels = [&open.confirmed, &open.plain];
        open.connection.status().connected() && channels.iter().all(|channel| channel.status().connected())
    };
    let open = match slot.take().filter(is_usable) {
        Some(open) => open,
        None => Open::new(broker).await?,
    };
    let open = slot.insert(open);
    match open.connection.status().blocked() {
        true => Err(busy(
            broker,
            "it is short of memory or disk and takes no messages",
        )),
        false => Ok(open),
    }
}

async fn in_time<T>(
    broker: &AmqpBroker,
    sending: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(CONFIRM_MAX, sending).await {
        Ok(sent) => sent.map_err(|error| broker.link.error(&error)),
        Err(_) => {
            let seconds = CONFIRM_MAX.as_secs();
            Err(busy(
                broker,
                &format!("it did not confirm a message within {seconds} s"),
            ))
        }
    }
}

fn busy(broker: &AmqpBroker, reason: &str) -> BrokerError {
    BrokerError::Busy {
        url: broker.link.shown.clone(),
        reason: reason.to_owned(),
    }
}

/// As kombu writes what it serializes as JSON.
fn json_properties(delivery_mode: u8) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(delivery_mode)
        .with_priority(0)
}

impl Open {
    async fn new(broker: &AmqpBroker) -> Result<Self, BrokerError> {
        let connection = broker.link.another().await?;
        let begin = async {
            let confirmed = connection.create_channel().await?;
            confirmed.confirm_select(ConfirmSelectOptions::default()).await?;
            let plain = connection.create_channel().await?;
            lapin::Result::Ok((confirmed, plain))
        };
        let (confirmed, plain) = begin.await.map_err(|error| broker.link.error(&error))?;
        Ok(Open {
            connection,
            confirmed,
            plain,
            declared: HashSet::new(),
        })
    }

    async fn declare_queue(&mut self, broker: &AmqpBroker, name: &str) -> lapin::Result<()> {
        let key = format!("queue {name}");
        if !self.declared.contains(&key) {
            Declaring::on(&self.connection)
                .queue(&broker.declared(name))
                .await?;
            self.declared.insert(key);
        }
        Ok(())
    }

    async fn declare_exchange(&mut self, exchange: &Exchange) -> lapin::Result<()> {
        let key = format!("exchange {}", exchange.name);
        if !self.declared.contains(&key) {
            Declaring::on(&self.connection).exchange(exchange).await?;
            self.declared.insert(key);
        }
        Ok(())
    }
}
