//! One setting of one type: how it is read from a flag, a variable or TOML, and how it is printed.
//!
//! A type that a key may have is one `impl Scalar`, see `mod.rs`; "none", lists and tables build on them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::raw::{Node, Value};
use crate::sys::cpu::Processors;

/// What stands for "no limit" where a key may have none; TOML has no null.
pub(in crate::config) const NONE: &str = "none";

/// A field of the configuration, as its key sees it.
pub(in crate::config) trait Setting {
    /// Replaces the value by the one that was given.
    fn set(&mut self, given: Given<'_>, base: &Base) -> Result<(), Vec<Wrong>>;

    /// The value as a TOML literal that `set` reads back.
    fn literal(&self) -> String;

    /// How the flag takes it.
    fn arity(&self) -> Arity {
        Arity::One
    }
}

/// How many values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Arity {
    /// One.
    One,
    /// One each time; may be repeated.
    Many,
    /// `--flag` or `--flag=false`.
    Switch,
}

/// A value as it was given.
#[derive(Clone, Copy)]
pub(in crate::config) enum Given<'a> {
    /// The texts of a flag, each one value: nothing in them separates.
    Words(&'a [String]),
    /// The text of a variable. It holds a list's values with commas between, since it can't be repeated.
    Variable(&'a str),
    /// A value of the file.
    Node(&'a Node),
}

/// What values are relative to: paths, and numbers of workers.
#[derive(Clone, Debug)]
pub(in crate::config) struct Base {
    /// The file's directory, or the current one for flags and variables.
    pub directory: PathBuf,
    /// What `~/` stands for.
    pub home: Option<PathBuf>,
    /// What `max_workers` may follow.
    pub processors: Processors,
}

impl Base {
    /// The path, made absolute.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.directory.join(path),
        }
    }
}

/// Why a value can't be used: found, expected, and where in a list or table.
#[derive(Debug)]
pub(in crate::config) struct Wrong {
    /// Which item, such as `[2]` or `.NAME`; empty for the whole value.
    pub item: String,
    /// The item's line, when it is known.
    pub line: Option<usize>,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: Cow<'static, str>,
}

/// One value without parts.
#[derive(Clone, Copy)]
pub(in crate::config) enum Atom<'a> {
    /// Text that stands for a value of any type: a flag's or a variable's.
    Word(&'a str),
    /// A value of the file.
    Toml(&'a Value),
}

impl<'a> Atom<'a> {
    /// The text, where only text will do.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Atom::Word(text) => Some(text),
            Atom::Toml(Value::String(text)) => Some(text),
            Atom::Toml(_) => None,
        }
    }

    /// The text, where it may be handed to a program. `what`: what is expected.
    pub fn text_for_programs(self, what: &'static str) -> Result<&'a str, Expected> {
        match self.text() {
            Some(text) if text.contains('\0') => Err(format!("{what} without a NUL character").into()),
            Some(text) => Ok(text),
            None => Err(what.into()),
        }
    }

    /// The number, where only a whole one will do.
    pub fn integer(self) -> Option<i64> {
        match self {
            Atom::Word(text) => text.trim().parse().ok(),
            Atom::Toml(Value::Integer(number)) => Some(*number),
            Atom::Toml(_) => None,
        }
    }

    /// The number.
    pub fn number(self) -> Option<f64> {
        match self {
            Atom::Word(text) => text.trim().parse().ok(),
            Atom::Toml(Value::Integer(number)) => Some(*number as f64),
            Atom::Toml(Value::Float(number)) => Some(*number),
            Atom::Toml(_) => None,
        }
    }

    /// What is wrong with it, if this was expected.
    pub(super) fn unlike(self, expected: &'static str) -> Wrong {
        Wrong {
            item: String::new(),
            line: None,
            found: self.describe(str::to_owned),
            expected: expected.into(),
        }
    }

    /// What stands there, for messages; `text` may hide a secret.
    fn describe(self, text: impl Fn(&str) -> String) -> String {
        match self {
            Atom::Word(word) => format!("{:?}", text(word)),
            Atom::Toml(value) => describe(value, text),
        }
    }
}

/// What stands there, for messages: `the string "x"`, `5`, `an array` …
pub(in crate::config) fn describe(value: &Value, text: impl Fn(&str) -> String) -> String {
    match value {
        Value::String(string) => format!("the string {:?}", text(string)),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(yes) => yes.to_string(),
        Value::Array(_) => "an array".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::Other(text) => text.clone(),
    }
}

/// What should stand there, as the end of a sentence.
pub(in crate::config) type Expected = Cow<'static, str>;

/// A value without parts: a number, a word, a path.
pub(in crate::config) trait Scalar: Sized {
    /// Reads it; the error says what was expected.
    fn read(atom: Atom<'_>, base: &Base) -> Result<Self, Expected>;
    /// As a TOML literal.
    fn print(&self) -> String;
    /// How its flag takes it.
    const ARITY: Arity = Arity::One;
    /// A text that was meant as one, as messages may show it.
    fn shown(text: &str) -> String {
        text.to_owned()
    }
}

fn read<T: Scalar>(atom: Atom<'_>, base: &Base) -> Result<T, Wrong> {
    T::read(atom, base).map_err(|expected| Wrong {
        item: String::new(),
        line: None,
        found: atom.describe(T::shown),
        expected,
    })
}

pub(super) fn atom_of<'a>(given: Given<'a>) -> Atom<'a> {
    match given {
        Given::Words(words) => Atom::Word(words.last().map_or("", String::as_str)),
        Given::Variable(word) => Atom::Word(word),
        Given::Node(node) => Atom::Toml(&node.value),
    }
}

