//! What is told of a task, and when. Source: `celery/worker/strategy.py`, `celery/worker/request.py`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Event;
use crate::time::Unix;

/// What the headers of a message say, and that is told when it comes.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Headers {
    id: Value,
    task: Value,
    shadow: Value,
    argsrepr: Value,
    kwargsrepr: Value,
    root_id: Value,
    parent_id: Value,
    retries: Value,
    eta: Value,
    expires: Value,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    headers: Headers,
}

/// What a worker says of a task's end, as far as events tell it; see docs/design-celery.md.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    state: String,
    then: Option<String>,
    runtime: Value,
    result: Value,
    exception: Value,
    traceback: Value,
    /// `None`: one event follows from the state.
    events: Option<Vec<(String, Map<String, Value>)>>,
}

/// Its message has come. `payload`: what its worker gets.
pub(in crate::broker::celery) fn received(uuid: &str, payload: &[u8]) -> Event {
    let headers = || {
        let (length, rest) = payload.split_first_chunk()?;
        let meta = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        Some(serde_json::from_slice::<Meta>(meta).ok()?.headers)
    };
    let headers = headers().unwrap_or_default();
    let name = match &headers.shadow {
        Value::String(shadow) if !shadow.is_empty() => headers.shadow,
        _ => headers.task,
    };
    let retries = match headers.retries {
        Value::Null => json!(0),
        retries => retries,
    };
    Event::new(
        "task-received",
        json!({
            "uuid": if headers.id.is_string() { headers.id } else { json!(uuid) },
            "name": name,
            "args": headers.argsrepr,
            "kwargs": headers.kwargsrepr,
            "root_id": headers.root_id,
            "parent_id": headers.parent_id,
            "retries": retries,
            "eta": isoformat(headers.eta),
            "expires": isoformat(headers.expires),
        }),
    )
}

/// A worker runs it since `at`.
pub(in crate::broker::celery) fn started(uuid: &str, at: Unix) -> Event {
    Event {
        at: Some(at),
        ..Event::new("task-started", json!({ "uuid": uuid }))
    }
}

/// Its message goes back to its queue, or is dropped.
pub(in crate::broker::celery) fn rejected(uuid: &str, requeue: bool) -> Event {
    Event::new("task-rejected", json!({"uuid": uuid, "requeue": requeue}))
}

/// What follows from a worker's word of its end. `ran_since`: it ran, and nobody was told yet that it began;
/// `follows`: its own events are wanted where the worker names none.
pub(in crate::broker::celery) fn ended(
    uuid: &str,
    outcome: &[u8],
    ran_since: Option<Unix>,
    follows: bool,
) -> Vec<Event> {
    let told: Told = serde_json::from_slice(outcome).unwrap_or_default();
    // A message that was refused, that came too late or too early never ran.
    let has_run = !matches!(told.state.as_str(), "REVOKED" | "LATER" | "")
        && told.events.as_ref().is_none_or(|events| !events.is_empty())
        && follows;
    let says_started =
        |events: &Vec<(String, Map<String, Value>)>| events.iter().any(|(kind, _)| kind == "task-started");
    let is_news = !told.events.as_ref().is_some_and(says_started);
    let mut events = Vec::new();
    events.extend(
        ran_since
            .filter(|_| has_run && is_news)
            .map(|at| started(uuid, at)),
    );
    match told.events {
        Some(told) => events.extend(told.into_iter().map(|(kind, fields)| Event {
            kind: kind.into(),
            at: None,
            fields,
        })),
        None if follows => events.extend(of_state(uuid, told)),
        None => {}
    }
    events
}

