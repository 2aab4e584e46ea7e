//! What rules are written with: the values in force, where they come from, and what was found. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::problem::{Origin, Problem};
use super::values::RuntimeKind;

/// Longest timeout of a job in the settings: more is a slip of the finger.
const TIMEOUT_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// The settings as the rules see them, and what they found.
pub(super) struct Rules<'a> {
    /// Each value in force as a TOML literal, by path.
    pub(super) literals: BTreeMap<String, String>,
    pub(super) origins: &'a BTreeMap<String, Origin>,
    /// Keys whose values could not be read: no rule is tried on them.
    pub(super) bad: &'a BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
    /// A pool that names no queue serves those of the application.
    pub(super) app_names_queues: bool,
}

impl Rules<'_> {
    /// One key's own rule.
    pub(super) fn value(&mut self, path: &str, ok: bool, expected: &str) {
        if ok || self.bad.contains(path) {
            return;
        }
        let name = self.origin(path).name(path);
        self.add(
            path,
            format!("`{name}` is {}; expected {expected}", self.shown(path)),
            "",
        );
    }

    /// One item of a list.
    pub(super) fn text(&mut self, path: &str, item: &str, ok: bool, expected: &str) {
        if ok {
            return;
        }
        let name = self.origin(path).name(path);
        self.add(path, format!("`{name}` holds {item:?}; expected {expected}"), "");
    }

    /// Two keys that must fit; the problem stands where the stronger one was set.
    pub(super) fn pair(&mut self, path: &str, ok: bool, relation: &str, other: &str, hint: &str) {
        if ok || self.bad.contains(path) || self.bad.contains(other) {
            return;
        }
        let (origin, other_origin) = (self.origin(path), self.origin(other));
        let by_default = |origin: &Origin| {
            if *origin == Origin::Default {
                " by default"
            } else {
                ""
            }
        };
        let message = format!(
            "`{}` is {}{}, {relation} `{}`, which is {}{}",
            origin.name(path),
            self.shown(path),
            by_default(origin),
            other_origin.name(other),
            self.shown(other),
            by_default(other_origin),
        );
        let stronger = if origin >= other_origin { path } else { other };
        self.add(stronger, message, hint);
    }

    pub(super) fn positive(&mut self, path: &str, time: Duration) {
        self.value(path, time > Duration::ZERO, "more than 0s");
    }

    pub(super) fn timeout(&mut self, path: &str, timeout: Option<Duration>) {
        self.value(
            path,
            timeout.is_none_or(|time| time <= TIMEOUT_MAX),
            "36500 days or less, or \"none\"",
        );
    }

    /// A key that was set although only other runtimes know it: it would be ignored.
    pub(super) fn only_for(
        &mut self,
        path: &str,
        default: &str,
        runtime: RuntimeKind,
        known_to: &[RuntimeKind],
    ) {
        if known_to.contains(&runtime) || self.literal(path) == default || self.bad.contains("app.runtime") {
            return;
        }
        let names: Vec<&str> = known_to.iter().map(|kind| kind.name()).collect();
        let runtimes = if names.len() > 1 { "runtimes" } else { "runtime" };
        let message = format!(
            "`{}` is only for the {} {runtimes}; the runtime is {}",
            self.origin(path).name(path),
            listed(&names, "and", ""),
            runtime.name()
        );
        let hint = match self.origin(path) {
            Origin::Flag(flag) => {
                let flags: Vec<String> = names.iter().map(|name| format!("--runtime {name}")).collect();
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                format!("use {}, or leave `{flag}` out", listed(&flags, "or", "`"))
            }
            _ => format!(
                "set `app.runtime` to {}, or leave the key out",
                listed(&names, "or", "\"")
            ),
        };
        self.add(path, message, &hint);
    }

    pub(super) fn add(&mut self, path: &str, message: String, hint: &str) {
        self.problems.push(Problem {
            key: path.to_owned(),
            origin: self.origin(path).clone(),
            message,
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }

    pub(super) fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }

    /// Whether somebody said something about the key.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    /// Whether the key's value could not be read.
    pub(super) fn is_bad(&self, path: &str) -> bool {
        self.bad.contains(path)
    }

    pub(super) fn literal(&self, path: &str) -> &str {
        self.literals.get(path).map_or("", String::as_str)
    }

    /// The value for a message: times and sizes without the quotes that TOML wants.
    fn shown(&self, path: &str) -> &str {
        let literal = self.literal(path);
        let unquoted = literal.trim_matches('"');
        if unquoted.starts_with(|c: char| c.is_ascii_digit()) {
            unquoted
        } else {
            literal
        }
    }
}

/// `a, b and c`, each between quotes.
fn listed(names: &[&str], word: &str, quote: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{quote}{name}{quote}")).collect();
    match names.split_last() {
        Some((last, first @ [_, ..])) => format!("{} {word} {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// A dotted Python name: identifiers with dots between.
pub(super) fn is_dotted(name: &str) -> bool {
    name.split('.').all(|part| {
        let starts = part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
        starts && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}
