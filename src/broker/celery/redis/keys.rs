//! Every key that this broker touches, each with its source in the `kombu` package (5.7), and our own two.

use std::collections::HashMap;
use std::sync::Arc;

use super::options::RedisTransport;
use crate::broker::celery::options::Queue;

/// Names of keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    transport: Arc<RedisTransport>,
    /// Queues that have another name at the server, with that name.
    renamed: Arc<HashMap<String, String>>,
}

impl Keys {
    pub fn new(transport: Arc<RedisTransport>, queues: &[Queue]) -> Self {
        let renamed = queues.iter().filter(|queue| queue.name != queue.at_server);
        let renamed = renamed.map(|queue| (queue.name.clone(), queue.at_server.clone()));
        Keys {
            transport,
            renamed: Arc::new(renamed.collect()),
        }
    }

    /// The name of a queue at the server.
    pub fn at_server<'q>(&'q self, queue: &'q str) -> &'q str {
        self.renamed.get(queue).map_or(queue, String::as_str)
    }

    /// The queue that has this name at the server.
    pub fn known_as<'q>(&'q self, name: &'q str) -> &'q str {
        let found = self.renamed.iter().find(|(_, at_server)| *at_server == name);
        found.map_or(name, |(queue, _)| queue)
    }

    /// Source: `kombu/transport/redis.py`, `PrefixedStrictRedis`.
    fn prefixed(&self, key: &str) -> String {
        format!("{}{key}", self.transport.prefix)
    }

    /// List of messages: the right end is the oldest. Source: `Channel._q_for_pri`.
    fn list(&self, queue: &str, step: i64) -> String {
        let queue = self.at_server(queue);
        match step {
            0 => self.prefixed(queue),
            step => self.prefixed(&format!("{queue}{}{step}", self.transport.separator)),
        }
    }

    /// A list for each priority, the first served first.
    pub fn lists(&self, queue: &str) -> impl Iterator<Item = String> {
        self.transport.steps.iter().map(|step| self.list(queue, *step))
    }

    /// The list for this priority. Source: `Channel.priority`, which takes the last where none is as low.
    pub fn list_for(&self, queue: &str, priority: i64) -> String {
        let steps = &self.transport.steps;
        let above = steps.partition_point(|step| *step <= priority);
        let at = above.checked_sub(1).unwrap_or(steps.len() - 1);
        self.list(queue, steps[at])
    }

    /// How many lists a queue has.
    pub fn steps(&self) -> usize {
        self.transport.steps.len()
    }

    /// Hash: tag -> `[message, exchange, routing key]`. Source: `QoS.append`.
    pub fn unacked(&self) -> String {
        self.prefixed(&self.transport.unacked)
    }

    /// Sorted set of tags; the score is when it was taken. Source: `QoS.append`.
    pub fn unacked_index(&self) -> String {
        self.prefixed(&self.transport.unacked_index)
    }

    /// Set of bindings, see [`Keys::binding`]. Source: `Channel.keyprefix_queue`.
    pub fn bindings(&self, exchange: &str) -> String {
        self.prefixed(&format!("_kombu.binding.{exchange}"))
    }

    /// Set of those that never expire. Source: `Channel.keyprefix_binding_permanent`.
    pub fn permanent_bindings(&self, exchange: &str) -> String {
        self.prefixed(&format!("_kombu.binding_permanent.{exchange}"))
    }

    /// Sorted set of exchanges; the score is the millisecond at which its bindings may go.
    /// Source: `Channel.keyprefix_binding_deadlines`.
    pub fn binding_deadlines(&self) -> String {
        self.prefixed("_kombu.binding_deadlines")
    }

    /// A member of [`Keys::bindings`]. Source: `Channel._queue_bind`.
    pub fn binding(&self, routing_key: &str, pattern: &str, queue: &str) -> String {
        [routing_key, pattern, queue].join(&self.transport.separator)
    }