fn of_state(uuid: &str, told: Told) -> Vec<Event> {
    let failed = |kind: &'static str, told: Told| {
        let fields = json!({"uuid": uuid, "exception": told.exception, "traceback": told.traceback});
        Event::new(kind, fields)
    };
    match told.state.as_str() {
        "SUCCESS" => vec![Event::new(
            "task-succeeded",
            json!({"uuid": uuid, "result": told.result, "runtime": told.runtime}),
        )],
        "FAILURE" if told.then.as_deref() == Some("reject") => {
            vec![rejected(uuid, false), failed("task-failed", told)]
        }
        "FAILURE" => vec![failed("task-failed", told)],
        "RETRY" => vec![failed("task-retried", told)],
        _ => Vec::new(),
    }
}

/// A time as Python writes it: `+00:00` where the sender wrote `Z`.
fn isoformat(time: Value) -> Value {
    match &time {
        Value::String(text) => match text.strip_suffix('Z') {
            Some(text) => json!(format!("{text}+00:00")),
            None => time,
        },
        _ => time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| &*event.kind).collect()
    }

    #[test]
    fn a_message_that_came_is_told_as_a_stock_worker_tells_it() {
        let meta = json!({"headers": {"id": "i", "task": "t", "shadow": "s", "argsrepr": "(1,)", "kwargsrepr": "{}",
            "root_id": "r", "retries": 2, "eta": "2026-01-02T03:04:05Z"}});
        let meta = meta.to_string();
        let length = u32::try_from(meta.len()).unwrap().to_le_bytes();
        let payload = [&length[..], meta.as_bytes(), b"[]"].concat();
        let event = received("other", &payload);
        assert_eq!(
            Value::from(event.fields),
            json!({"uuid": "i", "name": "s", "args": "(1,)", "kwargs": "{}", "root_id": "r", "parent_id": null,
                "retries": 2, "eta": "2026-01-02T03:04:05+00:00", "expires": null})
        );
        let odd = received("other", b"?");
        assert_eq!(
            (&odd.fields["uuid"], &odd.fields["retries"]),
            (&json!("other"), &json!(0))
        );
    }

    #[test]
    fn one_event_follows_from_each_usual_end() {
        let since = Some(Unix(5));
        for (outcome, expected) in [
            (
                r#"{"state": "SUCCESS", "result": "3", "runtime": 0.5}"#,
                &["task-started", "task-succeeded"][..],
            ),
            (
                r#"{"state": "FAILURE", "then": "ack"}"#,
                &["task-started", "task-failed"],
            ),
            (
                r#"{"state": "FAILURE", "then": "reject"}"#,
                &["task-started", "task-rejected", "task-failed"],
            ),
            (r#"{"state": "RETRY"}"#, &["task-started", "task-retried"]),
            (r#"{"state": "IGNORED"}"#, &["task-started"]),
            (r#"{"state": "REJECTED", "events": []}"#, &[]),
            (r#"{"state": "LATER", "eta": 5}"#, &[]),
            (
                r#"{"state": "REVOKED", "events": [["task-revoked", {"uuid": "i", "expired": true}]]}"#,
                &["task-revoked"],
            ),
            (
                r#"{"state": "SUCCESS", "events": [["task-started", {}], ["task-succeeded", {}]]}"#,
                &["task-started", "task-succeeded"],
            ),
            ("no JSON", &[]),
        ] {
            assert_eq!(
                kinds(&ended("i", outcome.as_bytes(), since, true)),
                expected,
                "{outcome}"
            );
        }
        assert_eq!(
            kinds(&ended("i", br#"{"state": "SUCCESS"}"#, None, true)),
            ["task-succeeded"]
        );
    }

    #[test]
    fn a_task_that_sends_no_events_sends_those_that_celery_s_own_code_asks_for() {
        assert!(ended("i", br#"{"state": "SUCCESS"}"#, Some(Unix(5)), false).is_empty());
        let unknown = br#"{"state": "FAILURE", "events": [["task-failed", {"uuid": "i"}]]}"#;
        assert_eq!(kinds(&ended("i", unknown, Some(Unix(5)), false)), ["task-failed"]);
    }
}
