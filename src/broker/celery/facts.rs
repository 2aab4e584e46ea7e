//! What the loaded application says of itself, as its template writes it: see docs/design-celery.md.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::remote::About;
use super::state_file::StateFacts;

/// All of it, as far as the broker needs it. Unknown fields are for others.
#[derive(Debug, Deserialize)]
pub(super) struct Facts {
    /// Its name among Celery's nodes.
    #[serde(default)]
    pub node: Option<String>,
    /// The version of Celery.
    #[serde(default)]
    pub celery: String,
    #[serde(default)]
    pub pool_restarts: bool,
    #[serde(default)]
    pub state: Option<StateFacts>,
    #[serde(default)]
    pub about: Option<About>,
    pub broker: BrokerFacts,
    #[serde(default)]
    pub queues: Vec<QueueFacts>,
    #[serde(default)]
    pub results: Option<ResultFacts>,
    #[serde(default)]
    pub settings: Settings,
    #[serde(default)]
    pub tasks: HashMap<String, TaskFacts>,
}

impl QueueFacts {
    /// Each node gets each of its messages.
    pub fn is_broadcast(&self) -> bool {
        self.exchange_type.as_deref() == Some("fanout")
    }

    /// The name by which it is served.
    pub fn known_as(&self) -> &str {
        match &self.alias {
            Some(alias) if self.is_broadcast() && !alias.is_empty() => alias,
            _ => &self.name,
        }
    }

    /// Its name at the server. One that is made up anew each time (`Broadcast`) is made of that of the node, so that a
    /// reload and a restart find it again.
    pub fn at_server(&self, node: &str) -> String {
        let is_made_up = self.is_broadcast() && self.name.starts_with("bcast.");
        match is_made_up {
            true => format!("bcast.{}.{node}", self.known_as()),
            false => self.name.clone(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct BrokerFacts {
    pub transport: String,
    pub urls: Vec<String>,
    #[serde(default)]
    pub options: TransportOptions,
    #[serde(default)]
    pub ssl: Option<Value>,
    /// In seconds.
    #[serde(default)]
    pub heartbeat: Option<f64>,
    /// How often a worker that starts tries it again; `None`: for ever.
    #[serde(default)]
    pub retries_at_start: Option<u32>,
}

/// Transport options, kombu's names. `null` is the default of each.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TransportOptions {
    pub visibility_timeout: Option<f64>,
    pub priority_steps: Option<Vec<i64>>,
    pub sep: Option<String>,
    pub queue_order_strategy: Option<String>,
    pub global_keyprefix: Option<String>,
    pub unacked_key: Option<String>,
    pub unacked_index_key: Option<String>,
    pub master_name: Option<String>,
    pub sentinel_kwargs: Option<SentinelOptions>,
    /// A text, or whether there is one.
    pub fanout_prefix: Option<Value>,
    pub fanout_patterns: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SentinelOptions {
    pub username: Option<String>,
    pub password: Option<String>,
    pub ssl: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct QueueFacts {
    pub name: String,
    /// The name by which people know it, if that is another.
    #[serde(default)]
    pub alias: Option<String>,
    #[serde(default)]
    pub exchange: Option<String>,
    #[serde(default)]
    pub exchange_type: Option<String>,
    #[serde(default)]
    pub routing_key: Option<String>,
    #[serde(default)]
    pub exchange_durable: Option<bool>,
    #[serde(default)]
    pub exchange_auto_delete: bool,
    #[serde(default)]
    pub exchange_arguments: Option<Map<String, Value>>,
    #[serde(default)]
    pub exchange_no_declare: bool,
    #[serde(default)]
    pub durable: Option<bool>,
    #[serde(default)]
    pub exclusive: bool,
    #[serde(default)]
    pub auto_delete: bool,
    #[serde(default)]
    pub no_declare: Option<bool>,
    #[serde(default)]
    pub arguments: Option<Map<String, Value>>,
    #[serde(default)]
    pub binding_arguments: Option<Map<String, Value>>,
    #[serde(default)]
    pub consumer_arguments: Option<Map<String, Value>>,
    /// In seconds.
    #[serde(default)]
    pub expires: Option<f64>,
    /// In seconds.
    #[serde(default)]
    pub message_ttl: Option<f64>,
    #[serde(default)]
    pub max_length: Option<i64>,
    #[serde(default)]
    pub max_length_bytes: Option<i64>,
    #[serde(default)]
    pub max_priority: Option<i64>,
    #[serde(default)]
    pub bindings: Vec<BindingFacts>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct BindingFacts {
    pub exchange: String,
    #[serde(default)]
    pub exchange_type: Option<String>,
    #[serde(default)]
    pub routing_key: Option<String>,
}

/// Milliseconds as a number or a text; what is neither is none. Source: `kombu/transport/redis.py`, `_get_queue_expire`.
pub(super) fn millis(value: &Value) -> Option<Duration> {
    let millis = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    millis.map(Duration::from_millis)
}

#[derive(Debug, Deserialize)]
pub(super) struct ResultFacts {
    pub class: String,
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub options: TransportOptions,
    #[serde(default)]
    pub ssl: Option<Value>,
    #[serde(default)]
    pub prefix: Option<String>,
    /// In seconds.
    #[serde(default)]
    pub expires: Option<f64>,
    #[serde(default)]
    pub failure_expires: Option<f64>,
    #[serde(default)]
    pub capture: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub eta_task_limit: Option<usize>,
    pub enable_remote_control: Option<bool>,
    pub control_exchange: Option<String>,
    pub broker_native_delayed_delivery_queue_type: Option<String>,
    pub disable_rate_limits: Option<bool>,
    pub event_exchange: Option<String>,
    pub send_task_events: Option<bool>,
    /// Seconds.
    pub heartbeat_interval: Option<f64>,
    pub mingle: Option<bool>,
    pub task_default_queue: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TaskFacts {
    #[serde(deserialize_with = "unset")]
    pub acks_late: bool,
    #[serde(deserialize_with = "unset")]
    pub reject_on_worker_lost: bool,
    pub time_limit: Option<f64>,
    #[serde(deserialize_with = "unset")]
    pub capture: bool,
    pub send_events: Option<bool>,
    pub rate_limit: Option<String>,
    pub batches: Option<Value>,
    /// Where a producer would send it, if not where all go.
    pub queue: Option<String>,
}

/// `null` is the default.
fn unset<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(from)?.unwrap_or_default())
}

impl Facts {
    /// Reads them. The error names the place.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut from = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut from).map_err(|error| {
            format!(
                "what the application says of itself can't be read at `{}`: {}",
                error.path(),
                error.inner()
            )
        })
    }
}

impl BrokerFacts {
    /// Source: `kombu/transport/__init__.py`, `TRANSPORT_ALIASES`.
    pub fn is_redis(&self) -> bool {
        matches!(
            self.transport.as_str(),
            "redis" | "rediss" | "sentinel" | "kombu.transport.redis:Transport"
        )
    }

    /// Source: the same.
    pub fn is_amqp(&self) -> bool {
        matches!(
            self.transport.as_str(),
            "amqp"
                | "amqps"
                | "pyamqp"
                | "pyamqps"
                | "librabbitmq"
                | "kombu.transport.pyamqp:Transport"
                | "kombu.transport.pyamqp:SSLTransport"
        )
    }
}

impl ResultFacts {
    /// Its class, or one that is made of it and keeps its keys.
    pub fn is_redis(&self) -> bool {
        matches!(
            self.class.as_str(),
            "celery.backends.redis.RedisBackend" | "celery.backends.redis.SentinelBackend"
        )
    }
}
