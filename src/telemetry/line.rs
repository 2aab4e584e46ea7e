//! One log line, as text for people or as JSON for machines.
//!
//! Fields carry their unit in their name (`window_s`), and machines read them so. People read the
//! unit beside the value: in text `window_s=30.0` becomes `window=30s`, a pair `workers=3
//! workers_to=4` becomes `workers=3→4`, and fractions have two digits.

use std::fmt::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};
use tracing::Level;
use tracing::field::{Field, Visit};

use crate::text::{escaped_json, steers_terminal};
use crate::time::{Human, Unix, seconds_to_duration};

/// The field of several lines: a traceback.
const DETAIL: &str = "detail";

/// An event with its fields, in the order in which the code names them.
#[derive(Debug)]
pub(super) struct Line {
    /// When.
    pub at: Unix,
    /// How grave.
    pub level: Level,
    /// The module that speaks.
    pub target: String,
    /// The sentence.
    pub message: String,
    /// The rest.
    pub fields: Vec<(&'static str, Value)>,
}

/// A field's value.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Int(i128),
    Float(f64),
    Bool(bool),
}

impl Line {
    /// An event's line; `at` is now.
    pub fn of(event: &tracing::Event<'_>, at: Unix) -> Self {
        let metadata = event.metadata();
        let mut line = Line {
            at,
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut line);
        line
    }

    /// For people: `2026-03-01T09:05:00.250Z INFO scaled up pool=default workers=3→4`. The lines of a field `detail`
    /// stand below, indented; there is no other line break.
    pub fn text(&self, colored: bool) -> String {
        let mut text = self.at.to_string();
        let (on, off) = if colored {
            (color(self.level), "\x1b[0m")
        } else {
            ("", "")
        };
        let _ = write!(text, " {on}{}{off} ", self.level);
        push_escaped(&mut text, &self.message, false);
        let mut fields = self.fields.iter().peekable();
        let mut below = "";
        while let Some((name, value)) = fields.next() {
            if let (&DETAIL, Value::Text(detail)) = (name, value) {
                below = detail;
                continue;
            }
            let (name, value) = for_people(name, value);
            let _ = write!(text, " {name}={value}");
            let is_change = |next: &&(&str, Value)| next.0.strip_suffix("_to") == Some(name);
            if let Some((_, to)) = fields.next_if(is_change) {
                let _ = write!(text, "→{}", plain(to));
            }
        }
        for line in below.lines() {
            text.push_str("\n    ");
            push_escaped(&mut text, line, false);
        }
        text
    }

    /// For machines, without a line break: one flat object.
    pub fn json(&self) -> String {
        let json = serde_json::to_string(self).expect("text keys and plain values");
        escaped_json(&json).into_owned()
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &self.at.to_string())?;
        map.serialize_entry("level", self.level.as_str())?;
        map.serialize_entry("target", &self.target)?;
        map.serialize_entry("message", &self.message)?;
        for (name, value) in &self.fields {
            match value {
                Value::Text(text) => map.serialize_entry(name, text)?,
                Value::Int(int) => map.serialize_entry(name, int)?,
                Value::Float(float) => map.serialize_entry(name, float)?,
                Value::Bool(bool) => map.serialize_entry(name, bool)?,
            }
        }
        map.end()
    }
}

