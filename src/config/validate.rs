//! Flags, variables and the file's tree become one [`Config`], or a list of all that is wrong. Pure.
//!
//! The weakest layer is read first and each stronger one over it, so that a wrong value is found
//! even where a stronger one hides it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::keys::{Key, SOCKET, Section, Visit, variable_of};
use super::problem::{Origin, Problem};
use super::raw::{self, Node, Table, Value};
use super::render::Explained;
use super::rules;
use super::setting::{Base, Given, Setting, bare_or_quoted, describe};
use super::unknown;
use super::{
    AppConfig, BrokerConfig, BrokerUrl, Config, LogConfig, PoolConfig, PoolName, TaskConfig, defaults,
};
use crate::job::check_name;

/// All that was given, read but not understood.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    /// By flag, without dashes.
    pub flags: BTreeMap<&'static str, Vec<String>>,
    /// By the flag that each stands for.
    pub variables: BTreeMap<&'static str, String>,
    /// The file, if one was named.
    pub file: Option<File>,
    /// What relative paths of flags and variables are relative to.
    pub base: Base,
    /// Where things are by default.
    pub places: defaults::Places,
}

/// The configuration file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Its path as it was given.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What relative paths in it are relative to.
    pub base: Base,
}

/// Reads all sources, and finds every problem there is. With problems, the configuration is of no
/// use but to those that the problems do not concern.
pub(super) fn validate(sources: &Sources) -> (Explained, Vec<Problem>) {
    let (table, errors) = match &sources.file {
        Some(file) => raw::parse(&file.text),
        None => (Table::new(), Vec::new()),
    };
    let mut reader = Reader::default();
    let mut config = reader.config(sources, &table);
    defaults::give_way(&mut config, |path| reader.is_set(path));
    let Reader {
        origins,
        bad,
        mut problems,
    } = reader;
    problems.extend(rules::broken(&config, &origins, &bad));
    if !errors.is_empty() {
        // What could not be read may be what the other problems miss.
        problems = errors.into_iter().map(syntax_problem).collect();
    }
    (Explained { config, origins }, problems)
}

fn syntax_problem(error: raw::SyntaxError) -> Problem {
    Problem {
        key: String::new(),
        origin: Origin::File {
            line: error.line,
            key: String::new(),
        },
        message: format!("not TOML: {}", error.message),
        hint: None,
    }
}

/// One source of values for the keys of a section.
#[derive(Clone, Copy)]
enum Layer<'a> {
    /// A table of the file, with its path and a dot: `pools.mail.`
    File {
        table: &'a Table,
        path: &'a str,
        base: &'a Base,
    },
    /// Variables and flags over it.
    Outside(&'a Sources),
}

