//! Stamps whose tasks were revoked. Source: `celery/worker/control.py`, `revoke_by_stamped_headers`;
//! `celery/worker/request.py`, `Request.revoked`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::control::signal;
use super::python::{quoted, shown};
use super::request::Request;
use super::task::headers;

/// Values that are remembered of each stamp, the newest ones.
const VALUES_MAX: usize = 50_000;

/// Values by the name of their stamp.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::broker::celery) struct Stamps(BTreeMap<String, Vec<Value>>);

impl Stamps {
    fn of(asked: &Map<String, Value>) -> Self {
        let values = asked.iter().map(|(name, values)| (name.clone(), list(values)));
        Stamps(values.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These are revoked, too.
    pub fn add(&mut self, more: &Stamps) {
        for (name, values) in &more.0 {
            let known = self.0.entry(name.clone()).or_default();
            for value in values {
                if !known.contains(value) {
                    known.push(value.clone());
                }
            }
            known.drain(..known.len().saturating_sub(VALUES_MAX));
        }
    }

    /// The stamps that a task has of these, by name. `payload`: what its worker gets.
    pub fn of_task(&self, payload: &[u8]) -> Vec<(&str, Value)> {
        if self.is_empty() {
            return Vec::new();
        }
        let headers = headers(payload);
        let names = headers["stamped_headers"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let mut found = Vec::new();
        for name in names.iter().filter_map(Value::as_str) {
            let Some((name, revoked)) = self.0.get_key_value(name) else {
                continue;
            };
            let own = list(&headers["stamps"][name]);
            found.extend(
                own.into_iter()
                    .filter(|value| revoked.contains(value))
                    .map(|value| (&**name, value)),
            );
        }
        found
    }
}

/// One value, or several. Source: `celery/utils/functional.py`, `maybe_list`.
fn list(values: &Value) -> Vec<Value> {
    match values {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        value => vec![value.clone()],
    }
}

/// Tasks to be revoked by their stamps.
#[derive(Debug, PartialEq)]
pub(in crate::broker::celery) struct StampRevocation {
    asked: Map<String, Value>,
    pub stamps: Stamps,
    /// Those that run end, and are told to have ended by this signal.
    pub signal: Option<&'static str>,
}

impl StampRevocation {
    /// What a request asks for; `None`: it is about something else.
    pub fn of(request: &Request) -> Option<Result<Self, String>> {
        (request.method == "revoke_by_stamped_headers").then(|| Self::read(request))
    }

    fn read(request: &Request) -> Result<Self, String> {
        let asked = match request.arguments.get("headers") {
            Some(Value::Object(asked)) => asked.clone(),
            Some(Value::Array(pairs)) => pairs.iter().map(pair).collect::<Result<_, _>>()?,
            Some(_) => return Err("AttributeError(\"headers has no attribute 'items'\")".to_owned()),
            None => {
                let what = "revoke_by_stamped_headers() missing 1 required positional argument: 'headers'";
                return Err(format!("TypeError({})", quoted(what)));
            }
        };
        let signal = signal(request.arguments.get("signal"))?;
        Ok(StampRevocation {
            stamps: Stamps::of(&asked),
            asked,
            signal: request.is_true("terminate").then_some(signal),
        })
    }

    /// The answer, once that is done. `found`: stamps of those that ran.
    pub fn answer(&self, found: &[(String, Value)]) -> Value {
        let asked = shown(&Value::Object(self.asked.clone()));
        let text = match (self.signal, found) {
            (None, _) => format!("headers {asked} flagged as revoked, but not terminated"),
            (Some(_), []) => format!("headers {asked} were not terminated"),
            (Some(_), found) => {
                let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
                for (name, value) in found {
                    let values = by_name.entry(name).or_default();
                    let value = shown(value);
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                let sets: Vec<String> = by_name
                    .iter()
                    .map(|(name, values)| format!("{}: {{{}}}", quoted(name), values.join(", ")))
                    .collect();
                format!(
                    "headers defaultdict(<class 'set'>, {{{}}}) revoked",
                    sets.join(", ")
                )
            }
        };
        json!({ "ok": text })
    }
}

/// `name=value`.
fn pair(text: &Value) -> Result<(String, Value), String> {
    let text = text.as_str().ok_or("AttributeError(\"a header is no text\")")?;
    let mut parts = text.split('=');
    let name = parts.next().unwrap_or_default().to_owned();
    let value = parts.next().ok_or("IndexError('list index out of range')")?;
    Ok((name, json!(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: Value) -> Result<StampRevocation, String> {
        let Value::Object(arguments) = arguments else {
            panic!()
        };
        let request = Request {
            method: "revoke_by_stamped_headers".to_owned(),
            arguments,
            ..Request::default()
        };
        StampRevocation::of(&request).unwrap()
    }

    fn payload(headers: &Value) -> Vec<u8> {
        let meta = json!({ "headers": headers }).to_string();
        let length = u32::try_from(meta.len()).unwrap().to_le_bytes();
        [&length[..], meta.as_bytes(), b"[]"].concat()
    }

    #[test]
    fn a_task_is_found_by_one_of_its_stamps() {
        let revocation = asked(json!({"headers": {"user": ["a", "b"], "run": 7}})).unwrap();
        let mut stamps = Stamps::default();
        stamps.add(&revocation.stamps);
        for (stamped, values, found) in [
            (json!(["user"]), json!({"user": "a"}), 1),
            (json!(["user", "run"]), json!({"user": ["b", "c"], "run": [7]}), 2),
            (json!(["user"]), json!({"user": "c", "run": 7}), 0),
            (json!(["user"]), json!({}), 0),
            (json!(null), json!({"user": "a"}), 0),
        ] {
            let headers = json!({"stamped_headers": stamped, "stamps": values});
            assert_eq!(stamps.of_task(&payload(&headers)).len(), found, "{headers}");
        }
        assert!(stamps.of_task(b"?").is_empty());
    }

    #[test]
    fn answers_are_those_of_a_stock_worker() {
        let plain = asked(json!({"headers": ["user=a"]})).unwrap();
        let flagged = "headers {'user': 'a'} flagged as revoked, but not terminated";
        assert_eq!(plain.answer(&[]), json!({ "ok": flagged }));
        let ends = asked(json!({"headers": {"user": ["a"]}, "terminate": true, "signal": "KILL"})).unwrap();
        assert_eq!(ends.signal, Some("SIGKILL"));
        assert_eq!(
            ends.answer(&[]),
            json!({"ok": "headers {'user': ['a']} were not terminated"})
        );
        let found = [("user".to_owned(), json!("a")), ("user".to_owned(), json!("a"))];
        let revoked = "headers defaultdict(<class 'set'>, {'user': {'a'}}) revoked";
        assert_eq!(ends.answer(&found), json!({ "ok": revoked }));
        for bad in [json!({}), json!({"headers": 5}), json!({"headers": ["x"]})] {
            assert!(asked(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_oldest_values_are_forgotten() {
        let mut stamps = Stamps::default();
        for first in [0, 30_000] {
            let values: Vec<Value> = (first..first + 30_000).map(|value: i64| json!(value)).collect();
            // Looking each one up would take long: they are known to be new.
            stamps.0.entry("run".to_owned()).or_default().extend(values);
        }
        stamps.add(&Stamps(BTreeMap::from([("run".to_owned(), vec![json!(60_000)])])));
        assert_eq!(stamps.0["run"].len(), VALUES_MAX);
        assert_eq!(stamps.0["run"].last(), Some(&json!(60_000)));
    }
}