impl Line {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, Value::Text(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Int(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Int(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }
}

/// Name and value with the unit moved from the one to the other.
fn for_people<'a>(name: &'a str, value: &Value) -> (&'a str, String) {
    let seconds = match value {
        Value::Float(seconds) => Some(*seconds),
        Value::Int(seconds) => Some(*seconds as f64),
        Value::Text(_) | Value::Bool(_) => None,
    };
    match (name.strip_suffix("_s"), seconds.map(seconds_to_duration)) {
        (Some(name), Some(Ok(duration))) => (name, Human(duration).to_string()),
        _ => (name, plain(value)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Int(int) => int.to_string(),
        Value::Float(float) => format!("{float:.2}"),
        Value::Bool(bool) => bool.to_string(),
    }
}

/// The text itself when it reads as one word, else in quotes.
fn quoted(text: &str) -> String {
    let is_odd = |c: char| c.is_whitespace() || steers_terminal(c) || matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && !text.contains(is_odd) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    push_escaped(&mut quoted, text, true);
    quoted.push('"');
    quoted
}

/// Appends `text` so that it stays on its line and steers no terminal.
fn push_escaped(onto: &mut String, text: &str, in_quotes: bool) {
    for c in text.chars() {
        match c {
            '"' | '\\' if in_quotes => onto.extend(['\\', c]),
            c if steers_terminal(c) => onto.extend(c.escape_default()),
            c => onto.push(c),
        }
    }
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str, fields: Vec<(&'static str, Value)>) -> Line {
        Line {
            at: Unix(1_772_355_900_250),
            level: Level::INFO,
            target: "pool::supervisor".into(),
            message: message.into(),
            fields,
        }
    }

    fn scaled_up() -> Line {
        let fields = vec![
            ("pool", Value::Text("default".into())),
            ("workers", Value::Int(3)),
            ("workers_to", Value::Int(4)),
            ("utilization", Value::Float(0.6204)),
            ("threshold", Value::Float(0.5)),
            ("window_s", Value::Float(30.0)),
            ("waiting", Value::Int(12)),
        ];
        line("scaled up", fields)
    }

    #[test]
    fn text_reads_as_the_documented_line() {
        let text = scaled_up().text(false);
        let expected = "2026-03-01T09:05:00.250Z INFO scaled up pool=default workers=3→4 \
                        utilization=0.62 threshold=0.50 window=30s waiting=12";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_detail_stands_below_its_line() {
        let fields = vec![
            ("detail", Value::Text("Traceback:\n  File \"a.py\"\x1b\n".into())),
            ("job", Value::Text("j1".into())),
        ];
        let line = line("job failed", fields);
        let text = line.text(false);
        assert!(
            text.ends_with("job failed job=j1\n    Traceback:\n      File \"a.py\"\\u{1b}"),
            "{text}"
        );
        assert!(!line.json().contains('\n'), "{}", line.json());
    }

    #[test]
    fn json_keeps_the_numbers_and_their_units() {
        let expected = r#"{"timestamp":"2026-03-01T09:05:00.250Z","level":"INFO","target":"pool::supervisor","message":"scaled up","pool":"default","workers":3,"workers_to":4,"utilization":0.6204,"threshold":0.5,"window_s":30.0,"waiting":12}"#;
        assert_eq!(scaled_up().json(), expected);
    }

    #[test]
    fn a_value_that_is_no_word_is_quoted() {
        let fields = vec![
            ("reason", Value::Text("no \"such\" file".into())),
            ("url", Value::Text("sqlite:/tmp/jobs.db".into())),
            ("job", Value::Text(String::new())),
        ];
        let text = line("lost", fields).text(false);
        assert!(
            text.ends_with(r#"lost reason="no \"such\" file" url=sqlite:/tmp/jobs.db job="""#),
            "{text}"
        );
    }

    #[test]
    fn nothing_that_a_job_prints_breaks_the_line_or_steers_the_terminal() {
        let fields = vec![
            ("x", Value::Text("a\r\0b".into())),
            ("y", Value::Text("\u{9b}\u{202e}".into())),
        ];
        let hostile = line("one\ntwo\x1b[2J", fields);
        let text = hostile.text(false);
        let expected = r#"one\ntwo\u{1b}[2J x="a\r\u{0}b" y="\u{9b}\u{202e}""#;
        assert!(text.ends_with(expected), "{text}");
        assert!(!hostile.json().contains(steers_terminal), "{}", hostile.json());
    }

    #[test]
    fn a_nonsensical_duration_is_shown_as_it_is() {
        let text = line("odd", vec![("wait_s", Value::Float(-1.0))]).text(false);
        assert!(text.ends_with("odd wait_s=-1.00"), "{text}");
    }
}