    /// The queue of a member of [`Keys::bindings`].
    pub fn queue_of<'b>(&self, binding: &'b str) -> Option<&'b str> {
        Some(binding.rsplit_once(&self.transport.separator)?.1)
    }

    /// The routing key of a member of [`Keys::bindings`].
    pub fn routing_key_of<'b>(&self, binding: &'b str) -> Option<&'b str> {
        Some(binding.split_once(&self.transport.separator)?.0)
    }

    /// Ours. Sorted set of handles that hold messages; the score is the second at which their lease ends.
    pub fn handles(&self) -> String {
        self.prefixed("pool_celery_handles")
    }

    /// Ours. List of what nobody could read, the newest first.
    pub fn unreadable(&self) -> String {
        self.prefixed("pool_celery_unreadable")
    }
}

/// The tag under which a handle holds a message: a field of [`Keys::unacked`].
pub(super) fn tag(handle: &str, number: i64) -> String {
    format!("pool:{handle}:{number}")
}

/// The number of a tag.
pub(super) fn number_of(tag: &str) -> Option<i64> {
    tag.rsplit_once(':')?.1.parse().ok()
}

/// A key with wildcards as a regular expression. Source: `kombu/transport/virtual/exchange.py`, `key_to_pattern`.
pub(super) fn pattern(routing_key: &str) -> String {
    let word = |word: &str| match word {
        "*" => r"[^\.]+".to_owned(),
        "#" => ".*?".to_owned(),
        word => word.chars().map(escaped).collect(),
    };
    let words: Vec<String> = routing_key.split('.').map(word).collect();
    format!("^{}$", words.join(r"\."))
}

/// Source: `kombu/utils/text.py`, `escape_regex`.
fn escaped(c: char) -> String {
    match c {
        '\0' => r"\000".to_owned(),
        c if c.is_alphanumeric() || matches!(c, '*' | '#') => c.to_string(),
        c => format!("\\{c}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::celery::facts::{BrokerFacts, TransportOptions};

    fn keys(prefix: &str, steps: &[i64]) -> Keys {
        let options = TransportOptions {
            global_keyprefix: Some(prefix.to_owned()),
            priority_steps: Some(steps.to_vec()),
            ..TransportOptions::default()
        };
        let facts = BrokerFacts {
            urls: vec!["redis://".to_owned()],
            options,
            ..BrokerFacts::default()
        };
        Keys::new(Arc::new(RedisTransport::read(&facts).unwrap()), &[])
    }

    #[test]
    fn a_priority_goes_to_the_highest_step_below_it() {
        let keys = keys("p:", &[0, 3, 6, 9]);
        let of = |priority| keys.list_for("q", priority);
        assert_eq!([of(0), of(2)], ["p:q", "p:q"]);
        assert_eq!([of(5), of(9)], ["p:q\u{6}\u{16}3", "p:q\u{6}\u{16}9"]);
        assert_eq!(keys.lists("q").collect::<Vec<_>>(), [of(0), of(3), of(6), of(9)]);
        let high = self::keys("", &[2, 5]);
        assert_eq!(high.list_for("q", 1), "q\u{6}\u{16}5", "Python's steps[-1]");
    }

    #[test]
    fn bindings_are_written_as_kombu_writes_them() {
        let keys = keys("", &[0]);
        assert_eq!(
            keys.binding("celery", "", "celery"),
            "celery\u{6}\u{16}\u{6}\u{16}celery"
        );
        assert_eq!(keys.queue_of("k\u{6}\u{16}p\u{6}\u{16}mail"), Some("mail"));
        assert_eq!(keys.routing_key_of("k\u{6}\u{16}p\u{6}\u{16}mail"), Some("k"));
        assert_eq!(pattern("mail.*.x-y.#"), r"^mail\.[^\.]+\.x\-y\..*?$");
        assert_eq!(number_of(&tag("ab", 17)), Some(17));
    }
}