#[derive(Default)]
struct Reader {
    origins: BTreeMap<String, Origin>,
    /// Paths of keys whose value could not be read: no rule is tried on them.
    bad: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Reader {
    fn config(&mut self, sources: &Sources, table: &Table) -> Config {
        // Without a file the table is empty and its base never asked for.
        let base = sources.file.as_ref().map_or(&sources.base, |file| &file.base);
        let top = |name: &str| table.get(name);
        self.problems.extend(unknown::at_top(table));

        let mut broker = BrokerConfig::default();
        let mut app = AppConfig {
            directory: sources.base.directory.clone(),
            ..AppConfig::default()
        };
        let mut log = LogConfig::default();
        self.whole("broker.", &mut broker, top("broker"), base, sources);
        self.whole("app.", &mut app, top("app"), base, sources);
        self.whole("log.", &mut log, top("log"), base, sources);
        let pools = self.pools(sources, table, base);
        let tasks = self.tasks(top("tasks"), base);
        if !self.is_set("broker.url") {
            match &sources.places.broker_file {
                Some(file) => broker.url = BrokerUrl::Sqlite(file.clone()),
                None => self.nowhere(
                    "broker.url",
                    "no place for the embedded broker's file: neither `STATE_DIRECTORY`, `XDG_STATE_HOME` nor `HOME` is set",
                    "name one with `--broker sqlite:PATH`",
                ),
            }
        }
        let socket = self.socket(sources, table, base, &broker.url);
        Config {
            file: sources.file.as_ref().map(|file| file.path.clone()),
            broker,
            socket,
            app,
            pools,
            tasks,
            log,
        }
    }

    /// A section that stands once: its table, then variables and flags.
    fn whole(
        &mut self,
        path: &str,
        section: &mut dyn Section,
        node: Option<&Node>,
        base: &Base,
        sources: &Sources,
    ) {
        if let Some(table) = self.table(path, node) {
            self.apply(path, section, Layer::File { table, path, base });
        }
        self.apply(path, section, Layer::Outside(sources));
    }

    fn socket(&mut self, sources: &Sources, table: &Table, base: &Base, broker: &BrokerUrl) -> PathBuf {
        struct Top(PathBuf);
        impl Section for Top {
            fn each_key(&mut self, visit: Visit<'_>) {
                visit(SOCKET, &mut self.0);
            }
        }
        let mut top = Top(PathBuf::new());
        // The other names at the top are the sections, read each by itself.
        let only: Table = table
            .get_key_value("socket")
            .map(|(k, v)| (k.clone(), v.clone()))
            .into_iter()
            .collect();
        self.apply(
            "",
            &mut top,
            Layer::File {
                table: &only,
                path: "",
                base,
            },
        );
        self.apply("", &mut top, Layer::Outside(sources));
        if !self.is_set("socket") {
            match sources.places.socket(broker) {
                Some(path) => top.0 = path,
                None => self.nowhere(
                    "socket",
                    "no place for the control socket: the broker has no file, and neither `RUNTIME_DIRECTORY` nor `XDG_RUNTIME_DIR` is set",
                    "name one with `--socket PATH`",
                ),
            }
        }
        top.0
    }

    fn pools(&mut self, sources: &Sources, table: &Table, base: &Base) -> BTreeMap<PoolName, PoolConfig> {
        let mut common = PoolConfig::default();
        if let Some(table) = self.table("defaults.", table.get("defaults")) {
            self.apply(
                "defaults.",
                &mut common,
                Layer::File {
                    table,
                    path: "defaults.",
                    base,
                },
            );
        }
        let mut pools = BTreeMap::new();
        for (name, node) in self.table("pools.", table.get("pools")).into_iter().flatten() {
            let path = format!("pools.{}.", bare_or_quoted(name));
            let mut pool = common.clone();
            self.inherit("defaults.", &path);
            if let Some(table) = self.table(&path, Some(node)) {
                self.apply(
                    &path,
                    &mut pool,
                    Layer::File {
                        table,
                        path: &path,
                        base,
                    },
                );
            }
            self.apply(&path, &mut pool, Layer::Outside(sources));
            match PoolName::new(name) {
                Ok(name) => drop(pools.insert(name, pool)),
                Err(error) => self.at(node.line, &path, format!("a pool's name {error}")),
            }
        }
        if pools.is_empty() {
            self.inherit("defaults.", "pools.default.");
            self.apply("pools.default.", &mut common, Layer::Outside(sources));
            pools.insert(PoolName::new("default").expect("a valid name"), common);
        }
        self.origins.retain(|path, _| !path.starts_with("defaults."));
        pools
    }

    fn tasks(&mut self, node: Option<&Node>, base: &Base) -> BTreeMap<Arc<str>, TaskConfig> {
        let mut tasks = BTreeMap::new();
        for (name, node) in self.table("tasks.", node).into_iter().flatten() {
            let path = format!("tasks.{}.", bare_or_quoted(name));
            let mut task = TaskConfig::default();
            if let Some(table) = self.table(&path, Some(node)) {
                self.origins.insert(
                    path.clone(),
                    Origin::File {
                        line: node.line,
                        key: path.clone(),
                    },
                );
                self.apply(
                    &path,
                    &mut task,
                    Layer::File {
                        table,
                        path: &path,
                        base,
                    },
                );
            }
            if let Err(error) = check_name(name) {
                self.at(node.line, &path, format!("a task's name {error}"));
            }
            tasks.insert(name.as_str().into(), task);
        }
        tasks
    }

    /// Whether somebody said something about the key, be it wrong.
    fn is_set(&self, path: &str) -> bool {
        self.origins.contains_key(path) || self.bad.contains(path)
    }

    /// What holds for `from` holds for `to`, until a stronger layer says otherwise.
    fn inherit(&mut self, from: &str, to: &str) {
        let moved = |path: &String| path.strip_prefix(from).map(|key| format!("{to}{key}"));
        let bad: Vec<String> = self.bad.iter().filter_map(moved).collect();
        let origins: Vec<(String, Origin)> = self
            .origins
            .iter()
            .filter_map(|(path, origin)| Some((moved(path)?, origin.clone())))
            .collect();
        self.bad.extend(bad);
        self.origins.extend(origins);
    }

    /// The table at this place, if there is one; something else there is a problem.
    fn table<'t>(&mut self, path: &str, node: Option<&'t Node>) -> Option<&'t Table> {
        match node {
            None => None,
            Some(Node {
                value: Value::Table(table),
                ..
            }) => Some(table),
            Some(node) => {
                let path = path.trim_end_matches('.');
                let found = describe(&node.value, str::to_owned);
                self.at(
                    node.line,
                    path,
                    format!("`{path}` is {found}; expected a table `[{path}]`"),
                );
                None
            }
        }
    }

    /// Sets each key of a section that the layer gives a value.
    fn apply(&mut self, path: &str, section: &mut dyn Section, layer: Layer<'_>) {
        let mut names = Vec::new();
        section.each_key(&mut |key, setting| {
            names.push(key.name);
            match layer {
                Layer::File {
                    table,
                    path: written,
                    base,
                } => {
                    if let Some(node) = table.get(key.name) {
                        let written = format!("{written}{}", key.name);
                        let origin = Origin::File {
                            line: node.line,
                            key: written.clone(),
                        };
                        self.set(path, key, setting, Given::Node(node), base, origin);
                    }
                }
                Layer::Outside(sources) => self.outside(path, key, setting, sources),
            }
        });
        if let Layer::File { table, path, .. } = layer {
            self.problems.extend(unknown::in_table(table, path, &names));
        }
    }

    fn outside(&mut self, path: &str, key: &Key, setting: &mut dyn Setting, sources: &Sources) {
        if let Some(word) = sources.variables.get(key.flag) {
            let origin = Origin::Environment(variable_of(key.flag));
            self.set(
                path,
                key,
                setting,
                Given::Words(std::slice::from_ref(word)),
                &sources.base,
                origin,
            );
        }
        if let Some(words) = sources.flags.get(key.flag) {
            let origin = Origin::Flag(format!("--{}", key.flag));
            self.set(path, key, setting, Given::Words(words), &sources.base, origin);
        }
    }

    fn set(
        &mut self,
        path: &str,
        key: &Key,
        setting: &mut dyn Setting,
        given: Given<'_>,
        base: &Base,
        origin: Origin,
    ) {
        let path = format!("{path}{}", key.name);
        let Err(wrongs) = setting.set(given, base) else {
            self.origins.insert(path, origin);
            return;
        };
        for wrong in wrongs {
            let name = origin.name(&path);
            self.problems.push(Problem {
                key: path.clone(),
                message: format!(
                    "`{name}{}` is {}; expected {}",
                    wrong.item, wrong.found, wrong.expected
                ),
                origin: match (&origin, wrong.line) {
                    (Origin::File { key, .. }, Some(line)) => Origin::File {
                        line,
                        key: key.clone(),
                    },
                    (origin, _) => origin.clone(),
                },
                hint: None,
            });
        }
        self.bad.insert(path);
    }

    fn at(&mut self, line: usize, key: &str, message: String) {
        let origin = Origin::File {
            line,
            key: key.to_owned(),
        };
        self.problems.push(Problem {
            key: key.to_owned(),
            origin,
            message,
            hint: None,
        });
    }

    fn nowhere(&mut self, key: &str, message: &str, hint: &str) {
        self.problems.push(Problem {
            key: key.to_owned(),
            origin: Origin::Default,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }
}
