//! Messages that we send by ourselves: into lists, or by `PUBLISH`. Source: `kombu/transport/redis.py`, `Channel._put_fanout`,
//! `_get_publish_topic`; `kombu/transport/virtual/base.py`, `Channel.prepare_message`.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::RedisBroker;
use crate::broker::BrokerError;
use crate::broker::celery::publish::{ExchangeType, Publication, Publish};

#[async_trait]
impl Publish for RedisBroker {
    async fn publish(&self, message: &Publication) -> Result<(), BrokerError> {
        self.send(message).await.map(drop)
    }
}

impl RedisBroker {
    /// Sends a message. Returns how many got it.
    pub(super) async fn send(&self, message: &Publication) -> Result<usize, BrokerError> {
        let routing_key = match message.exchange_type {
            ExchangeType::Direct => return self.push(message).await,
            // Both are channels; with a key only where somebody may want some keys alone.
            ExchangeType::Topic => &*message.routing_key,
            ExchangeType::Fanout => "",
        };
        let channel = self.transport.channel_for(&message.exchange, routing_key);
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(envelope(message));
        self.link.run_command(&publish).await
    }

    /// Into each queue that is bound to the exchange by that key.
    async fn push(&self, message: &Publication) -> Result<usize, BrokerError> {
        let bindings = self.keys.bindings(&message.exchange);
        let bindings: Vec<String> = self
            .link
            .run_command(redis::cmd("SMEMBERS").arg(bindings))
            .await?;
        let queues = bindings
            .iter()
            .filter(|binding| self.keys.routing_key_of(binding) == Some(&*message.routing_key))
            .filter_map(|binding| self.keys.queue_of(binding));
        let (envelope, mut count) = (envelope(message), 0);
        for queue in queues {
            count += 1;
            let mut push = redis::cmd("LPUSH");
            push.arg(self.keys.list_for(queue, 0)).arg(&envelope);
            self.link.run_command::<i64>(&push).await?;
        }
        Ok(count)
    }
}

/// As kombu writes a message of its own.
fn envelope(message: &Publication) -> String {
    json!({
        "body": STANDARD.encode(&message.content.body),
        "content-encoding": message.content.encoding,
        "content-type": message.content.content_type,
        "headers": message.headers,
        "properties": {
            "delivery_mode": if message.is_persistent { 2 } else { 1 },
            "delivery_info": {"exchange": message.exchange, "routing_key": message.routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid::Uuid::now_v7().to_string(),
        },
    })
    .to_string()
}
