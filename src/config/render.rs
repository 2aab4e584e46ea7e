//! The settings in force, as TOML that reads back, with where each one comes from.

use std::fmt::Write;

use super::entries;
use super::explained::Explained;
use super::problem::Origin;
use super::values::{DialectKind, Protocol};

impl Explained {
    /// Every setting as TOML, each with its origin as a comment; secrets are left out.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = String::new();
        let entries = entries::all(&self.config);
        let is_set = |table: &str| {
            let mut of_table = entries.iter().filter(|entry| entry.table == table);
            of_table.any(|entry| !matches!(self.origin(&entry.path()), Origin::Default))
        };
        for entry in &entries {
            if self.is_unspoken(&entry.table) && !is_set(&entry.table) {
                continue;
            }
            if entry.table != table {
                table.clone_from(&entry.table);
                let _ = write!(text, "\n[{table}]\n");
            }
            let setting = format!("{} = {}", entry.key.name, entry.literal);
            let origin = self.shown(self.origin(&entry.path()));
            let _ = writeln!(text, "{setting:<38} # {origin}");
        }
        text
    }

    /// The settings that somebody set, as a file that says the same; a password is left out.
    pub fn to_file(&self) -> String {
        let mut text = String::new();
        let mut table = String::new();
        for entry in entries::all(&self.config) {
            if *self.origin(&entry.path()) == Origin::Default {
                continue;
            }
            if entry.table != table {
                table.clone_from(&entry.table);
                let _ = writeln!(text, "{}[{table}]", if text.is_empty() { "" } else { "\n" });
            }
            let secret = if entry.literal.contains("***") {
                " # put the login in place of ***"
            } else {
                ""
            };
            let _ = writeln!(text, "{} = {}{secret}", entry.key.name, entry.literal);
        }
        text
    }

    /// Whether this is the table of a dialect that the broker does not speak.
    fn is_unspoken(&self, table: &str) -> bool {
        DialectKind::named(table).is_some_and(|kind| self.config.broker.protocol != Protocol::Dialect(kind))
    }

    fn shown(&self, origin: &Origin) -> String {
        match (origin, &self.config.file) {
            (Origin::Default, _) => "default".to_owned(),
            (Origin::Settings { name, module }, _) => match module {
                Some(module) => format!("{name} of {module}"),
                None => format!("environment {name}"),
            },
            (Origin::File { line, .. }, Some(file)) => format!("{}:{line}", file.display()),
            (Origin::File { line, .. }, None) => format!("line {line}"),
            (Origin::Environment(name), _) => format!("environment {name}"),
            (Origin::Flag(flag), _) => format!("flag {flag}"),
        }
    }
}