impl<T: Scalar> Setting for T {
    fn set(&mut self, given: Given<'_>, base: &Base) -> Result<(), Vec<Wrong>> {
        *self = read(atom_of(given), base).map_err(|wrong| vec![wrong])?;
        Ok(())
    }

    fn literal(&self) -> String {
        self.print()
    }

    fn arity(&self) -> Arity {
        T::ARITY
    }
}

impl<T: Scalar> Setting for Option<T> {
    fn set(&mut self, given: Given<'_>, base: &Base) -> Result<(), Vec<Wrong>> {
        let atom = atom_of(given);
        *self = match atom.text() {
            Some(NONE) => None,
            _ => Some(read(atom, base).map_err(|wrong: Wrong| {
                vec![Wrong {
                    expected: format!("{} or {NONE:?}", wrong.expected).into(),
                    ..wrong
                }]
            })?),
        };
        Ok(())
    }

    fn literal(&self) -> String {
        self.as_ref().map_or_else(|| quoted(NONE), T::print)
    }
}

impl<T: Scalar> Setting for Vec<T> {
    fn set(&mut self, given: Given<'_>, base: &Base) -> Result<(), Vec<Wrong>> {
        let items: Vec<Result<T, Wrong>> = match given {
            Given::Words(words) => {
                let items = words.iter();
                items.map(|item| read(Atom::Word(item), base)).collect()
            }
            Given::Variable(word) => {
                let items = word.split(',');
                items.map(|item| read(Atom::Word(item.trim()), base)).collect()
            }
            Given::Node(Node {
                value: Value::Array(items),
                ..
            }) => {
                let item = |(at, node): (usize, &Node)| {
                    read(Atom::Toml(&node.value), base).map_err(|wrong| Wrong {
                        item: format!("[{at}]"),
                        line: Some(node.line),
                        ..wrong
                    })
                };
                items.iter().enumerate().map(item).collect()
            }
            Given::Node(node) => return Err(vec![not_a("an array such as `[\"a\", \"b\"]`", node)]),
        };
        *self = all_or_wrongs(items)?;
        Ok(())
    }

    fn literal(&self) -> String {
        let items: Vec<String> = self.iter().map(T::print).collect();
        format!("[{}]", items.join(", "))
    }

    fn arity(&self) -> Arity {
        Arity::Many
    }
}

/// Environment variables to add: a table of strings.
impl Setting for BTreeMap<String, String> {
    fn set(&mut self, given: Given<'_>, _base: &Base) -> Result<(), Vec<Wrong>> {
        let expected = "a table such as `{ NAME = \"value\" }`";
        let table = match given {
            Given::Node(Node {
                value: Value::Table(table),
                ..
            }) => table,
            Given::Node(node) => return Err(vec![not_a(expected, node)]),
            Given::Words(_) | Given::Variable(_) => {
                let words = atom_of(given).text().unwrap_or_default();
                let found = format!("{words:?}");
                let expected = expected.into();
                return Err(vec![Wrong {
                    item: String::new(),
                    line: None,
                    found,
                    expected,
                }]);
            }
        };
        let variable = |(name, node): (&String, &Node)| {
            let wrong = |found: String, expected: Expected| Wrong {
                item: format!(".{}", bare_or_quoted(name)),
                line: Some(node.line),
                found,
                expected,
            };
            match &node.value {
                _ if name.is_empty() || name.contains(['=', '\0']) => Err(wrong(
                    "no name of a variable".to_owned(),
                    "a name without `=`".into(),
                )),
                value => {
                    let text = Atom::Toml(value).text_for_programs("a string");
                    text.map(|text| (name.clone(), text.to_owned()))
                        .map_err(|expected| wrong(describe(value, str::to_owned), expected))
                }
            }
        };
        *self = all_or_wrongs(table.iter().map(variable))?;
        Ok(())
    }

    fn literal(&self) -> String {
        if self.is_empty() {
            return "{}".to_owned();
        }
        let entries: Vec<String> = self
            .iter()
            .map(|(name, value)| format!("{} = {}", bare_or_quoted(name), quoted(value)))
            .collect();
        format!("{{ {} }}", entries.join(", "))
    }
}

/// All items, or everything that is wrong with some.
pub(super) fn all_or_wrongs<T, C: FromIterator<T>>(
    items: impl IntoIterator<Item = Result<T, Wrong>>,
) -> Result<C, Vec<Wrong>> {
    let mut wrongs = Vec::new();
    let good = items
        .into_iter()
        .filter_map(|item| item.map_err(|wrong| wrongs.push(wrong)).ok())
        .collect();
    if wrongs.is_empty() { Ok(good) } else { Err(wrongs) }
}

fn not_a(expected: &'static str, node: &Node) -> Wrong {
    Wrong {
        item: String::new(),
        line: None,
        found: describe(&node.value, str::to_owned),
        expected: expected.into(),
    }
}

/// A TOML string.
pub(in crate::config) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A TOML key.
pub(in crate::config) fn bare_or_quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}
