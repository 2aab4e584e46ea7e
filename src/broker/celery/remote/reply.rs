//! An answer as it goes out. Source: `kombu/pidbox.py`, `Mailbox._publish_reply`.

use serde_json::{Map, Value, json};

use super::request::ReplyTo;
use crate::broker::celery::publish::{Content, ExchangeType, Publication};

/// An answer to somebody who waits for it. `ticket`: the question that it answers.
pub(super) fn message(content: Content, to: ReplyTo, ticket: Value, clock: i64) -> Publication {
    Publication {
        exchange: to.exchange,
        exchange_type: ExchangeType::Direct,
        routing_key: to.routing_key,
        headers: Map::from_iter([("ticket".to_owned(), ticket), ("clock".to_owned(), json!(clock))]),
        content,
        is_persistent: false,
    }
}
