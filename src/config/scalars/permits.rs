//! `permits`: a table of counts.

use std::num::NonZeroU32;

use super::raw::{Node, Value};
use super::setting::{Base, Given, Setting, Wrong, all_or_wrongs, bare_or_quoted, describe};
use crate::policy::permits::Permits;

const EXPECTED: &str = "a table of numbers such as `{ database = 40 }`";

impl Setting for Permits {
    fn set(&mut self, given: Given<'_>, _: &Base) -> Result<(), Vec<Wrong>> {
        let wrong = |item: String, node: Option<&Node>, expected: &'static str| Wrong {
            item,
            line: node.map(|node| node.line),
            found: node.map_or("a word".to_owned(), |node| describe(&node.value, str::to_owned)),
            expected: expected.into(),
        };
        let table = match given {
            Given::Node(Node {
                value: Value::Table(table),
                ..
            }) => table,
            Given::Node(node) => return Err(vec![wrong(String::new(), Some(node), EXPECTED)]),
            Given::Words(_) | Given::Variable(_) => return Err(vec![wrong(String::new(), None, EXPECTED)]),
        };
        let count = |(kind, node): (&String, &Node)| {
            let count = match &node.value {
                Value::Integer(count) => u32::try_from(*count).ok().and_then(NonZeroU32::new),
                _ => None,
            };
            let item = format!(".{}", bare_or_quoted(kind));
            if kind.trim().is_empty() {
                return Err(wrong(item, Some(node), "a name before `=`"));
            }
            let expected = "a whole number from 1 to 4294967295";
            count
                .map(|count| (kind.clone(), count))
                .ok_or_else(|| wrong(item, Some(node), expected))
        };
        self.0 = all_or_wrongs(table.iter().map(count))?;
        Ok(())
    }

    fn literal(&self) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        let entries = self.0.iter();
        let entries: Vec<String> = entries
            .map(|(kind, count)| format!("{} = {count}", bare_or_quoted(kind)))
            .collect();
        format!("{{ {} }}", entries.join(", "))
    }
}
