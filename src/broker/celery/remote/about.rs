//! What the application says of itself for those who ask by remote control; see docs/design-celery.md.

use serde::Deserialize;
use serde_json::{Map, Value};

/// All of it. What is missing was not told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::broker::celery) struct About {
    /// The answer to `celery report`.
    pub report: Value,
    /// The settings that were changed, without secrets.
    pub conf: Value,
    /// All settings.
    pub conf_with_defaults: Value,
    /// Tasks as they are listed, by name.
    pub registered: Map<String, Value>,
    /// Queues as they are shown, by name.
    pub queues: Map<String, Value>,
    /// The connection to the broker, without its password.
    pub broker: Value,
    /// Soft and hard limit of all tasks, in seconds; 0: none.
    pub timeouts: Value,
}
