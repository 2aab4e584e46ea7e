//! What a node asks others, and what they answer. Source: `kombu/pidbox.py`, `Mailbox`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Node;
use super::request::ReplyTo;
use crate::broker::celery::publish::{Content, ExchangeType, Publication};
use crate::time::Unix;

/// How long answers are waited for.
pub(in crate::broker::celery) const PATIENCE: Duration = Duration::from_secs(1);

impl Node {
    /// A question to all nodes, which come by this exchange; and where their answers go.
    pub fn question(&self, exchange: &str, method: &str, arguments: &Value) -> (Publication, ReplyTo) {
        let reply_to = ReplyTo {
            exchange: format!("reply.{exchange}"),
            routing_key: uuid::Uuid::now_v7().to_string(),
        };
        let body = json!({
            "method": method,
            "arguments": arguments,
            "destination": null, "pattern": null, "matcher": null,
            "ticket": uuid::Uuid::now_v7().to_string(),
            "reply_to": {"exchange": reply_to.exchange, "routing_key": reply_to.routing_key},
        });
        let expires = (Unix::now().0 as f64) / 1000.0 + PATIENCE.as_secs_f64();
        let question = Publication {
            exchange: exchange.to_owned(),
            exchange_type: ExchangeType::Fanout,
            routing_key: String::new(),
            headers: Map::from_iter([
                ("clock".to_owned(), json!(self.clock.forward())),
                ("expires".to_owned(), json!(expires)),
            ]),
            content: Content::json(body.to_string()),
            is_persistent: true,
        };
        (question, reply_to)
    }
}

/// What each node says in an answer, as kombu writes messages into lists. What can't be read says nothing.
pub(in crate::broker::celery) fn said(answer: &[u8]) -> Vec<(String, Value)> {
    let read = || {
        let envelope: Value = serde_json::from_slice(answer).ok()?;
        let body = STANDARD.decode(envelope["body"].as_str()?).ok()?;
        serde_json::from_slice(&body).ok()
    };
    match read() {
        Some(Value::Object(nodes)) => nodes.into_iter().collect(),
        _ => Vec::new(),
    }
}
