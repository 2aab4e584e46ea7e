//! Other options for a task of this node: `rate_limit`, `time_limit`. Source: `celery/worker/control.py`.

use serde_json::{Value, json};

use super::Answer;
use super::python::{quoted, shown};
use super::request::Request;
use crate::broker::celery::limits::{NoRate, Rate, rate};

/// What changes, and what is answered once that is done.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker::celery) struct TaskChange {
    pub task: String,
    pub what: TaskOption,
    pub answer: Value,
}

/// An option of a task.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker::celery) enum TaskOption {
    /// How many may begin in a second.
    Rate(Rate),
    /// The limits that the task has itself, in seconds.
    Time { hard: Option<f64>, soft: Option<f64> },
}

impl TaskChange {
    /// What a request asks for; `None`: it is about something else. `is_known`: whether there is such a task.
    pub fn of(request: &Request, is_known: impl Fn(&str) -> bool) -> Option<Result<Self, Answer>> {
        let read = match request.method.as_str() {
            "rate_limit" => rate_limit(request),
            "time_limit" => time_limit(request),
            _ => return None,
        };
        Some(read.and_then(|change| match is_known(&change.task) {
            true => Ok(change),
            false => Err(Ok(json!({"error": "unknown task"}))),
        }))
    }
}

fn rate_limit(request: &Request) -> Result<TaskChange, Answer> {
    let task = task_name(request)?;
    let text = match request.arguments.get("rate_limit") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) => String::new(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => {
            return Err(Err(
                "TypeError('rate_limit is neither a text nor a number')".to_owned()
            ));
        }
        None => return Err(missing(request, "rate_limit")),
    };
    let rate = rate(&text).map_err(|error| match error {
        NoRate::Unit(unit) => Err(format!("KeyError({})", quoted(unit))),
        NoRate::Number(number) => {
            let why = format!("could not convert string to float: {}", quoted(number));
            Ok(json!({"error": format!("Invalid rate limit string: ValueError({})", quoted(&why))}))
        }
    })?;
    let done = match text.as_str() {
        "" | "0" => "rate limit disabled successfully",
        _ => "new rate limit set successfully",
    };
    Ok(TaskChange {
        task,
        what: TaskOption::Rate(rate),
        answer: json!({ "ok": done }),
    })
}

fn time_limit(request: &Request) -> Result<TaskChange, Answer> {
    let task = match request.arguments.get("task_name") {
        None => return Err(Ok(json!({"error": "unknown task"}))),
        Some(_) => task_name(request)?,
    };
    let seconds = |name: &str| match request.arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| {
            Err(format!(
                "TypeError({})",
                quoted(&format!("{name} is no number: {}", shown(value)))
            ))
        }),
    };
    let (hard, soft) = (seconds("hard")?, seconds("soft")?);
    Ok(TaskChange {
        task,
        what: TaskOption::Time {
            hard: hard.filter(|hard| *hard > 0.0),
            soft: soft.filter(|soft| *soft > 0.0),
        },
        answer: json!({"ok": "time limits set successfully"}),
    })
}

fn task_name(request: &Request) -> Result<String, Answer> {
    match request.arguments.get("task_name") {
        Some(Value::String(name)) => Ok(name.clone()),
        Some(_) => Err(Ok(json!({"error": "unknown task"}))),
        None => Err(missing(request, "task_name")),
    }
}

fn missing(request: &Request, name: &str) -> Answer {
    let what = format!(
        "{}() missing 1 required positional argument: {}",
        request.method,
        quoted(name)
    );
    Err(format!("TypeError({})", quoted(&what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, arguments: Value) -> Result<TaskChange, Answer> {
        let Value::Object(arguments) = arguments else {
            panic!()
        };
        let request = Request {
            method: method.to_owned(),
            arguments,
            ..Request::default()
        };
        TaskChange::of(&request, |name| name == "t").unwrap()
    }

    #[test]
    fn rates_change_as_those_of_a_stock_worker() {
        for (limit, rate, done) in [
            (json!("30/m"), Some(0.5), "new rate limit set successfully"),
            (json!(2), Some(2.0), "new rate limit set successfully"),
            (json!(""), None, "rate limit disabled successfully"),
            (json!(0), None, "rate limit disabled successfully"),
            (json!("0/m"), None, "new rate limit set successfully"),
            (json!(null), None, "rate limit disabled successfully"),
        ] {
            let change = asked("rate_limit", json!({"task_name": "t", "rate_limit": limit})).unwrap();
            assert_eq!(
                (change.what, change.answer),
                (TaskOption::Rate(rate), json!({ "ok": done })),
                "{limit}"
            );
        }
        let bad = asked("rate_limit", json!({"task_name": "t", "rate_limit": "x"})).unwrap_err();
        let error = "Invalid rate limit string: ValueError(\"could not convert string to float: 'x'\")";
        assert_eq!(bad, Ok(json!({ "error": error })));
        let unit = asked("rate_limit", json!({"task_name": "t", "rate_limit": "1/d"})).unwrap_err();
        assert_eq!(unit, Err("KeyError('d')".to_owned()));
        let unknown = asked("rate_limit", json!({"task_name": "u", "rate_limit": "1/m"})).unwrap_err();
        assert_eq!(unknown, Ok(json!({"error": "unknown task"})));
        assert!(
            asked("rate_limit", json!({"task_name": "t"}))
                .unwrap_err()
                .is_err()
        );
    }

    #[test]
    fn limits_of_time_change_together() {
        let change = asked("time_limit", json!({"task_name": "t", "hard": 2.5})).unwrap();
        let hard = Some(2.5);
        assert_eq!(change.what, TaskOption::Time { hard, soft: None });
        assert_eq!(change.answer, json!({"ok": "time limits set successfully"}));
        assert_eq!(
            asked("time_limit", json!({})).unwrap_err(),
            Ok(json!({"error": "unknown task"}))
        );
        assert!(
            asked("time_limit", json!({"task_name": "t", "soft": "x"}))
                .unwrap_err()
                .is_err()
        );
    }
}
