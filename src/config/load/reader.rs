//! Flags, variables and the file's tree become one [`Config`], or a list of all that is wrong. Pure.
//!
//! The weakest layer is read first and each stronger one over it, so that a wrong value is found
//! even where a stronger one hides it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::places::Places;
use super::words::Flags;
use super::{give_way, unknown};
use crate::config::dialect::{self, OwnVariables, Settings};
use crate::config::explained::Explained;
use crate::config::keys::{Key, SOCKET, Section, Visit, names_of, variable_of};
use crate::config::problem::{Origin, Problem};
use crate::config::rules;
use crate::config::scalars::raw::{self, Node, Table, Value};
use crate::config::scalars::setting::{Base, Given, Setting, bare_or_quoted, describe};
use crate::config::url::BrokerUrl;
use crate::config::values::{
    AppConfig, BrokerConfig, Config, DialectKind, Dialects, LogConfig, MetricsConfig, PoolConfig, Protocol,
    RuntimeKind, ScheduleConfig, SupervisorConfig, TaskConfig,
};
use crate::job::{PoolName, check_name};

/// All that was given, read but not understood.
#[derive(Clone, Debug)]
pub(in crate::config) struct Sources {
    /// The flags, in our words.
    pub flags: Flags,
    /// What is wrong with the flags by themselves.
    pub told: Vec<Problem>,
    /// By the flag that each stands for.
    pub variables: BTreeMap<&'static str, String>,
    /// The variables of each dialect's own program. They hold in that dialect.
    pub dialect_variables: BTreeMap<&'static str, OwnVariables>,
    /// The dialect's own settings, once they are known.
    pub settings: Option<Settings>,
    /// The file, if one was named.
    pub file: Option<File>,
    /// What relative paths of flags and variables are relative to.
    pub base: Base,
    /// Where the application runs if nothing else is said.
    pub app_directory: PathBuf,
    /// Where things are by default.
    pub places: Places,
}

/// The configuration file.
#[derive(Clone, Debug)]
pub(in crate::config) struct File {
    /// Its path as it was given.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// What relative paths in it are relative to.
    pub base: Base,
}

