//! Broadcast queues: each node gets each message. Source: `kombu/common.py`, `Broadcast`; `kombu/transport/redis.py`,
//! `Channel._put_fanout`.
//!
//! What is published is put into a list of this node's own, and is a message like any other from there on. A list that
//! nobody reads any more vanishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::RedisBroker;
use crate::broker::BrokerError;
use crate::broker::celery::options::Queue;

/// How long a list outlives its last message.
const LIFE: Duration = Duration::from_secs(3600);

impl RedisBroker {
    /// Begins to hear what is broadcast; the server has confirmed it then.
    pub(super) async fn hear_broadcasts(self: &Arc<Self>) {
        let queues: Vec<Queue> = self.consumer.app.broadcasts().cloned().collect();
        if queues.is_empty() {
            return;
        }
        let channel = |(at, queue): (u64, &Queue)| {
            let channel = self.transport.channel_for(&queue.exchange, &queue.routing_key);
            (channel, at)
        };
        let channels: BTreeMap<String, u64> = (0..).zip(&queues).map(channel).collect();
        let broker = Arc::clone(self);
        let hearing = tokio::spawn(async move {
            loop {
                let (at, message) = broker.broadcasts.next().await;
                let queue = usize::try_from(at).ok().and_then(|at| queues.get(at));
                if let Some(queue) = queue
                    && let Err(error) = broker.keep_broadcast(queue, &message).await
                {
                    tracing::error!(queue = queue.name, %error, "a broadcast message is lost");
                }
            }
        });
        self.set_hearing(Some(hearing.abort_handle()));
        self.broadcasts.serve(channels).await;
    }

    async fn keep_broadcast(&self, queue: &Queue, message: &[u8]) -> Result<(), BrokerError> {
        let list = self.keys.list_for(&queue.name, 0);
        let life = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
        let mut keep = redis::pipe();
        keep.atomic()
            .lpush(&list, message)
            .ignore()
            .pexpire(&list, life)
            .ignore();
        self.link.run_pipeline(&keep).await
    }
}
