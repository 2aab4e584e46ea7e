//! A message that we send by ourselves: an event, an answer, a question to other nodes. Each transport sends it its way.

use std::borrow::Cow;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::broker::BrokerError;

/// Sends messages.
#[async_trait]
pub(super) trait Publish: Send + Sync {
    /// Sends one. The error: the server is away, or refuses it.
    async fn publish(&self, message: &Publication) -> Result<(), BrokerError>;
}

/// What a message carries, and how it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Such as `application/json`.
    pub content_type: Cow<'static, str>,
    /// Such as `utf-8`.
    pub encoding: Cow<'static, str>,
    /// How it is compressed, by kombu's name.
    pub compression: Option<String>,
    pub body: Vec<u8>,
}

impl Content {
    /// A text that is JSON.
    pub fn json(body: String) -> Self {
        Content {
            content_type: Cow::Borrowed("application/json"),
            encoding: Cow::Borrowed("utf-8"),
            compression: None,
            body: body.into_bytes(),
        }
    }
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Publication {
    pub exchange: String,
    pub exchange_type: ExchangeType,
    pub routing_key: String,
    pub headers: Map<String, Value>,
    pub content: Content,
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
