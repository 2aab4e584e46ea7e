//! What differs between two configurations, and what it takes to put each difference in force. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::entries::{self, Entry};
use super::values::Config;

/// What it takes to put a changed setting in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: pools take it as they run.
    Live,
    /// The application is loaded again, in a new generation of workers.
    Generation,
    /// The supervisor has to be restarted; until then the old value stays in force.
    Restart,
}

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path, such as `pools.mail.max_workers`.
    pub key: String,
    /// The old value as TOML, without secrets; `None`: its table is new.
    pub from: Option<String>,
    /// The new value as TOML, without secrets; `None`: its table is gone.
    pub to: Option<String>,
    /// What it takes.
    pub effect: Effect,
}

/// `pools.mail.max_workers 5 → 8`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        write!(f, "{} {} → {}", self.key, shown(&self.from), shown(&self.to))
    }
}

/// Every setting that differs, in the order of their paths.
pub fn reload_changes(old: &Config, new: &Config) -> Vec<Change> {
    let (mut old, new) = (by_path(old), by_path(new));
    let mut changes = Vec::new();
    for (path, entry) in new {
        let before = old.remove(&path).map(|entry| entry.literal);
        if before.as_ref() != Some(&entry.literal) {
            changes.push(change(path, before, Some(entry.literal)));
        }
    }
    changes.extend(
        old.into_iter()
            .map(|(path, entry)| change(path, Some(entry.literal), None)),
    );
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn by_path(config: &Config) -> BTreeMap<String, Entry> {
    entries::all(config)
        .into_iter()
        .map(|entry| (entry.path(), entry))
        .collect()
}

fn change(key: String, from: Option<String>, to: Option<String>) -> Change {
    let effect = effect(&key);
    Change {
        key,
        from,
        to,
        effect,
    }
}

fn effect(key: &str) -> Effect {
    let (table, name) = (
        key.split('.').next().unwrap_or(key),
        key.rsplit('.').next().unwrap_or(key),
    );
    match (table, name) {
        // They were opened at the start.
        ("supervisor", "pid_file" | "history") => Effect::Restart,
        ("pools" | "supervisor" | "schedules", _)
        | ("tasks", "timeout" | "retries" | "batch_size" | "batch_linger" | "batch_split") => Effect::Live,
        // The template carries them, and workers are its copies.
        ("app" | "tasks", _) => Effect::Generation,
        _ => Effect::Restart,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load_from;
    use super::*;

    fn changes(old: &str, new: &str) -> Vec<String> {
        let old = load_from(old, &[], &["--socket", "/run/a.sock"]).unwrap();
        let new = load_from(new, &[], &["--socket", "/run/a.sock"]).unwrap();
        let shown = |change: Change| format!("{:?}: {change}", change.effect);
        reload_changes(&old, &new).into_iter().map(shown).collect()
    }

    #[test]
    fn limits_change_live_the_application_by_a_generation_the_broker_by_a_restart() {
        let old = "[broker]\nurl = 'sqlite:/a.db'\n[app]\nruntime = 'command'\n[tasks.x]\ncommand = ['x']\n";
        let new = "[broker]\nurl = 'sqlite:/b.db'\n[app]\nruntime = 'command'\nhuge_pages = false\n\
                   [tasks.x]\ncommand = ['y']\ntimeout = 5\n[defaults]\nmax_workers = 8\n";
        assert_eq!(
            changes(old, new),
            [
                "Generation: app.huge_pages true → false",
                "Restart: broker.url \"sqlite:/a.db\" → \"sqlite:/b.db\"",
                "Live: pools.default.max_workers 5 → 8",
                "Generation: tasks.x.command [\"x\"] → [\"y\"]",
                "Live: tasks.x.timeout \"none\" → \"5s\"",
            ]
        );
    }

    #[test]
    fn pools_that_come_and_go_are_changes_of_all_their_keys() {
        let changes = changes("[pools.mail]\n", "[pools.web]\n");
        assert!(
            changes.contains(&"Live: pools.mail.max_workers 5 → (none)".to_owned()),
            "{changes:?}"
        );
        assert!(
            changes.contains(&"Live: pools.web.max_workers (none) → 5".to_owned()),
            "{changes:?}"
        );
    }

    #[test]
    fn the_same_settings_differ_in_nothing() {
        assert_eq!(
            changes("[defaults]\nretries = 1\n", "[pools.default]\nretries = 1\n"),
            [] as [String; 0]
        );
    }
}
