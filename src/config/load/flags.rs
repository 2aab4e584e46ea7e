//! The flags of `pool [run]` and of the verbs that look for a supervisor or broker.
//!
//! Flags and their help come from the tables in `keys.rs`. Values stay text here, so that all
//! wrong ones are reported together, beside those of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::unknown::closest;
use super::words;
use crate::config::dialect::{GivenLine, Word};
use crate::config::keys::{Key, SOCKET, Section, names_of};
use crate::config::scalars::setting::{Arity, Setting};
use crate::config::values::{
    AppConfig, BrokerConfig, DialectKind, Dialects, LogConfig, MetricsConfig, PoolConfig, SupervisorConfig,
};

/// The settings on a command line, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunArgs {
    /// The configuration file; `None`: `$POOL_CONFIG`, else what `lookup` finds.
    pub config: Option<PathBuf>,
    /// Where a file is looked for that nobody names.
    pub lookup: Lookup,
    /// Run until the queues are empty and nothing runs, then exit.
    pub burst: bool,
    /// Tell what policies wish, and do not do it.
    pub dry_run: bool,
    /// The texts of each flag that was given, by flag.
    pub(in crate::config) values: BTreeMap<&'static str, Vec<String>>,
    /// Flags that only another program knows, with their values.
    pub(in crate::config) words: BTreeMap<&'static str, String>,
    /// The command line of another program, taken as it is.
    pub(in crate::config) line: Option<GivenLine>,
    /// Print the settings in force as TOML, and do nothing else.
    pub print_config: bool,
}

impl RunArgs {
    /// The settings of a command line without its program's name.
    ///
    /// The error is clap's: an unknown flag, a flag without a value.
    pub fn from_flags<I, T>(flags: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let command = Self::augment_args(Command::new("pool").no_binary_name(true));
        let flags = words::spelled_out(flags.into_iter().map(Into::into));
        command
            .try_get_matches_from(flags)
            .and_then(|matches| Self::from_arg_matches(&matches))
    }

    /// The dialect whose runtime is asked for by a flag, so that `--config` may be meant as in its own program.
    pub(in crate::config) fn dialect(&self) -> Option<DialectKind> {
        let texts = self.values.get("runtime")?;
        texts.iter().find_map(|text| DialectKind::named(text))
    }

    /// Takes in what was given by flags of ours, but for those that these words of another program stand for.
    pub(super) fn update(&mut self, matches: &ArgMatches, but: &[Word]) {
        self.burst |= matches.get_flag("burst");
        self.dry_run |= matches.get_flag("dry-run");
        self.print_config |= matches.get_flag("print-config");
        let ours = |flag: &Flag| !but.iter().any(|word| word.flag == flag.key.flag);
        self.take_settings(matches, flags().into_iter().filter(ours));
    }

    fn take_settings(&mut self, matches: &ArgMatches, flags: impl Iterator<Item = Flag>) {
        for flag in flags {
            if let Some(texts) = matches.get_many::<String>(flag.key.flag) {
                self.values.insert(flag.key.flag, texts.cloned().collect());
            }
        }
    }

    /// As if this key of a pool had been set by its flag. `key`: by its name in the file, or that of its flag.
    ///
    /// The error is the key that was probably meant, if there is one like it.
    pub fn and_key(mut self, key: &str, text: &str) -> Result<Self, Option<&'static str>> {
        let names = names_of(&mut PoolConfig::default());
        let named =
            |flag: &Flag| [flag.key.name, flag.key.flag].contains(&key) && names.contains(&flag.key.name);
        match flags().iter().find(|flag| named(flag)) {
            Some(flag) => _ = self.values.insert(flag.key.flag, vec![text.to_owned()]),
            None => return Err(closest(key, &names)),
        }
        Ok(self)
    }

    /// As if these queues had been named by `--queue`, behind those that were.
    pub fn and_queues(mut self, queues: Vec<String>) -> Self {
        if !queues.is_empty() {
            self.values.entry("queue").or_default().extend(queues);
        }
        self
    }
}

