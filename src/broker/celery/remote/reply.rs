//! An answer as it goes out. Source: `kombu/pidbox.py`, `Mailbox._publish_reply`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::request::ReplyTo;

/// An answer to somebody who waits for it.
#[derive(Debug)]
pub(in crate::broker::celery) struct Reply {
    pub node: String,
    pub answer: Value,
    pub to: ReplyTo,
    /// The question that it answers.
    pub ticket: Value,
    pub clock: i64,
}

impl Reply {
    /// As a message.
    pub fn message(&self) -> String {
        let body = json!({ &self.node: self.answer });
        let ReplyTo {
            exchange,
            routing_key,
        } = &self.to;
        json!({
            "body": STANDARD.encode(body.to_string()),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"ticket": self.ticket, "clock": self.clock},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": uuid::Uuid::now_v7().to_string(),
            },
        })
        .to_string()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The body of a message.
    pub fn body(message: &Value) -> Value {
        let body = STANDARD.decode(message["body"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}
