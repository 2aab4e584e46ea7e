//! What nodes tell each other when one of them begins. Source: `celery/worker/consumer/mingle.py`, `kombu/pidbox.py`.

use serde_json::{Value, json};

use super::Node;
use super::question::said;
use super::request::ReplyTo;
use crate::broker::celery::publish::Publication;
use crate::time::Mono;

/// What another node says is revoked: a list of ids, or as Celery before 5.7 says it, when each was revoked by its id. What
/// can't be read of it is left out.
pub(super) fn revoked_of(told: &Value) -> Vec<String> {
    match told {
        Value::Array(ids) => ids
            .iter()
            .filter_map(|id| Some(id.as_str()?.to_owned()))
            .collect(),
        Value::Object(times) => times.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

impl Node {
    /// The question to all others, which come by this exchange; and where their answers go.
    pub fn hello(&self, exchange: &str) -> (Publication, ReplyTo) {
        let revoked = self.revoked().list(Mono::now());
        let arguments = json!({"from_node": self.name, "revoked": revoked});
        self.question(exchange, "hello", &arguments)
    }

    /// Takes in an answer, as kombu writes messages into lists. What can't be read of it is left out.
    pub fn meet(&self, answer: &[u8]) {
        for (node, told) in said(answer) {
            if node == self.name || !told.is_object() {
                continue;
            }
            self.clock.adjust(told["clock"].as_i64().unwrap_or(0));
            let revoked = revoked_of(&told["revoked"]);
            tracing::debug!(node, revoked = revoked.len(), "met another node");
            self.revoke(revoked);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::broker::celery::remote::About;

    #[test]
    fn what_others_revoked_is_revoked_here() {
        let node = Node::new("w@host", Arc::default(), About::default());
        let (question, reply_to) = node.hello("celery.pidbox");
        assert_eq!(
            (&*question.exchange, &*reply_to.exchange),
            ("celery.pidbox", "reply.celery.pidbox")
        );
        let answer = |body: Value| json!({"body": STANDARD.encode(body.to_string())}).to_string();
        node.meet(answer(json!({"v@host": {"revoked": ["a", 5], "clock": 40}})).as_bytes());
        node.meet(answer(json!({"w@host": {"revoked": ["own"], "clock": 90}, "u@host": null})).as_bytes());
        node.meet(answer(json!({"old@host": {"revoked": {"b": 17.5}, "clock": 41}})).as_bytes());
        node.meet(b"?");
        assert!(node.is_revoked("a") && node.is_revoked("b") && !node.is_revoked("own"));
        assert_eq!(node.clock(), 42);
    }
}
