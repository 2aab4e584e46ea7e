//! Reads what the settings are made of: the file, the variables, the current directory.

pub(super) mod flags;
mod give_way;
mod lines;
mod places;
mod reader;
mod unknown;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::places::{PROJECT_FILE, Places, SERVICE_DIRECTORY};
use self::reader::{File, Sources};
use self::words::Flags;
use super::dialect::{OwnVariables, Settings};
use super::explained::Explained;
use super::keys::variable_of;
use super::problem::{ConfigErrors, Origin, Problem};
use super::scalars::setting::Base;
use super::url::BrokerUrl;
use super::values::{BrokerConfig, Config, DialectKind, Dialects, Protocol, RuntimeKind, ScheduleConfig};
use crate::sys::cpu::processors;

pub use flags::{ClientArgs, Lookup, RunArgs, SettingsArgs, misspelled_variables};
pub use lines::own_line;
pub use words::spelled_out;

/// The settings of a supervisor: flags over `POOL_*` variables over the file over defaults.
///
/// `env` reads one environment variable; an empty one counts as not set.
///
/// # Errors
/// Every problem at once, see [`ConfigErrors`].
pub fn load(args: &RunArgs, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, ConfigErrors> {
    read_all(args, env, |_| true).map(|explained| explained.config)
}

/// Like [`load`], and remembers where each value comes from: for `pool check`.
///
/// # Errors
/// As [`load`].
pub fn explain(args: &RunArgs, env: impl Fn(&str) -> Option<OsString>) -> Result<Explained, ConfigErrors> {
    read_all(args, env, |_| true)
}

/// What a verb wants of the settings: a mistake in the others does not keep it from its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The supervisor's control socket.
    Supervisor,
    /// The broker.
    Broker,
    /// The broker, and the schedules.
    Schedules,
}

/// Where a verb finds the supervisor and the broker.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The broker.
    pub broker: BrokerConfig,
    /// A flag, a variable or the file names the broker; else it is the default.
    pub broker_is_named: bool,
    /// The control socket of the broker's supervisor; empty if it has no place, which is an error for whom it concerns.
    pub socket: PathBuf,
    /// The history of decisions of that supervisor.
    pub history: PathBuf,
    /// The schedules; not checked unless they are wanted.
    pub schedules: BTreeMap<Arc<str>, ScheduleConfig>,
    /// How the application is loaded that alone knows the broker; `None`: the settings name the broker.
    pub loads: Option<Box<Config>>,
}

/// The settings of a verb, from the same sources as the supervisor's.
///
/// # Errors
/// The problems that matter to it: a mistake in a pool's settings does not keep `pool status` from
/// asking the supervisor that runs with the settings of before.
pub fn load_client(
    args: &ClientArgs,
    env: impl Fn(&str) -> Option<OsString>,
    wanted: Wanted,
) -> Result<ClientConfig, ConfigErrors> {
    let matters = match wanted {
        Wanted::Supervisor => concerns_clients,
        Wanted::Broker => concerns_producers,
        Wanted::Schedules => concerns_schedules,
    };
    let explained = read_all(&args.as_run_args(), env, matters)?;
    Ok(ClientConfig {
        broker_is_named: *explained.origin("broker.url") != Origin::Default,
        broker: explained.config.broker.clone(),
        socket: explained.config.socket.clone(),
        history: explained.config.history.clone(),
        schedules: explained.config.schedules.clone(),
        loads: loading(explained.config).map(Box::new),
    })
}

/// Settings that load the application which names the broker, for who runs no jobs of it.
fn loading(mut config: Config) -> Option<Config> {
    let Protocol::Dialect(kind) = config.broker.protocol else {
        return None;
    };
    if !config.broker.app_names_broker() {
        return None;
    }
    config.app.runtime = RuntimeKind::Dialect(kind);
    config.pools.values_mut().for_each(|pool| pool.queues.clear());
    let url = config.broker.url.clone();
    config.broker.dialects.of_mut(kind).be_led_by(&url);
    Some(config)
}

