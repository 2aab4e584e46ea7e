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
    /// Commands of remote control that are the application's own.
    pub commands: Vec<String>,
    /// How answers are written: kombu's name of a serializer; empty: JSON.
    pub serializer: String,
    /// Requests in JSON are not accepted.
    pub refuses_json: bool,
}

impl About {
    /// The hard limit of tasks that have none themselves, in seconds.
    pub fn time_limit(&self) -> Option<f64> {
        self.timeouts[1].as_f64()
    }

    /// Somebody changed how often a task may begin: it is listed with the new limit, as it was given.
    /// Source: `celery/worker/control.py`, `registered`.
    pub fn set_rate(&mut self, task: &str, limit: &Value) {
        let Some(Value::String(shown)) = self.registered.get_mut(task) else {
            return;
        };
        let items = shown.strip_prefix(task).and_then(|rest| rest.strip_prefix(" ["));
        let items = items.and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
        // It is the last one.
        let others = items
            .find("rate_limit=")
            .map_or(items, |at| &items[..at])
            .trim_end();
        let limit = match limit {
            Value::Null => None,
            Value::String(limit) => Some(format!("rate_limit={limit}")),
            other => Some(format!("rate_limit={other}")),
        };
        let items: Vec<&str> = [Some(others).filter(|others| !others.is_empty()), limit.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        *shown = match items.is_empty() {
            true => task.to_owned(),
            false => format!("{task} [{}]", items.join(" ")),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_is_listed_with_its_new_rate() {
        let mut about = About::default();
        about.registered.insert("t".into(), json!("t"));
        about
            .registered
            .insert("u".into(), json!("u [exchange=x rate_limit=10/m]"));
        about.set_rate("t", &json!("1/s"));
        about.set_rate("u", &json!(5));
        about.set_rate("unknown", &json!(5));
        assert_eq!(about.registered["t"], json!("t [rate_limit=1/s]"));
        assert_eq!(about.registered["u"], json!("u [exchange=x rate_limit=5]"));
        about.set_rate("t", &Value::Null);
        about.set_rate("u", &Value::Null);
        assert_eq!(
            (&about.registered["t"], &about.registered["u"]),
            (&json!("t"), &json!("u [exchange=x]"))
        );
    }
}