/// Where a configuration file is looked for that neither `--config` nor `POOL_CONFIG` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// `pool.toml` in this directory and those above it, as `cargo` and `docker compose` look for theirs.
    #[default]
    Project,
    /// There, and then the file of the service of this host.
    ProjectOrService,
    /// Nowhere.
    None,
    /// Here, where it was found before. It must still be there: a reload would else take defaults for settings.
    Again(PathBuf),
}

/// The flags by which a verb finds the supervisor or the broker.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientArgs {
    /// Configuration file that the supervisor runs with; by default `pool.toml` here or above, else /etc/pool/pool.toml [env: POOL_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Broker where jobs wait, as the supervisor has it [env: POOL_BROKER]
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// Control socket of the supervisor [env: POOL_SOCKET]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
}

impl ClientArgs {
    /// As flags of the supervisor.
    pub(in crate::config) fn as_run_args(&self) -> RunArgs {
        let given = |flag: &'static str, text: &Option<String>| Some((flag, vec![text.clone()?]));
        RunArgs {
            config: self.config.clone(),
            lookup: Lookup::ProjectOrService,
            burst: false,
            dry_run: false,
            words: BTreeMap::new(),
            line: None,
            print_config: false,
            values: [given("broker", &self.broker), given("socket", &self.socket)]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        let command = command
            .arg(
                Arg::new("config")
                    .long("config")
                    .value_name("FILE")
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("Configuration file (TOML), by default `pool.toml` in this directory or above it; flags and environment override it [env: POOL_CONFIG]"),
            )
            .arg(
                Arg::new("burst")
                    .long("burst")
                    .short('b')
                    .action(ArgAction::SetTrue)
                    .help("Run until the queues are empty and nothing runs, then exit"),
            )
            .arg(
                Arg::new("dry-run")
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .help("Run jobs, but only say how many workers the policy would want"),
            )
            .arg(
                Arg::new("print-config")
                    .long("print-config")
                    .action(ArgAction::SetTrue)
                    .help("Print the settings that somebody set as TOML, without passwords, and exit"),
            );
        let command = flags()
            .into_iter()
            .fold(command, |command, flag| command.arg(flag.arg()));
        words::args().into_iter().fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = RunArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.config = Some(path.clone());
        }
        self.update(matches, &[]);
        self.words.extend(words::given(matches));
        Ok(())
    }
}

/// The settings alone, for verbs that start no supervisor: all flags of `run` that set a key, but [`KEEPS_HISTORY`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsArgs(RunArgs);

impl SettingsArgs {
    /// The settings with this file; `None`: with that which `run` would find.
    pub fn with_config(&self, config: Option<PathBuf>) -> RunArgs {
        RunArgs {
            config,
            ..self.0.clone()
        }
    }
}

/// Settings that decide about a pool's size: the help of a verb that starts no supervisor shows these.
const SCALING_FLAGS: [&str; 7] = [
    "min-workers",
    "max-workers",
    "policy",
    "utilization-threshold",
    "scaling-period",
    "utilization-window",
    "target-wait",
];

/// A verb that keeps no history may read one, by a flag of this name.
const KEEPS_HISTORY: &str = "history";

fn flags_of_settings() -> impl Iterator<Item = Flag> {
    let flags = flags().into_iter();
    flags.filter(|flag| flag.key.flag != KEEPS_HISTORY)
}

