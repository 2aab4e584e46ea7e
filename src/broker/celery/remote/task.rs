//! A task as it is shown to those who ask. Source: `celery/worker/request.py`, `Request.info`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::broker::RunningJob;

/// What is in hand of a task.
#[derive(Debug)]
pub(in crate::broker::celery) struct Task<'h> {
    pub node: &'h str,
    pub id: &'h str,
    /// What its worker gets.
    pub payload: &'h [u8],
    pub is_acked: bool,
    /// The job that runs, and its process.
    pub running: Option<(RunningJob, i32)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    headers: Value,
    properties: Value,
    content_type: Option<String>,
}

impl Task<'_> {
    /// All that is known of it; `safe`: arguments as texts.
    pub fn info(&self, safe: bool) -> Value {
        let (meta, body) = parts(self.payload);
        let headers = &meta.headers;
        let [args, kwargs] = arguments(&meta, body)
            .filter(|_| !safe)
            .unwrap_or_else(|| ["argsrepr", "kwargsrepr"].map(|name| headers[name].clone()));
        let name = &headers["task"];
        let shadow = headers["shadow"].as_str().filter(|shadow| !shadow.is_empty());
        let delivery = &meta.properties["delivery_info"];
        let running = self.running.as_ref();
        json!({
            "id": self.id,
            "name": shadow.map_or_else(|| name.clone(), Value::from),
            "args": args,
            "kwargs": kwargs,
            "type": name,
            "hostname": self.node,
            "time_start": running.map(|(job, _)| job.started.0 as f64 / 1000.0),
            "acknowledged": self.is_acked,
            "delivery_info": {
                "exchange": delivery["exchange"],
                "routing_key": delivery["routing_key"],
                "priority": meta.properties["priority"],
                "redelivered": delivery["redelivered"].as_bool().unwrap_or(false),
            },
            "worker_pid": running.map(|(_, pid)| pid),
        })
    }

    /// When it is due, as its message says.
    pub fn eta(&self) -> Value {
        parts(self.payload).0.headers["eta"].clone()
    }
}

/// The headers of a message. `payload`: what its worker gets.
pub(super) fn headers(payload: &[u8]) -> Value {
    parts(payload).0.headers
}

/// What is said of the body, and the body. Nothing where it can't be read: workers say what is wrong with it.
fn parts(payload: &[u8]) -> (Meta, &[u8]) {
    let split = || {
        let (length, rest) = payload.split_first_chunk()?;
        let (meta, body) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        Some((serde_json::from_slice(meta).ok()?, body))
    };
    split().unwrap_or_default()
}

/// Those that can be decoded here.
fn arguments(meta: &Meta, body: &[u8]) -> Option<[Value; 2]> {
    let is_plain =
        meta.content_type.as_deref() == Some("application/json") && meta.headers["compression"].is_null();
    let [args, kwargs, _]: [Value; 3] = serde_json::from_slice(body).ok().filter(|_| is_plain)?;
    Some([args, kwargs])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Token};
    use crate::time::Unix;

    #[test]
    fn a_task_is_shown_as_a_stock_worker_shows_it() {
        let meta = json!({"headers": {"task": "t", "shadow": null, "argsrepr": "(1,)", "kwargsrepr": "{}"}, "properties": {
            "priority": 0, "delivery_info": {"exchange": "", "routing_key": "q"}}, "content_type": "application/json"});
        let of = |meta: &Value, body: &str| {
            let meta = meta.to_string();
            let length = u32::try_from(meta.len()).unwrap().to_le_bytes();
            [&length[..], meta.as_bytes(), body.as_bytes()].concat()
        };
        let payload = of(&meta, r#"[[1], {"a": 2}, {}]"#);
        let job = RunningJob {
            token: Token(1),
            job: JobId::new("i").unwrap(),
            started: Unix(1500),
        };
        let mut task = Task {
            node: "n",
            id: "i",
            payload: &payload,
            is_acked: true,
            running: Some((job, 7)),
        };
        let info = task.info(false);
        assert_eq!(info["args"], json!([1]));
        assert_eq!((&info["kwargs"], &info["name"]), (&json!({"a": 2}), &json!("t")));
        assert_eq!(
            (&info["time_start"], &info["worker_pid"]),
            (&json!(1.5), &json!(7))
        );
        assert_eq!(task.info(true)["args"], json!("(1,)"));
        let odd = of(&meta, "no JSON");
        task.payload = &odd;
        assert_eq!(task.info(false)["args"], json!("(1,)"));
        task.payload = b"?";
        assert_eq!(task.info(false)["name"], Value::Null);
    }
}
