//! Keys that do not exist, with the one that was probably meant.

use crate::config::keys::{Section, names_of};
use crate::config::problem::{Origin, Problem};
use crate::config::scalars::raw::{Node, Table};
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::values::{
    AppConfig, BrokerConfig, DialectKind, LogConfig, MetricsConfig, PoolConfig, ScheduleConfig,
    SupervisorConfig, TaskConfig,
};

/// What may stand at the top of the file, beside the dialects.
const TOP: [&str; 10] = [
    "app",
    "broker",
    "defaults",
    "log",
    "metrics",
    "pools",
    "schedules",
    "socket",
    "supervisor",
    "tasks",
];

/// How alike two names must be, from 0 to 1, for one to be a misspelling of the other.
const ALIKE: f64 = 0.75;

/// Problems for the unknown names at the top of the file.
pub(in crate::config) fn at_top(table: &Table) -> Vec<Problem> {
    let dialects = DialectKind::ALL.iter().map(|kind| kind.name());
    let known: Vec<&str> = TOP.into_iter().chain(dialects).collect();
    in_table(table, "", &known)
}

/// Problems for the names of a table that are not among `known`; `path` ends with a dot.
pub(in crate::config) fn in_table(table: &Table, path: &str, known: &[&str]) -> Vec<Problem> {
    let unknown = table.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    unknown
        .map(|(name, node)| problem(name, node, path, known))
        .collect()
}

fn problem(name: &str, node: &Node, path: &str, known: &[&str]) -> Problem {
    let key = format!("{path}{}", bare_or_quoted(name));
    let mut message = format!("unknown key `{key}`");
    let mut hint = None;
    if let Some(meant) = closest(name, known) {
        message.push_str(&format!("; did you mean `{meant}`?"));
    } else if let Some((meant, home)) = elsewhere(name) {
        hint = Some(format!("`{meant}` belongs in {home}"));
    }
    Problem {
        key: key.clone(),
        origin: Origin::File { line: node.line, key },
        message,
        hint,
    }
}

/// The known name that is most like this one, if any is like it at all.
pub(in crate::config) fn closest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name = name.replace('-', "_").to_lowercase();
    let alike = |known: &&&str| strsim::normalized_damerau_levenshtein(&name, known);
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= ALIKE || (name.len() >= 4 && best.starts_with(&name))).then_some(*best)
}

/// The key of another table that has this name, or nearly so, and where it belongs.
fn elsewhere(name: &str) -> Option<(&'static str, &'static str)> {
    let homes: [(&mut dyn Section, &str); 8] = [
        (&mut PoolConfig::default(), "`[defaults]` or `[pools.NAME]`"),
        (&mut BrokerConfig::default(), "`[broker]`"),
        (&mut AppConfig::default(), "`[app]`"),
        (&mut LogConfig::default(), "`[log]`"),
        (&mut MetricsConfig::default(), "`[metrics]`"),
        (&mut TaskConfig::default(), "`[tasks.NAME]`"),
        (&mut SupervisorConfig::default(), "`[supervisor]`"),
        (&mut ScheduleConfig::default(), "`[schedules.NAME]`"),
    ];
    homes
        .into_iter()
        .find_map(|(section, home)| Some((closest(name, &names_of(section))?, home)))
}