impl Args for SettingsArgs {
    fn augment_args(command: Command) -> Command {
        flags_of_settings().fold(command, |command, flag| {
            let is_shown = SCALING_FLAGS.contains(&flag.key.flag);
            command.arg(flag.arg().hide(!is_shown))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = SettingsArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.take_settings(matches, flags_of_settings());
        Ok(())
    }
}

/// How alike two variables must be, from 0 to 1, for one to be a misspelling of the other.
const VARIABLES_ALIKE: f64 = 0.85;

/// A flag as `--help` shows it.
struct Flag {
    heading: &'static str,
    key: &'static Key,
    default: String,
    arity: Arity,
}

/// The variables among these that no flag has, each with the one that was probably meant. Others may be another program's.
pub fn misspelled_variables(names: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let known: Vec<String> = all().into_iter().filter_map(Key::variable).collect();
    let meant = |name: &String| {
        let alike = |known: &&String| strsim::normalized_damerau_levenshtein(name, known);
        let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
        (alike(&best) >= VARIABLES_ALIKE).then(|| best.clone())
    };
    names
        .filter(|name| name.starts_with("POOL_") && !known.contains(name))
        .filter(|name| !name.starts_with("POOL_JOB_"))
        .filter_map(|name| meant(&name).map(|meant| (name, meant)))
        .collect()
}

/// All flags that set a key.
pub(in crate::config) fn all() -> Vec<&'static Key> {
    let mut keys = Vec::new();
    each_flag(|_, key, _| keys.push(key));
    keys.push(SOCKET);
    keys
}

fn flags() -> Vec<Flag> {
    let mut flags = Vec::new();
    each_flag(|heading, key, setting| {
        flags.push(Flag {
            heading,
            key,
            default: default_of(key, setting),
            arity: setting.arity(),
        });
    });
    flags.push(Flag {
        heading: "Control",
        key: SOCKET,
        default: String::new(),
        arity: Arity::One,
    });
    flags
}

/// Calls `tell` with the heading, the key and the default setting of each flag of a section.
fn each_flag(mut tell: impl FnMut(&'static str, &'static Key, &mut dyn Setting)) {
    let mut add = |heading: &'static str, section: &mut dyn Section| {
        section.each_key(&mut |key, setting: &mut dyn Setting| {
            if !key.flag.is_empty() {
                tell(heading, key, setting);
            }
        });
    };
    add("Broker", &mut BrokerConfig::default());
    add("Application", &mut AppConfig::default());
    add(
        "Pool (of all pools, if the file has several)",
        &mut PoolConfig::default(),
    );
    add("All pools together", &mut SupervisorConfig::default());
    let mut dialects = Dialects::default();
    for kind in DialectKind::ALL {
        add(dialects.of(*kind).heading(), dialects.of_mut(*kind));
    }
    add("Metrics", &mut MetricsConfig::default());
    add("Logging", &mut LogConfig::default());
}

/// The default as `--help` shows it; empty where it depends on the environment or is nothing.
fn default_of(key: &Key, setting: &mut dyn Setting) -> String {
    match (key.flag, setting.literal().as_str()) {
        ("protocol", _) => "the runtime's".to_owned(),
        ("broker", _) => "sqlite:pool.db in $STATE_DIRECTORY or the XDG state home; with a pool.toml, in a directory of its own there".to_owned(),
        ("directory", _) => "the current one".to_owned(),
        (_, "[]") => String::new(),
        (_, literal) => literal.trim_matches(['[', ']']).trim_matches('"').to_owned(),
    }
}

impl Flag {
    fn arg(self) -> Arg {
        let variable = self.key.variable().unwrap_or_default();
        let default = match self.default.as_str() {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let arg = Arg::new(self.key.flag)
            .long(self.key.flag)
            .value_name(self.key.value)
            .help(format!("{}{default} [env: {variable}]", self.key.meaning()))
            .help_heading(self.heading)
            .allow_negative_numbers(true);
        let arg = match words::short_of(self.key.flag) {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        let arg = if self.key.flag == "broker" {
            arg.visible_alias("url")
        } else {
            arg
        };
        match self.arity {
            Arity::One => arg.action(ArgAction::Set),
            Arity::Many => arg.action(ArgAction::Append),
            Arity::Switch => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
        }
    }
}
