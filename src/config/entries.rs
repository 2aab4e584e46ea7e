//! A configuration as a list: path and value of each key. What rules, `check` and reload compare.

use super::keys::{Key, SOCKET, Section, Visit};
use super::scalars::setting::{Setting, bare_or_quoted};
use super::values::{Config, DialectKind};

/// One key of one table, with the value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The table's path, such as `pools.mail`; empty at the top.
    pub table: String,
    /// The key.
    pub key: &'static Key,
    /// The value as a TOML literal.
    pub literal: String,
}

impl Entry {
    /// The key's whole path, such as `pools.mail.max_workers`.
    pub fn path(&self) -> String {
        match self.table.as_str() {
            "" => self.key.name.to_owned(),
            table => format!("{table}.{}", self.key.name),
        }
    }
}

/// All keys in the order of the documentation; secrets are not in the literals.
pub(super) fn all(config: &Config) -> Vec<Entry> {
    // The walk can write, so it gets a copy.
    let mut config = config.clone();
    let mut all = vec![Entry {
        table: String::new(),
        key: SOCKET,
        literal: config.socket.literal(),
    }];
    let mut add = |table: &str, section: &mut dyn Section| {
        let visit: Visit<'_> = &mut |key, setting| {
            all.push(Entry {
                table: table.to_owned(),
                key,
                literal: setting.literal(),
            });
        };
        section.each_key(visit);
    };
    add("broker", &mut config.broker);
    for kind in DialectKind::ALL {
        add(kind.name(), config.broker.dialects.of_mut(*kind));
    }
    add("app", &mut config.app);
    add("supervisor", &mut config.supervisor);
    for (name, pool) in &mut config.pools {
        add(&format!("pools.{}", bare_or_quoted(name.as_str())), pool);
    }
    for (name, task) in &mut config.tasks {
        add(&format!("tasks.{}", bare_or_quoted(name)), task);
    }
    for (name, schedule) in &mut config.schedules {
        add(&format!("schedules.{}", bare_or_quoted(name)), schedule);
    }
    add("metrics", &mut config.metrics);
    add("log", &mut config.log);
    all
}