/// Reads all sources, and finds every problem there is. With problems, the configuration is of no
/// use but to those that the problems do not concern.
pub(in crate::config) fn read(sources: &Sources) -> (Explained, Vec<Problem>) {
    let (table, errors) = match &sources.file {
        Some(file) => raw::parse(&file.text),
        None => (Table::new(), Vec::new()),
    };
    let mut reader = Reader::new(sources);
    let mut config = reader.config(&table);
    give_way::give_way(&mut config, |path| reader.is_set(path));
    let Reader {
        origins,
        bad,
        mut problems,
        ..
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

/// Reads sections. Paths of tables end with a dot, so that a key's path is the two together.
struct Reader<'a> {
    sources: &'a Sources,
    origins: BTreeMap<String, Origin>,
    /// Paths of keys whose value could not be read: no rule is tried on them.
    bad: BTreeSet<String>,
    problems: Vec<Problem>,
    /// The dialect that is in force: its own variables are heeded.
    dialect: Option<DialectKind>,
}

impl<'a> Reader<'a> {
    fn new(sources: &'a Sources) -> Self {
        Reader {
            sources,
            origins: BTreeMap::new(),
            bad: BTreeSet::new(),
            problems: sources.told.clone(),
            dialect: None,
        }
    }

    fn config(&mut self, table: &Table) -> Config {
        self.problems.extend(unknown::at_top(table));
        let mut broker = BrokerConfig::default();
        let mut app = AppConfig {
            directory: self.sources.app_directory.clone(),
            ..AppConfig::default()
        };
        let mut log = LogConfig::default();
        self.whole("app.", &mut app, table.get("app"));
        self.dialect = app.runtime.dialect();
        self.broker(&mut broker, app.runtime, table);
        let mut supervisor = SupervisorConfig::default();
        self.whole("supervisor.", &mut supervisor, table.get("supervisor"));
        self.whole("log.", &mut log, table.get("log"));
        let mut metrics = MetricsConfig::default();
        self.whole("metrics.", &mut metrics, table.get("metrics"));
        let pools = self.pools(table);
        let tasks = self.tasks(table.get("tasks"));
        let schedules = self.schedules(table.get("schedules"));
        let socket = self.socket(table, &broker.url);
        let history = self.sources.places.history(&socket);
        let file = self.sources.file.as_ref().map(|file| file.path.clone());
        Config {
            file,
            broker,
            socket,
            history,
            app,
            supervisor,
            pools,
            tasks,
            schedules,
            metrics,
            log,
        }
    }

    fn broker(&mut self, broker: &mut BrokerConfig, runtime: RuntimeKind, table: &Table) {
        self.whole("broker.", broker, table.get("broker"));
        if let (true, Protocol::Dialect(kind)) = (self.is_set("broker.protocol"), broker.protocol) {
            self.dialect = Some(kind);
        }
        if !self.is_set("broker.url") {
            self.fill("broker.", broker);
        }
        if let Some(kind) = self.dialect {
            let variables = self.sources.dialect_variables.get(kind.name());
            for (name, text) in variables.into_iter().flat_map(BTreeMap::values) {
                let problem = broker.dialects.of(kind).variable_problem(name, text);
                self.problems.extend(problem);
            }
        }
        if !self.origins.contains_key("broker.url") {
            broker.url = self.default_broker();
        }
        if let BrokerUrl::Redis(url) = &broker.url {
            let absolute = |file: &String| self.sources.base.absolute(file.as_ref());
            let [ca, cert, key] = url.files().each_ref().map(|file| file.as_ref().map(absolute));
            broker.tls_ca = broker.tls_ca.take().or(ca);
            broker.tls_cert = broker.tls_cert.take().or(cert);
            broker.tls_key = broker.tls_key.take().or(key);
        }
        if !self.is_set("broker.protocol") {
            broker.protocol = match self.dialect {
                Some(kind) => Protocol::Dialect(kind),
                // A producer has no runtime, and writes for those who have.
                None if !self.is_set("app.runtime") => {
                    dialect::only_protocol_at(&broker.url).unwrap_or_default()
                }
                None => Protocol::of(runtime),
            };
        }
        if let Protocol::Dialect(kind) = broker.protocol {
            self.dialect = Some(kind);
        }
        for kind in DialectKind::ALL {
            let path = format!("{}.", kind.name());
            let section = broker.dialects.of_mut(*kind);
            self.inside(&path, section, table.get(kind.name()));
            self.outside(&path, section);
            self.fill(&path, section);
        }
        if let (Some(kind), false) = (self.dialect, self.is_set("broker.url"))
            && let Some(place) = broker.dialects.of(kind).own_place()
        {
            broker.url = place;
        }
    }

    fn default_broker(&mut self) -> BrokerUrl {
        if let Some(kind) = self.dialect {
            // Where its own program looks for it.
            let url = Dialects::default().of(kind).default_broker();
            return BrokerUrl::parse(url, std::path::Path::to_path_buf)
                .expect("a dialect's default is a URL");
        }
        match &self.sources.places.broker_file {
            Some(file) => BrokerUrl::Sqlite(file.clone()),
            None => {
                self.nowhere(
                    "broker.url",
                    "no place for the embedded broker's file: neither `STATE_DIRECTORY`, `XDG_STATE_HOME` nor `HOME` is an absolute path",
                    "name one with `--broker sqlite:PATH`",
                );
                BrokerUrl::Memory
            }
        }
    }

    fn socket(&mut self, table: &Table, broker: &BrokerUrl) -> PathBuf {
        struct Top(PathBuf);
        impl Section for Top {
            fn each_key(&mut self, visit: Visit<'_>) {
                visit(SOCKET, &mut self.0);
            }
        }
        let mut top = Top(PathBuf::new());
        self.values("", &mut top, table);
        self.outside("", &mut top);
        if !self.is_set("socket") {
            match self.sources.places.socket(broker) {
                Some(path) => top.0 = path,
                None => self.nowhere(
                    "socket",
                    "no place for the control socket: the broker has no file, and none of `RUNTIME_DIRECTORY`, `XDG_RUNTIME_DIR`, `STATE_DIRECTORY`, `XDG_STATE_HOME` and `HOME` is an absolute path",
                    "name one with `--socket PATH`",
                ),
            }
        }
        top.0
    }

    fn pools(&mut self, table: &Table) -> BTreeMap<PoolName, PoolConfig> {
        let mut common = PoolConfig::default();
        self.inside("defaults.", &mut common, table.get("defaults"));
        let mut pools = BTreeMap::new();
        for (name, node) in self.table("pools.", table.get("pools")).into_iter().flatten() {
            let path = format!("pools.{}.", bare_or_quoted(name));
            let mut pool = common.clone();
            self.inherit("defaults.", &path);
            self.whole(&path, &mut pool, Some(node));
            self.fill(&path, &mut pool);
            match PoolName::new(name) {
                Ok(name) => drop(pools.insert(name, pool)),
                Err(error) => self.at(node.line, &path, format!("a pool's name {error}")),
            }
        }
        if pools.is_empty() {
            self.inherit("defaults.", "pools.default.");
            self.outside("pools.default.", &mut common);
            self.fill("pools.default.", &mut common);
            pools.insert(PoolName::new("default").expect("a valid name"), common);
        }
        self.origins.retain(|path, _| !path.starts_with("defaults."));
        pools
    }

    fn tasks(&mut self, node: Option<&Node>) -> BTreeMap<Arc<str>, TaskConfig> {
        self.named("tasks.", "task", node)
    }

    fn schedules(&mut self, node: Option<&Node>) -> BTreeMap<Arc<str>, ScheduleConfig> {
        self.named("schedules.", "schedule", node)
    }

    /// Tables by name that only the file has. `kind`: what one of them is.
    fn named<S: Section + Default>(
        &mut self,
        tables: &str,
        kind: &str,
        node: Option<&Node>,
    ) -> BTreeMap<Arc<str>, S> {
        let mut sections = BTreeMap::new();
        for (name, node) in self.table(tables, node).into_iter().flatten() {
            let path = format!("{tables}{}.", bare_or_quoted(name));
            // Where to point at when a key is missing.
            self.origins.insert(
                path.clone(),
                Origin::File {
                    line: node.line,
                    key: path.clone(),
                },
            );
            let mut section = S::default();
            self.inside(&path, &mut section, Some(node));
            if let Err(error) = check_name(name) {
                self.at(node.line, &path, format!("a {kind}'s name {error}"));
            }
            sections.insert(name.as_str().into(), section);
        }
        sections
    }

    /// Whether somebody said something about the key, be it wrong.
    fn is_set(&self, path: &str) -> bool {
        self.origins.contains_key(path) || self.bad.contains(path)
    }

    /// What holds for `from` holds for `to`, until a stronger layer says otherwise.
    fn inherit(&mut self, from: &str, to: &str) {
        let moved = |path: &String| path.strip_prefix(from).map(|key| format!("{to}{key}"));
        let bad: Vec<String> = self.bad.iter().filter_map(moved).collect();
        let origin = |(path, origin): (&String, &Origin)| Some((moved(path)?, origin.clone()));
        let origins: Vec<(String, Origin)> = self.origins.iter().filter_map(origin).collect();
        self.bad.extend(bad);
        self.origins.extend(origins);
    }

    /// A section's table of the file, then variables and flags over it.
    fn whole(&mut self, path: &str, section: &mut dyn Section, node: Option<&Node>) {
        self.inside(path, section, node);
        self.outside(path, section);
    }

    /// A section's table of the file.
    fn inside(&mut self, path: &str, section: &mut dyn Section, node: Option<&Node>) {
        if let Some(table) = self.table(path, node) {
            self.values(path, section, table);
            self.problems
                .extend(unknown::in_table(table, path, &names_of(section)));
        }
    }

    /// The table at this place, if there is one; something else there is a problem.
    fn table<'t>(&mut self, path: &str, node: Option<&'t Node>) -> Option<&'t Table> {
        let node = node?;
        if let Value::Table(table) = &node.value {
            return Some(table);
        }
        let path = path.trim_end_matches('.');
        let found = describe(&node.value, str::to_owned);
        let message = format!("`{path}` is {found}; expected a table `[{path}]`");
        self.at(node.line, path, message);
        None
    }

    fn values(&mut self, path: &str, section: &mut dyn Section, table: &Table) {
        // Without a file there is no table, and its base is never asked for.
        let base = self
            .sources
            .file
            .as_ref()
            .map_or(&self.sources.base, |file| &file.base);
        section.each_key(&mut |key, setting| {
            if let Some(node) = table.get(key.name) {
                let origin = Origin::File {
                    line: node.line,
                    key: format!("{path}{}", key.name),
                };
                self.set(path, key, setting, (Given::Node(node), base, origin));
            }
        });
    }

    /// Keys of which nobody said anything, as the dialect's own settings have them.
    fn fill(&mut self, path: &str, section: &mut dyn Section) {
        let Some(Settings { module, said }) = &self.sources.settings else {
            return;
        };
        section.each_key(&mut |key, setting| {
            let unset = !self.is_set(&format!("{path}{}", key.name));
            if let Some((texts, name)) = said.get(key.flag).filter(|_| unset) {
                let origin = Origin::Settings {
                    name,
                    module: module.clone(),
                };
                self.set(
                    path,
                    key,
                    setting,
                    (Given::Words(texts), &self.sources.base, origin),
                );
            }
        });
    }

    fn outside(&mut self, path: &str, section: &mut dyn Section) {
        let of_dialect = self
            .dialect
            .and_then(|kind| self.sources.dialect_variables.get(kind.name()));
        let Sources {
            variables,
            flags,
            base,
            ..
        } = self.sources;
        section.each_key(&mut |key, setting| {
            let own = variables.get(key.flag).map(|word| (word, variable_of(key.flag)));
            let others = || {
                of_dialect?
                    .get(key.flag)
                    .map(|(name, word)| (word, (*name).to_owned()))
            };
            if let Some((word, name)) = own.or_else(others) {
                let given = Given::Variable(word);
                let origin = Origin::Environment(name);
                self.set(path, key, setting, (given, base, origin));
            }
            if let Some(words) = flags.values.get(key.flag) {
                let origin = Origin::Flag(flags.name(key.flag));
                self.set(path, key, setting, (Given::Words(words), base, origin));
            }
        });
    }

    fn set(
        &mut self,
        path: &str,
        key: &Key,
        setting: &mut dyn Setting,
        (given, base, origin): (Given<'_>, &Base, Origin),
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

    /// Nobody said where, and the environment does not either. A wrong place has been told already.
    fn nowhere(&mut self, key: &str, message: &str, hint: &str) {
        if self.bad.contains(key) {
            return;
        }
        self.problems.push(Problem {
            key: key.to_owned(),
            origin: Origin::Default,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }
}
