//! The fields of a job's data as environment variables, for programs that read no JSON. Pure.
//!
//! Each field stands for itself: one that can't be a variable does not keep the others away. A producer chooses names
//! and values, so only names that are plain identifiers count, always behind a prefix.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Prefix of the variables.
const PREFIX: &str = "POOL_JOB_ARG_";
/// Longest value in bytes: the kernel takes 128 KiB a variable. Standard input has them all.
const VALUE_LEN_MAX: usize = 32 * 1024;
/// All variables together, in bytes: they share the kernel's room for arguments (2 MiB by default).
const VALUES_LEN_MAX: usize = 256 * 1024;
/// Fields left out that are named.
const NAMED_MAX: usize = 5;

/// What of a job's data is in its environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Variables {
    /// By the variable's name.
    pub set: BTreeMap<String, String>,
    /// Fields that are text, numbers or booleans and can't be variables: the name, as JSON, and why.
    pub left_out: Vec<(String, &'static str)>,
}

impl Variables {
    /// One variable for each field of a JSON object that is text, a number or a boolean; of a name that comes twice
    /// the last one counts. Numbers keep their text. What is no object has none.
    pub fn of(payload: &[u8]) -> Variables {
        let mut variables = Variables::default();
        let Ok(Fields(fields)) = serde_json::from_slice(payload) else {
            return variables;
        };
        let mut room = VALUES_LEN_MAX;
        for (name, value) in fields {
            if let Ok(name) = serde_json::from_str::<String>(&name) {
                variables.set.remove(&format!("{PREFIX}{name}"));
            }
            match variable(&name, &value) {
                Ok(None) => {}
                Ok(Some((_, text))) if text.len() > room => {
                    variables.left_out.push((name, "there is no room for all"));
                }
                Ok(Some((name, text))) => {
                    room -= text.len();
                    variables.set.insert(format!("{PREFIX}{name}"), text);
                }
                Err(why) => variables.left_out.push((name, why)),
            }
        }
        variables
    }

    /// What is left out, in a line for the log; `None` if nothing is.
    pub fn told(&self) -> Option<String> {
        if self.left_out.is_empty() {
            return None;
        }
        let mut line = "on standard input only, and in no variable:".to_owned();
        for (at, (name, why)) in self.left_out.iter().take(NAMED_MAX).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let name = crate::text::head(name, 64);
            let _ = write!(line, "{comma} {name} ({why})");
        }
        if self.left_out.len() > NAMED_MAX {
            line.push_str(", …");
        }
        Some(line)
    }
}

/// The variable of a field, if it has one; the error says why a field that should have one has none.
fn variable(name: &str, value: &str) -> Result<Option<(String, String)>, &'static str> {
    let text = match value.as_bytes() {
        [b'"', ..] => serde_json::from_str(value).map_err(|_| "it is no Unicode text")?,
        b"true" | b"false" | [b'-' | b'0'..=b'9', ..] => value.to_owned(),
        _ => return Ok(None),
    };
    let name: String = serde_json::from_str(name).map_err(|_| "its name is no Unicode text")?;
    if !is_identifier(&name) {
        return Err("its name is no plain identifier");
    }
    if text.contains('\0') {
        return Err("it contains a zero byte");
    }
    if text.len() > VALUE_LEN_MAX {
        return Err("it is longer than 32 KiB");
    }
    Ok(Some((name, text)))
}

fn is_identifier(name: &str) -> bool {
    let plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && !name.is_empty() && name.len() <= 255 && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Names and values of a JSON object, each as the text that it is: what serde can't read of one spoils no other.
struct Fields(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, String)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<Box<RawValue>, Box<RawValue>>()? {
                    fields.push((name.get().to_owned(), value.get().to_owned()));
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(payload: &str) -> Vec<(String, String)> {
        Variables::of(payload.as_bytes()).set.into_iter().collect()
    }

    fn one(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(format!("{PREFIX}{name}"), value.to_owned())]
    }

    #[test]
    fn text_numbers_and_booleans_become_variables() {
        let payload = r#"{"width": 7, "name": "a b", "flag": true, "none": null, "list": [1], "LD_PRELOAD": "/tmp/x.so"}"#;
        let expected = [
            ("POOL_JOB_ARG_LD_PRELOAD", "/tmp/x.so"),
            ("POOL_JOB_ARG_flag", "true"),
            ("POOL_JOB_ARG_name", "a b"),
            ("POOL_JOB_ARG_width", "7"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(set(payload), expected);
        assert_eq!(Variables::of(payload.as_bytes()).told(), None);
        for none in ["[1, 2]", "no JSON at all", "", "{\"a\": 1"] {
            assert_eq!(Variables::of(none.as_bytes()), Variables::default(), "{none}");
        }
    }

    #[test]
    fn a_field_that_can_be_no_variable_is_left_out_alone_and_named() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for (field, told) in [
            (r#""note": "\ud800""#, Some(r#""note" (it is no Unicode text)"#)),
            (
                r#""\udfff": 1"#,
                Some(r#""\udfff" (its name is no Unicode text)"#),
            ),
            (
                r#""PATH=x": "y""#,
                Some(r#""PATH=x" (its name is no plain identifier)"#),
            ),
            (
                r#""1st": "no""#,
                Some(r#""1st" (its name is no plain identifier)"#),
            ),
            (r#""": "no""#, Some(r#""" (its name is no plain identifier)"#)),
            (r#""nul": "a\u0000b""#, Some(r#""nul" (it contains a zero byte)"#)),
            (&format!(r#""deep": {deep}"#), None),
        ] {
            let payload = format!(r#"{{{field}, "dir": "/srv/a"}}"#);
            assert_eq!(set(&payload), one("dir", "/srv/a"), "{field}");
            let said = Variables::of(payload.as_bytes()).told();
            let said = said
                .as_deref()
                .map(|line| line.split_once(": ").map_or("", |(_, rest)| rest));
            assert_eq!(said, told, "{field}");
        }
    }

    #[test]
    fn numbers_keep_their_text() {
        for number in [
            "123456789012345678901",
            "1e400",
            "-0",
            "1.10",
            "0.1234567890123456789",
        ] {
            assert_eq!(set(&format!(r#"{{"n": {number}}}"#)), one("n", number));
        }
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_one_counts() {
        assert_eq!(set(r#"{"a": 1, "a": 2}"#), one("a", "2"));
        assert_eq!(set(r#"{"a": 1, "\u0061": null}"#), []);
    }

    #[test]
    fn variables_stay_within_what_the_kernel_takes() {
        let fields: Vec<String> = (0..100)
            .map(|n| format!("\"a{n}\": \"{}\"", "x".repeat(10_000)))
            .collect();
        let variables = Variables::of(format!("{{{}}}", fields.join(",")).as_bytes());
        let total: usize = variables.set.values().map(String::len).sum();
        assert!(total > VALUES_LEN_MAX / 2 && total <= VALUES_LEN_MAX, "{total}");
        assert_eq!(variables.set.len() + variables.left_out.len(), 100);
        let long = format!(r#"{{"a": "{}", "b": 1}}"#, "x".repeat(VALUE_LEN_MAX + 1));
        assert_eq!(set(&long), one("b", "1"));
    }
}
