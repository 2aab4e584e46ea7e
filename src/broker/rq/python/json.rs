//! JSON as Python values, and back.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{DEPTH_MAX, Value};
use crate::text::without_lone_surrogates;

/// The value of a JSON text, with all digits of its numbers; the error says why there is none.
pub(in crate::broker::rq) fn from_json(text: &[u8]) -> Result<Value, String> {
    let text = without_lone_surrogates(text);
    let raw: &RawValue =
        serde_json::from_slice(&text).map_err(|error| format!("they are no JSON: {error}"))?;
    value(raw, 0)
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("they are nested deeper than {DEPTH_MAX} levels"));
    }
    let text = raw.get();
    let wrong = |error: serde_json::Error| format!("they are no JSON: {error}");
    Ok(match text.as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let items = items.into_iter().map(|item| value(item, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(text).map_err(wrong)?;
            let entries = entries
                .into_iter()
                .map(|(key, item)| Ok((Value::Text(key), value(item, depth + 1)?)));
            Value::Dict(entries.collect::<Result<_, String>>()?)
        }
        Some(b'"') => Value::Text(serde_json::from_str(text).map_err(wrong)?),
        Some(b'n') => Value::None,
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        _ if text.contains(['.', 'e', 'E']) => Value::Float(text.parse().unwrap_or(f64::NAN)),
        _ => Value::Int(text.to_owned()),
    })
}

/// An object's entries in their order.
struct Entries<'j>(Vec<(String, &'j RawValue)>);

impl<'j> Deserialize<'j> for Entries<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'j> Visitor<'j> for InOrder {
            type Value = Entries<'j>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Entries<'j>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The value as JSON, as far as JSON can say it: a tuple is an array, keys are text, `nan` and infinities are text,
/// bytes are their text, and of an object its class is told.
pub(in crate::broker::rq) fn to_json(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::None => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(digits) => out.push_str(digits),
        Value::Float(number) if number.is_finite() => out.push_str(&super::repr(value)),
        Value::Float(_) => text(&super::repr(value), out),
        Value::Text(content) => text(content, out),
        Value::Bytes(bytes) => text(&String::from_utf8_lossy(bytes), out),
        Value::List(items) | Value::Tuple(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                write(item, out);
            }
            out.push(']');
        }
        Value::Dict(entries) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                match key {
                    Value::Text(key) => text(key, out),
                    // As Python's own JSON has them.
                    Value::None | Value::Bool(_) | Value::Int(_) => {
                        let mut bare = String::new();
                        write(key, &mut bare);
                        text(&bare, out);
                    }
                    key => text(&super::repr(key), out),
                }
                out.push_str(": ");
                write(item, out);
            }
            out.push('}');
        }
        Value::Object(class) => {
            out.push_str("{\"python_object\": ");
            text(class, out);
            out.push('}');
        }
    }
}

fn text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        to_json(&from_json(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_json_says_survives_with_its_order_and_digits() {
        for text in [
            "null",
            "[true, false, -7, 0.5]",
            r#"{"b": [], "a": {"x": "é\n\""}}"#,
            "123456789012345678901234567890",
        ] {
            assert_eq!(round(text), text);
        }
    }

    #[test]
    fn what_json_can_not_say_is_told_as_text() {
        assert_eq!(round("1e999"), r#""inf""#);
        let key = Value::Tuple(vec![Value::Int("1".into()), Value::None]);
        let dict = Value::Dict(vec![
            (key, Value::Object("shop.Cart".into())),
            (Value::Int("2".into()), Value::Bytes(b"ab".to_vec())),
        ]);
        assert_eq!(
            to_json(&dict),
            r#"{"(1, None)": {"python_object": "shop.Cart"}, "2": "ab"}"#
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        assert!(from_json(deep.as_bytes()).unwrap_err().contains("nested deeper"));
        assert!(from_json(b"[1").is_err());
    }
}
