//! `[schedules.NAME]`: cron expressions, time zones, limits, arguments.

use serde_json::Value as Json;

use super::raw::{Node, Value};
use super::setting::{Atom, Base, Expected, Given, Scalar, Setting, Wrong, describe, quoted};
use super::words;
use crate::broker::Overlap;
use crate::config::values::Arguments;
use crate::job::Limit;
use crate::policy::schedule::{CatchUp, Expression};
use crate::policy::zone::Zone;

const ARGUMENTS_EXPECTED: &str =
    "an array such as `[\"a\", 1]`, a table such as `{ name = \"a\" }`, or a string that holds JSON";

words!(CatchUp: "none" => None, "last" => Last, "all" => All);
words!(Overlap: "skip" => Skip, "queue" => Queue, "allow" => Allow);

impl Scalar for Expression {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let expected = "a cron expression such as \"30 2 * * mon-fri\"";
        let text = atom.text().ok_or(expected)?;
        Expression::parse(text).map_err(|why| format!("{expected} ({why})").into())
    }
    fn print(&self) -> String {
        quoted(self.as_str())
    }
}

impl Scalar for Zone {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let zone = atom.text().and_then(Zone::named);
        zone.ok_or("the name of a time zone such as \"Europe/Berlin\" or \"UTC\"".into())
    }
    fn print(&self) -> String {
        quoted(&self.name)
    }
}

impl Scalar for Limit {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let limit = atom.text().and_then(|text| text.parse().ok());
        limit.ok_or("a key and how many jobs with it run at once, such as \"db=3\"".into())
    }
    fn print(&self) -> String {
        quoted(&format!("{}={}", self.key, self.max))
    }
}

/// Written as TOML, or as a string that holds JSON: only that knows null.
impl Setting for Arguments {
    fn set(&mut self, given: Given<'_>, _: &Base) -> Result<(), Vec<Wrong>> {
        let (line, found, json) = match given {
            Given::Words(words) => (
                None,
                "words".to_owned(),
                words.last().and_then(|word| checked(word)),
            ),
            Given::Variable(word) => (None, "a word".to_owned(), checked(word)),
            Given::Node(node) => (
                Some(node.line),
                describe(&node.value, str::to_owned),
                written(node),
            ),
        };
        let wrong = Wrong {
            item: String::new(),
            line,
            found,
            expected: ARGUMENTS_EXPECTED.into(),
        };
        self.0 = json.ok_or_else(|| vec![wrong])?;
        Ok(())
    }

    fn literal(&self) -> String {
        quoted(&self.0)
    }
}

fn written(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => checked(text),
        Value::Array(_) | Value::Table(_) => Some(json(node)?.to_string()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) => None,
    }
}

/// The text if it is JSON, or empty.
fn checked(text: &str) -> Option<String> {
    let text = text.trim();
    let is_json = text.is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    is_json.then(|| text.to_owned())
}

/// A value of TOML as JSON; `None`: there is something in it that JSON has not.
fn json(node: &Node) -> Option<Json> {
    Some(match &node.value {
        Value::String(text) => Json::from(text.as_str()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::Number(serde_json::Number::from_f64(*number)?),
        Value::Boolean(yes) => Json::from(*yes),
        Value::Array(items) => Json::Array(items.iter().map(json).collect::<Option<_>>()?),
        Value::Table(table) => {
            let entry = |(name, node): (&String, &Node)| Some((name.clone(), json(node)?));
            Json::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
        Value::Other(_) => return None,
    })
}