/// Whether a problem matters to a verb that asks the supervisor: not so what pools, application and tasks are.
fn concerns_clients(problem: &Problem) -> bool {
    problem.key.starts_with("broker.") || !problem.key.contains('.')
}

/// Whether it matters to a verb that only talks to the broker.
fn concerns_producers(problem: &Problem) -> bool {
    let dialects = Dialects::default();
    let mut of_jobs = dialects.each().flat_map(|dialect| dialect.keys_of_jobs());
    let of_jobs = of_jobs.any(|key| *key == problem.key);
    of_jobs || concerns_clients(problem) && problem.key != "socket"
}

/// Whether it matters to a verb that looks at the schedules and talks to the broker.
fn concerns_schedules(problem: &Problem) -> bool {
    concerns_producers(problem) || problem.key.starts_with("schedules.")
}

/// [`BrokerUrl::address`] with the path of a file as the file system knows it, whatever links lead there.
pub fn broker_address(url: &BrokerUrl) -> String {
    let BrokerUrl::Sqlite(path) = url else {
        return url.address();
    };
    let canonical = path.canonicalize().or_else(|_| {
        // The file is not there yet.
        let directory = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
        Ok::<_, std::io::Error>(directory.join(path.file_name().unwrap_or_default()))
    });
    BrokerUrl::Sqlite(canonical.unwrap_or_else(|_| path.clone())).address()
}

/// The settings with their origins, or the problems that matter.
fn read_all(
    args: &RunArgs,
    env: impl Fn(&str) -> Option<OsString>,
    matters: impl Fn(&Problem) -> bool,
) -> Result<Explained, ConfigErrors> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    // What could not be read may be what later problems miss, so these are told first.
    let mut sources = sources(args, &env).map_err(|problems| ConfigErrors::new(None, problems))?;
    let (mut explained, mut problems) = reader::read(&sources);
    match dialect_settings(&explained, env) {
        Ok(None) => {}
        Ok(Some(settings)) => {
            sources.settings = Some(settings);
            (explained, problems) = reader::read(&sources);
        }
        Err(problem) => problems.push(problem),
    }
    problems.retain(matters);
    match problems.as_slice() {
        [] => Ok(explained),
        _ => Err(ConfigErrors::new(sources.file.map(|file| file.path), problems)),
    }
}

