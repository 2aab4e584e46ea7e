//! Requests of remote control come by `PUBLISH`, and answers go into lists. Source: `kombu/transport/redis.py`, `Channel`,
//! `_get_publish_topic`, `_put_fanout`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::RedisBroker;
use crate::broker::celery::control::{Hearing, Mailbox};
use crate::broker::celery::envelope::{Message, unacked};
use crate::broker::celery::remote::{Reply, Shown, Task};
use crate::broker::{BrokerError, Orders};
use crate::time::Unix;

/// Tasks that wait for their time and are read in one call.
const BATCH_MAX: usize = 500;

impl RedisBroker {
    /// Begins to hear what comes on this channel.
    pub(super) fn listen(self: Arc<Self>, channel: String, orders: Orders) -> Hearing {
        self.mailbox.listen_to(BTreeMap::from([(channel, 0)]));
        Hearing::begin(Arc::clone(&self.consumer), self, orders)
    }
}

#[async_trait]
impl Mailbox for RedisBroker {
    async fn next(&self) -> Vec<u8> {
        let (_, message) = self.mailbox.next().await;
        message
    }

    /// Those that wait for their time: only the server has their messages. Their scores stay.
    async fn scheduled(&self, etas: &[(Unix, i64)]) -> Result<Vec<Shown>, BrokerError> {
        let mut tasks = Vec::with_capacity(etas.len());
        for chunk in etas.chunks(BATCH_MAX) {
            let mut ask = redis::cmd("HMGET");
            ask.arg(self.keys.unacked());
            for (_, number) in chunk {
                ask.arg(self.tag(*number));
            }
            let entries: Vec<Option<Vec<u8>>> = self.link.run_command(&ask).await?;
            for entry in entries.into_iter().flatten() {
                let raw = unacked(&entry).map_or(entry, |(raw, _)| raw);
                let Ok(message) = Message::read(&raw, false) else {
                    continue;
                };
                let id = message.id.unwrap_or_default();
                let task = Task {
                    node: self.consumer.node.name(),
                    id: &id,
                    payload: &message.payload,
                    is_acked: false,
                    running: None,
                };
                tasks.push(Shown {
                    info: task.info(false),
                    eta: task.eta(),
                    state: "scheduled",
                    id,
                });
            }
        }
        Ok(tasks)
    }

    /// Into each queue that is bound to the exchange by that key.
    async fn send(&self, reply: &Reply) -> Result<(), BrokerError> {
        let bindings = self.keys.bindings(&reply.to.exchange);
        let bindings: Vec<String> = self
            .link
            .run_command(redis::cmd("SMEMBERS").arg(bindings))
            .await?;
        let queues = bindings
            .iter()
            .filter(|binding| self.keys.routing_key_of(binding) == Some(&*reply.to.routing_key))
            .filter_map(|binding| self.keys.queue_of(binding));
        let message = reply.message();
        for queue in queues {
            let mut push = redis::cmd("LPUSH");
            push.arg(self.keys.list_for(queue, 0)).arg(&message);
            self.link.run_command::<i64>(&push).await?;
        }
        Ok(())
    }
}
