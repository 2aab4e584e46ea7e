//! Exchanges, queues and bindings, as stock workers declare them. Source: `kombu/entity.py`, `Exchange.declare`,
//! `Queue._create_queue`.
//!
//! What exists with other arguments, or may not be declared by this user, is taken as it is, and the log says so.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use serde_json::{Map, Value};

use super::options::{Declared, Exchange};
use crate::text;

/// Declares on a channel that is made anew when the server closes it, which is how it refuses.
pub(super) struct Declaring<'c> {
    connection: &'c Connection,
    channel: Option<Channel>,
}

impl<'c> Declaring<'c> {
    pub fn on(connection: &'c Connection) -> Self {
        Declaring {
            connection,
            channel: None,
        }
    }

    async fn channel(&mut self) -> lapin::Result<&Channel> {
        let channel = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.connection.create_channel().await?,
        };
        Ok(self.channel.insert(channel))
    }

    /// A queue, with its exchanges and bindings.
    pub async fn queue(&mut self, queue: &Declared) -> lapin::Result<()> {
        self.declare_queue(queue).await?;
        let first = (&queue.exchange, &queue.routing_key, &queue.binding_arguments);
        let none = Map::new();
        let others = queue
            .bindings
            .iter()
            .map(|(exchange, key)| (exchange, key, &none));
        for (exchange, key, arguments) in std::iter::once(first).chain(others) {
            if !exchange.name.is_empty() {
                self.exchange(exchange).await?;
                self.bind(queue, exchange, key, arguments).await?;
            }
        }
        Ok(())
    }

    async fn declare_queue(&mut self, queue: &Declared) -> lapin::Result<()> {
        let name = queue.name.as_str();
        if !queue.no_declare {
            let options = QueueDeclareOptions {
                durable: queue.durable,
                exclusive: queue.exclusive,
                auto_delete: queue.auto_delete,
                ..QueueDeclareOptions::default()
            };
            let channel = self.channel().await?;
            let declared = channel
                .queue_declare(name.into(), options, table(&queue.arguments))
                .await;
            match declared {
                Ok(_) => return Ok(()),
                Err(error) if error.is_amqp_soft_error() => {
                    tracing::warn!(queue = name, %error, "a queue can't be declared as the application has it: it is used as it is");
                }
                Err(error) => return Err(error),
            }
        }
        self.length(name).await.map(drop)
    }

    /// Messages that wait in a queue that exists.
    pub async fn length(&mut self, name: &str) -> lapin::Result<u32> {
        Ok(self.counts(name).await?.0)
    }

    /// Messages that wait in a queue that exists, and its consumers.
    pub async fn counts(&mut self, name: &str) -> lapin::Result<(u32, u32)> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await?;
        let queue = channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    /// Deletes the messages that wait in a queue; how many there were.
    pub async fn purge(&mut self, name: &str) -> lapin::Result<u32> {
        let channel = self.channel().await?;
        channel
            .queue_purge(name.into(), QueuePurgeOptions::default())
            .await
    }

    pub async fn exchange(&mut self, exchange: &Exchange) -> lapin::Result<()> {
        if exchange.no_declare || exchange.name.starts_with("amq.") {
            return Ok(());
        }
        let options = ExchangeDeclareOptions {
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Custom(exchange.kind.clone());
        let channel = self.channel().await?;
        let name = exchange.name.as_str();
        let declared = channel
            .exchange_declare(name.into(), kind, options, table(&exchange.arguments))
            .await;
        match declared {
            Err(error) if error.is_amqp_soft_error() => {
                tracing::warn!(exchange = name, %error, "an exchange can't be declared as the application has it: it is used as it is");
                Ok(())
            }
            declared => declared,
        }
    }

    async fn bind(
        &mut self,
        queue: &Declared,
        exchange: &Exchange,
        key: &str,
        arguments: &Map<String, Value>,
    ) -> lapin::Result<()> {
        let channel = self.channel().await?;
        let (name, from) = (queue.name.as_str(), exchange.name.as_str());
        let bound = channel
            .queue_bind(
                name.into(),
                from.into(),
                key.into(),
                QueueBindOptions::default(),
                table(arguments),
            )
            .await;
        match bound {
            Err(error) if error.is_amqp_soft_error() => {
                tracing::warn!(queue = name, exchange = from, %error, "a queue can't be bound to its exchange");
                Ok(())
            }
            bound => bound,
        }
    }
}

/// A name as AMQP has it, of 255 bytes at most. A longer one is cut: the server knows no such name, and says so.
pub(super) fn short(name: &str) -> ShortString {
    ShortString::try_new(text::head(name, 255)).unwrap_or_default()
}

/// Arguments as AMQP has them.
pub(super) fn table(values: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in values {
        table.insert(name.as_str().into(), argument(value));
    }
    table
}

/// As Python's AMQP library writes it. Source: `amqp/serialization.py`, `_write_item`.
fn argument(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(AMQPValue::LongLongInt(whole), AMQPValue::LongInt),
            None => AMQPValue::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Value::Array(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.iter().map(argument).collect::<Vec<_>>()))
        }
        Value::Object(values) => AMQPValue::FieldTable(table(values)),
    }
}
