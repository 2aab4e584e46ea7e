//! Requests of remote control come by `PUBLISH`, and answers go into lists. Source: `kombu/transport/redis.py`, `Channel`,
//! `_get_publish_topic`, `_put_fanout`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::CeleryBroker;
use crate::broker::celery::remote::Reply;
use crate::broker::{BrokerError, Presence, WorkerView};

/// Hears requests as long as it lives.
#[derive(Debug)]
pub(super) struct Hearing(AbortHandle);

impl Hearing {
    /// Begins to hear; `channel` is where requests come.
    pub fn begin(broker: Arc<CeleryBroker>, channel: &str) -> Self {
        broker
            .mailbox
            .listen_to(BTreeMap::from([(channel.to_owned(), 0)]));
        Hearing(tokio::spawn(async move { broker.hear().await }).abort_handle())
    }
}

impl Presence for Hearing {
    fn every(&self) -> Option<Duration> {
        None // it is asked, and tells nobody by itself
    }

    fn show(&mut self, _workers: Vec<WorkerView>) {}
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CeleryBroker {
    async fn hear(&self) {
        loop {
            let (_, message) = self.mailbox.next().await;
            let Some(reply) = self.node.hear(&message) else {
                continue;
            };
            if let Err(error) = self.send_reply(&reply).await {
                tracing::warn!(%error, "the answer to a remote control request can't be sent");
            }
        }
    }

    /// Into each queue that is bound to the exchange by that key.
    async fn send_reply(&self, reply: &Reply) -> Result<(), BrokerError> {
        let bindings = self.keys.bindings(&reply.to.exchange);
        let bindings: Vec<String> = self.command(redis::cmd("SMEMBERS").arg(bindings)).await?;
        let queues = bindings
            .iter()
            .filter(|binding| self.keys.routing_key_of(binding) == Some(&*reply.to.routing_key))
            .filter_map(|binding| self.keys.queue_of(binding));
        let message = reply.message();
        for queue in queues {
            let mut push = redis::cmd("LPUSH");
            push.arg(self.keys.list_for(queue, 0)).arg(&message);
            self.command::<i64>(&push).await?;
        }
        Ok(())
    }
}
