//! What kombu's transport over Redis is told: plain values.

use std::time::Duration;

use serde_json::Value;

use crate::broker::celery::address;
use crate::broker::celery::facts::{BrokerFacts, TransportOptions};
use crate::broker::redis::options as redis;

/// Visibility of what nobody acknowledges. Source: `kombu/transport/redis.py`, `Channel.visibility_timeout`.
const VISIBILITY: f64 = 3600.0;

/// Transport options of kombu's that concern queues. Source: `kombu/transport/redis.py`, `from_transport_options`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker::celery) struct RedisTransport {
    /// The server that holds the queues.
    pub server: redis::Options,
    /// What all keys begin with: `global_keyprefix`.
    pub prefix: String,
    /// Between a queue and its priority: `sep`.
    pub separator: String,
    /// The priorities that have a list, the first one served first: `priority_steps`.
    pub steps: Vec<i64>,
    /// Which queue comes first: `queue_order_strategy`.
    pub order: QueueStrategy,
    /// When a stock worker delivers again what is not acknowledged: `visibility_timeout`.
    pub visibility: Duration,
    /// Hash of what is not acknowledged: `unacked_key`.
    pub unacked: String,
    /// Its index by time: `unacked_index_key`.
    pub unacked_index: String,
    /// What channels of exchanges begin with: `fanout_prefix`.
    fanout: String,
    /// Their names end with the key of a message: `fanout_patterns`.
    has_patterns: bool,
}

/// Which queue comes first. Source: `kombu/utils/scheduling.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker::celery) enum QueueStrategy {
    /// The queue that gave a message goes last.
    RoundRobin,
    /// The first by name.
    Sorted,
    /// The first that is listed.
    Priority,
}

impl RedisTransport {
    /// Reads what the application says of its broker. The error says what is not possible here.
    pub fn read(facts: &BrokerFacts) -> Result<Self, String> {
        let server = address::read(&facts.urls, &facts.options, facts.ssl.as_ref())?;
        let options = &facts.options;
        let name = |name: &Option<String>, default: &str| name.clone().unwrap_or_else(|| default.to_owned());
        let visibility = options.visibility_timeout.unwrap_or(VISIBILITY);
        let order = match options.queue_order_strategy.as_deref() {
            None | Some("round_robin") => QueueStrategy::RoundRobin,
            Some("sorted") => QueueStrategy::Sorted,
            Some("priority") => QueueStrategy::Priority,
            Some(other) => {
                return Err(format!(
                    "queue_order_strategy is `{other}`; round_robin, sorted or priority is possible here"
                ));
            }
        };
        let mut steps = options.priority_steps.clone().unwrap_or_else(|| vec![0, 3, 6, 9]);
        if steps.is_empty() {
            steps.push(0);
        }
        Ok(RedisTransport {
            prefix: options.global_keyprefix.clone().unwrap_or_default(),
            separator: name(&options.sep, "\u{6}\u{16}"),
            steps,
            order,
            visibility: Duration::try_from_secs_f64(visibility)
                .ok()
                .filter(|visibility| !visibility.is_zero())
                .ok_or_else(|| {
                    format!("visibility_timeout is {visibility}, not a number of seconds above 0")
                })?,
            unacked: name(&options.unacked_key, "unacked"),
            unacked_index: name(&options.unacked_index_key, "unacked_index"),
            fanout: fanout(options),
            has_patterns: options.fanout_patterns.unwrap_or(true),
            server,
        })
    }

    /// The channel of a fanout exchange. Source: `kombu/transport/redis.py`, `Channel._get_publish_topic`.
    pub fn channel(&self, exchange: &str) -> String {
        let database = address::database(&self.server).to_string();
        let fanout = self.fanout.replace("{db}", &database);
        format!("{}{fanout}{exchange}", self.prefix)
    }

    /// The channel for messages with this key.
    pub fn channel_for(&self, exchange: &str, routing_key: &str) -> String {
        let channel = self.channel(exchange);
        match self.has_patterns && !routing_key.is_empty() {
            true => format!("{channel}/{routing_key}"),
            false => channel,
        }
    }
}

/// Source: `kombu/transport/redis.py`, `keyprefix_fanout`.
fn fanout(options: &TransportOptions) -> String {
    match &options.fanout_prefix {
        None | Some(Value::Null | Value::Bool(true)) => "/{db}.".to_owned(),
        Some(Value::String(prefix)) => prefix.clone(),
        Some(_) => String::new(),
    }
}
