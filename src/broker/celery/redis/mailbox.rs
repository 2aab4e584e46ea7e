//! Requests of remote control come by `PUBLISH`. Source: `kombu/transport/redis.py`, `Channel`, `_get_publish_topic`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::RedisBroker;
use crate::broker::celery::control::{Hearing, Mailbox};
use crate::broker::celery::envelope::{Message, unacked};
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

#[async_trait]
impl Mailbox for RedisBroker {
    async fn next(&self) -> Vec<u8> {
        let (_, message) = self.mailbox.next().await;
        message
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
