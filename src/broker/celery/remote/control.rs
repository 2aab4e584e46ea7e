//! What `celery control` asks for, and how that is answered. Source: `celery/worker/control.py`, `autoscale.py`.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::python::quoted;
use super::request::Request;
use crate::broker::{Ask, PoolView};

/// What is to be done about the limits of a pool, and what is answered once that is done.
#[derive(Debug, PartialEq)]
pub(in crate::broker::celery) struct Change {
    pub ask: Ask,
    pub answer: Value,
}

/// Tasks to be revoked.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker::celery) struct Revocation {
    pub ids: Vec<String>,
    /// Those that run end, and are told to have ended by this signal.
    pub signal: Option<&'static str>,
}

impl Revocation {
    /// What a request asks for; `None`: it is about something else.
    pub fn of(request: &Request) -> Option<Result<Self, String>> {
        let terminates = match request.method.as_str() {
            "revoke" => request.is_true("terminate"),
            "terminate" => true,
            _ => return None,
        };
        Some(Self::read(request, terminates))
    }

    fn read(request: &Request, terminates: bool) -> Result<Self, String> {
        let mut ids = Vec::new();
        for id in request.texts("task_id")? {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let signal = terminates
            .then(|| signal(request.arguments.get("signal")))
            .transpose()?;
        Ok(Revocation { ids, signal })
    }

    /// The answer, once that is done. `found`: those that are here.
    pub fn answer(&self, found: &[String]) -> Value {
        let text = match (self.signal, found) {
            (Some(_), []) => "terminate: tasks unknown".to_owned(),
            (Some(_), found) => format!("terminate: {}", found.join(", ")),
            (None, _) if self.ids.is_empty() => "tasks set() flagged as revoked".to_owned(),
            (None, _) => {
                let ids: Vec<String> = self.ids.iter().map(|id| quoted(id)).collect();
                format!("tasks {{{}}} flagged as revoked", ids.join(", "))
            }
        };
        json!({ "ok": text })
    }
}

/// The name of a signal. Source: `celery/platforms.py`, `Signals.signum`.
pub(super) fn signal(asked: Option<&Value>) -> Result<&'static str, String> {
    let found = match asked {
        None | Some(Value::Null) => Some(Signal::SIGTERM),
        Some(Value::String(name)) if name.is_empty() => Some(Signal::SIGTERM),
        Some(Value::String(name)) => {
            if name.chars().any(char::is_lowercase) {
                return Err("TypeError('signal name must be uppercase string.')".to_owned());
            }
            let name = if name.starts_with("SIG") {
                name.clone()
            } else {
                format!("SIG{name}")
            };
            let unknown = format!("module 'signal' has no attribute '{name}'");
            return match name.parse::<Signal>() {
                Ok(signal) => Ok(signal.as_str()),
                Err(_) => Err(format!("AttributeError({})", quoted(&unknown))),
            };
        }
        Some(number) => number
            .as_i64()
            .and_then(|number| Signal::try_from(i32::try_from(number).ok()?).ok()),
    };
    let found = found.ok_or("TypeError('signal name must be uppercase string.')")?;
    Ok(found.as_str())
}

/// Commands about the number of processes.
pub(in crate::broker::celery) fn resizes(request: &Request) -> bool {
    matches!(request.method.as_str(), "pool_grow" | "pool_shrink" | "autoscale")
}

