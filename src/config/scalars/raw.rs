//! The settings as they were written: the file's tree with the line of each key, before any
//! meaning is given to it.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table of the file.
pub(in crate::config) type Table = BTreeMap<String, Node>;

/// A value and the line where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct Node {
    /// From 1; a table's is its header's.
    pub line: usize,
    /// What is written there.
    pub value: Value,
}

/// What can be written in TOML, less what no setting needs.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// A date, or a number that does not fit; as text.
    Other(String),
}

/// A line of the file that is not TOML.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::config) struct SyntaxError {
    pub line: usize,
    pub message: String,
}

/// Reads a TOML document as far as it can be read, and every syntax error in it.
pub(in crate::config) fn parse(text: &str) -> (Table, Vec<SyntaxError>) {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors.iter().map(|error| SyntaxError {
        line: lines.at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    });
    (lines.table(table.get_ref()), errors.collect())
}

/// The offsets at which lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(after_breaks).collect())
    }

    /// The number of the line, from 1, that holds this byte.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |(key, value): (&Spanned<_>, &Spanned<_>)| {
            let node = Node {
                line: self.at(key.span().start),
                value: self.value(value.get_ref()),
            };
            (String::from(std::borrow::Cow::<str>::clone(key.get_ref())), node)
        };
        table.iter().map(entry).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Other(number.to_string()), Value::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or_else(|_| Value::Other(number.to_string()), Value::Float),
            DeValue::Boolean(yes) => Value::Boolean(*yes),
            DeValue::Datetime(date) => Value::Other(date.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| Node {
                        line: self.at(item.span().start),
                        value: self.value(item.get_ref()),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_knows_its_line() {
        let (table, errors) = parse("a = 1\n\n[b]\nc = [\n  'x',\n  'y',\n]\n");
        assert_eq!(errors, []);
        assert_eq!(table["a"].line, 1);
        assert_eq!(table["b"].line, 3);
        let Value::Table(b) = &table["b"].value else {
            panic!("{table:?}")
        };
        assert_eq!(b["c"].line, 4);
        let Value::Array(items) = &b["c"].value else {
            panic!("{b:?}")
        };
        assert_eq!(
            items[1],
            Node {
                line: 6,
                value: Value::String("y".into())
            }
        );
    }

    #[test]
    fn every_syntax_error_is_found() {
        let (_, errors) = parse("a = \nb = 1\nb = 2\nc = 'x\n");
        let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 3, 4], "{errors:?}");
    }
}
