//! What a consumer says of its queues, so that producers find them. Source: `kombu/transport/redis.py`, `_queue_bind`.

use std::time::Duration;

use super::RedisBroker;
use super::keys::pattern;
use crate::broker::BrokerError;
use crate::broker::celery::options::Queue;
use crate::job::QueueName;
use crate::text;
use crate::time::Unix;

/// Bindings of a queue that expires live for so many times its own life, and no shorter than an hour.
/// Source: `BINDING_EXPIRES_FACTOR`, `MIN_BINDING_TTL`.
const EXPIRES_FACTOR: u32 = 2;
const BINDING_LIFE_MIN: Duration = Duration::from_secs(3600);

impl RedisBroker {
    /// Binds the queues to their exchanges.
    pub(super) async fn declare(&self) -> Result<(), BrokerError> {
        let bound = self.consumer.app.queues.iter();
        let bound = bound.filter(|queue| !queue.exchange.is_empty() && !queue.is_broadcast());
        self.bind(bound).await?;
        for queue in &self.consumer.app.queues {
            if let Err(error) = QueueName::new(&queue.name) {
                let queue = text::escaped(&queue.name);
                tracing::error!(%queue, %error, "a queue of the application is not consumed: its name can't be used here");
            }
        }
        self.take_over().await?;
        Ok(())
    }

    /// Keeps the bindings of queues that expire alive.
    pub(super) async fn refresh_declarations(&self) -> Result<(), BrokerError> {
        let expiring = self
            .consumer
            .app
            .queues
            .iter()
            .filter(|queue| queue.expires.is_some());
        self.bind(expiring.filter(|queue| !queue.exchange.is_empty() && !queue.is_broadcast()))
            .await
    }

    pub(super) async fn bind<'q>(&self, queues: impl Iterator<Item = &'q Queue>) -> Result<(), BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for queue in queues {
            let pattern = match queue.exchange_type.as_str() {
                "topic" => pattern(&queue.routing_key),
                _ => String::new(),
            };
            let binding = self.keys.binding(&queue.routing_key, &pattern, &queue.name);
            pipeline
                .sadd(self.keys.bindings(&queue.exchange), &binding)
                .ignore();
            match queue.expires {
                None => pipeline.sadd(self.keys.permanent_bindings(&queue.exchange), &binding),
                Some(expires) => {
                    let life = expires.saturating_mul(EXPIRES_FACTOR).max(BINDING_LIFE_MIN);
                    let deadlines = pipeline.cmd("ZADD").arg(self.keys.binding_deadlines());
                    deadlines
                        .arg("GT")
                        .arg((Unix::now() + life).0)
                        .arg(&queue.exchange)
                }
            }
            .ignore();
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        self.link.run_pipeline(&pipeline).await
    }
}