/// Other limits, as one of these commands asks for. `pools`: those of this node.
pub(in crate::broker::celery) fn resize(request: &Request, pools: &[PoolView]) -> Result<Change, Value> {
    let error = |text: &str| json!({ "error": text });
    let method = request.method.as_str();
    let [pool] = pools else {
        let text = "this node has several pools: `pool scale --pool NAME` sets the limits of one";
        return Err(error(text));
    };
    let is_autoscaled = pool.min != pool.max;
    let number = |name: &str| -> Result<Option<i64>, Value> {
        match request.arguments.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
                let number =
                    number.ok_or_else(|| error(&format!("TypeError('{name} is no whole number')")))?;
                Ok(Some(number))
            }
        }
    };
    let scale = |min: i64, max: i64| -> Result<(Ask, u32, u32), Value> {
        let limit = |value: i64| u32::try_from(value).ok();
        let (min, max) = limit(min)
            .zip(limit(max).filter(|max| *max > 0))
            .ok_or_else(|| error("ValueError('at least one process must stay')"))?;
        let pool = pool.pool.clone();
        Ok((
            Ask::Scale {
                pool,
                min: Some(min),
                max: Some(max),
            },
            max,
            min,
        ))
    };
    if method == "autoscale" {
        if !is_autoscaled {
            return Err(error("ValueError('Autoscale not enabled')"));
        }
        let (min, max) = (number("min")?, number("max")?);
        let (min, max) = (min.unwrap_or(pool.min.into()), max.unwrap_or(pool.max.into()));
        let (ask, max, min) = scale(min.min(max), max)?;
        let answer = json!({"ok": format!("autoscale now max={max} min={min}")});
        return Ok(Change { ask, answer });
    }
    if is_autoscaled {
        return Err(error(&format!(
            "{method} is not supported with autoscale. Adjust autoscale range instead."
        )));
    }
    let by = number("n")?.unwrap_or(1);
    let (by, done) = if method == "pool_grow" {
        (by, "grow")
    } else {
        (by.saturating_neg(), "shrink")
    };
    let size = i64::from(pool.max).saturating_add(by);
    let (ask, ..) = scale(size, size)?;
    let answer = json!({"ok": format!("pool will {done}")});
    Ok(Change { ask, answer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::PoolName;

    fn pool(min: u32, max: u32) -> PoolView {
        let pool = PoolName::new("default").unwrap();
        PoolView {
            pool,
            queues: Vec::new(),
            min,
            max,
            jobs_max: None,
        }
    }

    fn asked(method: &str, arguments: Value, pools: &[PoolView]) -> (Value, Option<(u32, u32)>) {
        let Value::Object(arguments) = arguments else {
            panic!()
        };
        let request = Request {
            method: method.to_owned(),
            arguments,
            ..Request::default()
        };
        match resize(&request, pools) {
            Ok(Change {
                ask: Ask::Scale { min, max, .. },
                answer,
            }) => (answer, min.zip(max)),
            Ok(other) => panic!("{other:?}"),
            Err(answer) => (answer, None),
        }
    }

    #[test]
    fn a_revocation_is_read_and_answered_as_a_stock_worker_does() {
        let read = |method: &str, arguments: Value| {
            let Value::Object(arguments) = arguments else {
                panic!()
            };
            let request = Request {
                method: method.to_owned(),
                arguments,
                ..Request::default()
            };
            Revocation::of(&request)
        };
        let plain = read("revoke", json!({"task_id": ["a", "a"]})).unwrap().unwrap();
        assert_eq!((plain.ids.len(), plain.signal), (1, None));
        assert_eq!(plain.answer(&[]), json!({"ok": "tasks {'a'} flagged as revoked"}));
        for (signal, name) in [
            (json!(null), "SIGTERM"),
            (json!("KILL"), "SIGKILL"),
            (json!("SIGINT"), "SIGINT"),
            (json!(9), "SIGKILL"),
        ] {
            let asked = json!({"task_id": "a", "terminate": true, "signal": signal});
            let terminated = read("revoke", asked).unwrap().unwrap();
            assert_eq!(terminated.signal, Some(name));
            assert_eq!(terminated.answer(&[]), json!({"ok": "terminate: tasks unknown"}));
            assert_eq!(terminated.answer(&["a".into()]), json!({"ok": "terminate: a"}));
        }
        for bad in [
            json!({}),
            json!({"task_id": 5.5}),
            json!({"task_id": "a", "signal": "kill"}),
            json!({"task_id": "a", "signal": "NOPE"}),
        ] {
            assert!(read("terminate", bad.clone()).unwrap().is_err(), "{bad}");
        }
        assert_eq!(read("ping", json!({})), None);
    }

    #[test]
    fn limits_move_as_those_of_a_stock_worker() {
        let (fixed, scaled) = ([pool(2, 2)], [pool(1, 3)]);
        for (method, arguments, pools, limits, word) in [
            (
                "pool_grow",
                json!({"n": 2}),
                &fixed,
                Some((4, 4)),
                "pool will grow",
            ),
            ("pool_shrink", json!({}), &fixed, Some((1, 1)), "pool will shrink"),
            ("pool_shrink", json!({"n": 2}), &fixed, None, "ValueError"),
            ("pool_grow", json!({"n": i64::MAX}), &fixed, None, "ValueError"),
            ("pool_shrink", json!({"n": i64::MIN}), &fixed, None, "ValueError"),
            ("pool_grow", json!({"n": "x"}), &fixed, None, "TypeError"),
            (
                "pool_grow",
                json!({}),
                &scaled,
                None,
                "pool_grow is not supported with autoscale",
            ),
            (
                "autoscale",
                json!({"max": 5, "min": 2}),
                &scaled,
                Some((2, 5)),
                "autoscale now max=5 min=2",
            ),
            (
                "autoscale",
                json!({"max": "5"}),
                &scaled,
                Some((1, 5)),
                "autoscale now max=5 min=1",
            ),
            ("autoscale", json!({"max": 0}), &scaled, None, "ValueError"),
            (
                "autoscale",
                json!({"max": 5}),
                &fixed,
                None,
                "Autoscale not enabled",
            ),
        ] {
            let (answer, found) = asked(method, arguments, pools);
            assert_eq!(found, limits, "{method} {answer}");
            assert!(answer.to_string().contains(word), "{answer}");
        }
        let several = [pool(1, 1), pool(1, 1)];
        assert!(
            asked("pool_grow", json!({}), &several)
                .0
                .to_string()
                .contains("several pools")
        );
    }
}
