//! Tasks that are due much later.
//!
//! RabbitMQ gives back what is unacknowledged for longer than its `consumer_timeout` (30 minutes), so a task with a distant
//! ETA can't be held. It waits in a chain of queues of our own, from which it comes to its queue directly,
//! whatever the type of its exchange. Any worker may take it then, a stock one, too. Between publishing it there and
//! acknowledging what came, a crash leaves both copies.

use std::collections::{BTreeMap, HashSet};

use lapin::message::Delivery;
use lapin::options::{ExchangeBindOptions, QueueBindOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection};
use tokio::sync::Mutex;

use super::AmqpBroker;
use super::chain::{OF_KOMBU, OF_POOL, delayed_key};
use super::declare::short;
use crate::broker::BrokerError;
use crate::job::QueueName;
use crate::time::Unix;

/// What is known of the chain.
#[derive(Debug, Default)]
pub(super) struct Delays {
    /// Queues that are bound to the end of the chain; the chain was declared before the first.
    bound: Mutex<HashSet<QueueName>>,
}

impl AmqpBroker {
    /// Once this returns the chain has the message, and it may be acknowledged. It arrives in this queue when it is due, or up
    /// to a second before.
    pub(super) async fn delay(
        &self,
        queue: &QueueName,
        due: Unix,
        delivery: &Delivery,
    ) -> Result<(), BrokerError> {
        self.bind_to_chain(queue).await?;
        let key = short(&delayed_key(due.since(Unix::now()), queue.as_str()));
        let (first, properties) = (OF_POOL.first(), undelivered(&delivery.properties));
        let sent = self
            .publisher
            .message(self, (&first, key), properties, &delivery.data)
            .await;
        if sent.is_err() {
            // Somebody may have deleted the chain: it is declared again.
            self.delays.bound.lock().await.clear();
        }
        sent
    }

    async fn bind_to_chain(&self, queue: &QueueName) -> Result<(), BrokerError> {
        let mut bound = self.delays.bound.lock().await;
        if bound.contains(queue) {
            return Ok(());
        }
        let channel = self.publisher.channel(self).await?;
        let declared = async {
            if bound.is_empty() {
                OF_POOL
                    .declare(
                        &channel,
                        self.has_quorum_queues() && self.transport.delays_in_quorum,
                    )
                    .await?;
            }
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            let key = short(&format!("#.{queue}"));
            channel
                .queue_bind(
                    short(self.at_server(queue.as_str())),
                    OF_POOL.delivery().into(),
                    key,
                    options,
                    none,
                )
                .await?;
            channel.close(200, "OK".into()).await
        };
        declared.await.map_err(|error| self.link.error(&error))?;
        bound.insert(queue.clone());
        Ok(())
    }

    /// Declares the chain of Celery's producers, if they use it, and binds it to the exchanges of our queues. Source:
    /// `celery/worker/consumer/delayed_delivery.py`; `bind_queue_to_native_delayed_delivery_exchange`.
    pub(super) async fn declare_native_delays(&self, connection: &Connection) -> lapin::Result<()> {
        if !self.has_quorum_queues() {
            return Ok(());
        }
        let channel = connection.create_channel().await?;
        OF_KOMBU
            .declare(&channel, self.transport.delays_in_quorum)
            .await?;
        let none = FieldTable::default;
        for queue in &self.transport.queues {
            let own = std::iter::once((&queue.exchange, &queue.routing_key));
            let more = queue.bindings.iter().map(|(exchange, key)| (exchange, key));
            let bindings = own.chain(more).filter(|(exchange, _)| !exchange.name.is_empty());
            // Producers delay nothing that goes to a direct exchange.
            for (exchange, key) in bindings.filter(|(exchange, _)| exchange.kind == "topic") {
                let key = short(&if key.starts_with('#') {
                    key.clone()
                } else {
                    format!("#.{key}")
                });
                let (to, from) = (short(&exchange.name), OF_KOMBU.delivery().into());
                let bind = ExchangeBindOptions::default();
                channel
                    .exchange_bind(to.clone(), from, key.clone(), bind, none())
                    .await?;
                let bind = QueueBindOptions::default();
                channel
                    .queue_bind(short(&queue.name), to, key, bind, none())
                    .await?;
            }
        }
        channel.close(200, "OK".into()).await
    }

    /// The chain is replicated if the queues are. Source: `celery/utils/quorum_queues.py`, `detect_quorum_queues`.
    fn has_quorum_queues(&self) -> bool {
        let kind = |queue: &super::options::Declared| queue.arguments.get("x-queue-type").cloned();
        self.transport
            .queues
            .iter()
            .any(|queue| kind(queue) == Some("quorum".into()))
    }
}

/// A message as it was before it was delivered. It has no time to live of its own: that would end the wait in each queue on
/// the way, and `expires` in its headers tells it, too. It has none of the server's notes (`x-death`): a server drops what
/// they show to come by a second time. And nobody's user name, which only that user may send.
fn undelivered(properties: &BasicProperties) -> BasicProperties {
    let mut new = BasicProperties::default();
    macro_rules! keep {
        ($($field:ident, $with:ident;)*) => {
            $(if let Some(value) = properties.$field() {
                new = new.$with(value.clone());
            })*
        };
    }
    keep! {
        content_type, with_content_type;
        content_encoding, with_content_encoding;
        delivery_mode, with_delivery_mode;
        priority, with_priority;
        correlation_id, with_correlation_id;
        reply_to, with_reply_to;
        message_id, with_message_id;
        timestamp, with_timestamp;
        kind, with_type;
        app_id, with_app_id;
    }
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    let kept = headers.filter(|(name, _)| !is_servers(name.as_str()));
    let kept: BTreeMap<_, _> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    new.with_headers(kept.into())
}

/// Headers that a server adds to what it delivers.
fn is_servers(name: &str) -> bool {
    let notes = ["x-death", "x-delivery-count", "x-acquired-count"];
    notes.contains(&name) || name.starts_with("x-first-death-") || name.starts_with("x-last-death-")
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    #[test]
    fn a_message_goes_back_without_the_notes_of_its_way() {
        let mut headers = FieldTable::default();
        for name in ["id", "x-death", "x-first-death-queue", "x-delivery-count"] {
            headers.insert(name.into(), AMQPValue::LongInt(1));
        }
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_expiration("5000".into())
            .with_user_id("somebody".into())
            .with_correlation_id("c".into())
            .with_delivery_mode(2);
        let new = undelivered(&properties);
        let names: Vec<&str> = new
            .headers()
            .iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["id"]);
        assert_eq!((new.expiration(), new.user_id()), (&None, &None));
        assert_eq!(new.correlation_id(), properties.correlation_id());
        assert_eq!(new.delivery_mode(), &Some(2));
    }
}
