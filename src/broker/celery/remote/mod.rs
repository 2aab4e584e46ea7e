//! Remote control: what `celery status`, `celery inspect`, `celery control` and Flower ask of a node, and its answers.
//!
//! A supervisor is one node. Nothing here speaks to a server: a transport hands over what came, and sends the answer.
//! Source: `kombu/pidbox.py`; `celery/worker/pidbox.py`, `control.py`.
//!
//! - `request`: a request as it comes, and who is meant by it; `reply`: an answer as it goes out; `python`: texts as Python
//!   shows them.

mod python;
mod reply;
mod request;

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

pub(super) use self::reply::Reply;
use self::request::Request;

/// Kinds of unreadable requests that are remembered, so that each is logged once.
const COMPLAINTS_MAX: usize = 100;

/// This supervisor as others see it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its name: `celery@HOST`.
    name: String,
    /// Logical time, after Lamport. Source: `kombu/clocks.py`.
    clock: AtomicI64,
    /// What was complained of.
    complaints: Mutex<HashSet<String>>,
}

/// What a command answers: its value; or what a stock worker says when it raised an exception.
type Answer = Result<Value, String>;

impl Node {
    pub fn named(name: &str) -> Self {
        Node {
            name: name.to_owned(),
            ..Node::default()
        }
    }

    /// Does what a message asks, if it means this node; the answer, if somebody waits for one.
    pub fn hear(&self, message: &[u8]) -> Option<Reply> {
        let request = match Request::read(message) {
            Ok(request) => request,
            Err(reason) => {
                self.complain(reason);
                return None;
            }
        };
        self.forward(); // a message was received
        self.adjust(request.clock);
        match request.means(&self.name) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(reason) => {
                self.complain(reason);
                return None;
            }
        }
        tracing::debug!(method = request.method, "remote control");
        let answer = self.answer(&request);
        let answer = answer.unwrap_or_else(|exception| {
            tracing::warn!(method = request.method, %exception, "a remote control command was not carried out");
            json!({ "error": exception })
        });
        let to = request.reply_to?;
        Some(Reply {
            node: self.name.clone(),
            answer,
            to,
            ticket: request.ticket,
            clock: self.forward(),
        })
    }

    fn answer(&self, request: &Request) -> Answer {
        match request.method.as_str() {
            "ping" => Ok(json!({"ok": "pong"})),
            "hello" => {
                let from = text(request, "from_node")?;
                // Its own question comes back to it, too.
                if from == self.name {
                    return Ok(Value::Null);
                }
                Ok(json!({"revoked": [], "clock": self.forward()}))
            }
            "clock" => Ok(json!({"clock": self.clock.load(Ordering::Relaxed)})),
            unknown => Err(format!("KeyError({})", python::quoted(unknown))),
        }
    }

    /// One more event; the time of it.
    fn forward(&self) -> i64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Another one's time was seen.
    fn adjust(&self, seen: i64) {
        let later = |own: i64| Some(own.max(seen).saturating_add(1));
        let _ = self
            .clock
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// A request that can't be read is logged; once for each reason, for anybody may send such without end.
    fn complain(&self, reason: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_MAX && complaints.insert(reason.clone()) {
            tracing::warn!(%reason, "a remote control request is ignored, and further ones like it");
        }
    }
}

/// An argument that must be given, a text.
fn text<'r>(request: &'r Request, name: &str) -> Result<&'r str, String> {
    let Request {
        method, arguments, ..
    } = request;
    match arguments.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("TypeError('{method}(): {name} is no text')")),
        None => Err(format!(
            "TypeError(\"{method}() missing 1 required positional argument: '{name}'\")"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(node: &Node, body: &Value) -> Option<Value> {
        let reply = node.hear(&request::tests::message(body))?;
        let message: Value = serde_json::from_str(&reply.message()).unwrap();
        assert_eq!(message["headers"]["ticket"], body["ticket"]);
        Some(reply::tests::body(&message))
    }

    #[test]
    fn a_node_answers_who_waits_for_it() {
        let node = Node::named("w@host");
        let mut asked = json!({"method": "ping", "arguments": {}, "destination": null, "ticket": "t",
            "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "k"}});
        assert_eq!(ask(&node, &asked), Some(json!({"w@host": {"ok": "pong"}})));
        for (destination, is_answered) in [
            (json!([]), true),
            (json!(["a@b", "w@host"]), true),
            (json!(["a@b"]), false),
        ] {
            asked["destination"] = destination;
            assert_eq!(ask(&node, &asked).is_some(), is_answered, "{asked}");
        }
        asked["destination"] = Value::Null;
        asked["method"] = json!("it's");
        let unknown = json!({"w@host": {"error": "KeyError(\"it's\")"}});
        assert_eq!(ask(&node, &asked), Some(unknown));
        asked["reply_to"] = Value::Null;
        assert_eq!(ask(&node, &asked), None);
    }

    #[test]
    fn time_goes_on_with_each_message_and_answer() {
        let node = Node::named("w@host");
        node.adjust(41);
        assert_eq!((node.forward(), node.forward()), (43, 44));
        node.adjust(7);
        assert_eq!(node.forward(), 46);
        node.adjust(i64::MAX);
        node.adjust(1);
    }

    #[test]
    fn what_can_not_be_read_is_logged_once() {
        let node = Node::named("w@host");
        for _ in 0..3 {
            assert!(node.hear(b"no message").is_none());
            assert!(node.hear(b"{}").is_none());
        }
        assert_eq!(node.complaints.lock().unwrap().len(), 2);
    }
}