/// What the own settings of the runtime's dialect say.
fn dialect_settings(
    explained: &Explained,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Settings>, Problem> {
    let config = &explained.config;
    match config.app.runtime.dialect() {
        Some(kind) => config.broker.dialects.of(kind).read(explained, &env),
        None => Ok(None),
    }
}

/// Gathers all that was given; the error is what can't be read of it.
fn sources(args: &RunArgs, env: &impl Fn(&str) -> Option<OsString>) -> Result<Sources, Vec<Problem>> {
    let mut problems = Vec::new();
    let variables = variables(env, &mut problems);
    let dialect_variables = dialect_variables(env);
    let directory = std::env::current_dir().unwrap_or_else(|error| {
        let message = format!("cannot tell the current directory: {error}");
        problems.push(unreadable(Origin::Default, message));
        PathBuf::new()
    });
    let home = places::directory(env, "HOME");
    let processors = processors();
    let base = Base {
        directory,
        home,
        processors,
    };
    let named = named_file(args, env);
    let found = match named {
        Some(_) => None,
        None => find(&base.directory, &args.lookup),
    };
    let is_found = found.is_some();
    let file = named.or(found).and_then(|(path, origin)| {
        let file = read(&path, &base);
        file.map_err(|error| problems.push(unreadable_file(&path, origin, &error, args.dialect())))
            .ok()
    });
    let mut flags = Flags::given(args.values.clone());
    let mut told = words::translate(&args.words, &mut flags);
    if let Some(line) = &args.line {
        told.extend(words::translate_line(line, &mut flags));
    }
    let place = file.as_ref().map(|file: &File| base.directory.join(&file.path));
    let places = Places::of(env, place.as_deref());
    let app_directory = match &file {
        Some(file) if is_found => file.base.directory.clone(),
        _ => base.directory.clone(),
    };
    let sources = Sources {
        flags,
        told,
        variables,
        dialect_variables,
        settings: None,
        file,
        base,
        app_directory,
        places,
    };
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

/// The file that a flag or a variable names.
fn named_file(args: &RunArgs, env: &impl Fn(&str) -> Option<OsString>) -> Option<(PathBuf, Origin)> {
    let by_flag = args.config.clone();
    let by_flag = by_flag.map(|path| (path, Origin::Flag("--config".into())));
    let by_variable =
        || env("POOL_CONFIG").map(|path| (path.into(), Origin::Environment("POOL_CONFIG".into())));
    by_flag.or_else(by_variable)
}

/// `dialect`: the one that is asked for, in whose own program `--config` may mean another thing.
fn unreadable_file(
    path: &Path,
    origin: Origin,
    error: &std::io::Error,
    dialect: Option<DialectKind>,
) -> Problem {
    let path = path.display();
    let message = match origin.name("") {
        "" => format!("`{path}` can't be read: {error}"),
        name => format!("`{name}` names `{path}`, which can't be read: {error}"),
    };
    let dialects = Dialects::default();
    Problem {
        hint: dialect.map(|kind| dialects.of(kind).config_hint().to_owned()),
        ..unreadable(origin, message)
    }
}

/// The file that nobody names, if there is one, as the reader knows it.
fn find(directory: &Path, lookup: &Lookup) -> Option<(PathBuf, Origin)> {
    let also_the_service = match lookup {
        Lookup::Project => false,
        Lookup::ProjectOrService => true,
        Lookup::None => return None,
        Lookup::Again(path) => return Some((path.clone(), Origin::Default)),
    };
    let mut places = directory.ancestors().map(|place| place.join(PROJECT_FILE));
    let project = places.find(|path| path.is_file());
    let service = Path::new(SERVICE_DIRECTORY).join(PROJECT_FILE);
    // A service that is not this user's business is none: its broker would not let this user in.
    let is_ours = |path: &Path| std::fs::File::open(path).is_ok();
    let service = (also_the_service && is_ours(&service)).then_some(service);
    let found = project.or(service)?;
    let here = found.strip_prefix(directory).map(Path::to_path_buf);
    Some((here.unwrap_or(found), Origin::Default))
}

/// The `POOL_*` variables, by the flag that each stands for.
fn variables(
    env: &impl Fn(&str) -> Option<OsString>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'static str, String> {
    let mut variables = BTreeMap::new();
    for key in flags::all() {
        let name = variable_of(key.flag);
        match env(&name).map(OsString::into_string) {
            Some(Ok(value)) => drop(variables.insert(key.flag, value)),
            Some(Err(_)) => {
                let message = format!("`{name}` is not UTF-8");
                problems.push(unreadable(Origin::Environment(name), message));
            }
            None => {}
        }
    }
    variables
}

/// The variables of each dialect's own program.
fn dialect_variables(env: &impl Fn(&str) -> Option<OsString>) -> BTreeMap<&'static str, OwnVariables> {
    let dialects = Dialects::default();
    let of = |kind: &DialectKind| {
        let variables = dialects.of(*kind).variables().iter();
        let set = variables.filter_map(|(flag, name)| Some((*flag, (*name, env(name)?.into_string().ok()?))));
        (kind.name(), set.collect())
    };
    DialectKind::ALL.iter().map(of).collect()
}

fn unreadable(origin: Origin, message: String) -> Problem {
    Problem {
        key: String::new(),
        origin,
        message,
        hint: None,
    }
}

/// What is longer is no file of settings: `/dev/zero` has no end.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: &Path, base: &Base) -> std::io::Result<File> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    let absolute = base.directory.join(path);
    let directory = absolute.parent().unwrap_or(&base.directory).to_path_buf();
    Ok(File {
        path: path.to_path_buf(),
        text,
        base: Base {
            directory,
            home: base.home.clone(),
            processors: base.processors,
        },
    })
}
