//! A message that we send by ourselves: an event, an answer, a question to other nodes. Each transport sends it its way.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::broker::BrokerError;

/// Sends messages.
#[async_trait]
pub(super) trait Publish: Send + Sync {
    /// Sends one. The error: the server is away, or refuses it.
    async fn publish(&self, message: &Publication) -> Result<(), BrokerError>;
}

/// A message whose body is JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Publication {
    pub exchange: String,
    pub exchange_type: ExchangeType,
    pub routing_key: String,
    pub headers: Map<String, Value>,
    /// JSON.
    pub body: String,
    /// The server keeps it when it restarts: delivery mode 2, else 1.
    pub is_persistent: bool,
}

/// How an exchange finds the queues of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangeType {
    /// Those that are bound by its very key: answers.
    Direct,
    /// Those whose pattern fits its key: events. On Redis a channel.
    Topic,
    /// All: requests of remote control. On Redis a channel.
    Fanout,
}
