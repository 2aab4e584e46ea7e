//! Reads what the settings are made of: the file, the variables, the current directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::defaults::{self, Places};
use super::flags::{self, ClientArgs, RunArgs};
use super::keys::variable_of;
use super::problem::{ConfigErrors, Origin, Problem};
use super::render::Explained;
use super::setting::Base;
use super::validate::{self, File, Sources};
use super::{BrokerConfig, Config};

/// The settings of a supervisor: flags over `POOL_*` variables over the file over defaults.
///
/// `env` reads one environment variable; an empty one counts as not set.
///
/// # Errors
/// Every problem at once, see [`ConfigErrors`].
pub fn load(args: &RunArgs, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, ConfigErrors> {
    read_all(args, env, |_| true).map(|explained| explained.config)
}

/// The control socket for a verb that asks the supervisor, from the same sources.
///
/// # Errors
/// The problems that matter to it: a mistake in a pool's settings does not keep `pool status` from
/// asking the supervisor that runs with the settings of before.
pub fn load_socket(
    args: &ClientArgs,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, ConfigErrors> {
    read_all(&args.as_run_args(), env, Problem::concerns_clients).map(|explained| explained.config.socket)
}

/// The broker for a verb that talks to it, from the same sources.
///
/// # Errors
/// The problems that matter to it, as for [`load_socket`].
pub fn load_broker(
    args: &ClientArgs,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<BrokerConfig, ConfigErrors> {
    read_all(&args.as_run_args(), env, Problem::concerns_producers).map(|explained| explained.config.broker)
}

/// The settings with their origins, or the problems that matter.
pub(super) fn read_all(
    args: &RunArgs,
    env: impl Fn(&str) -> Option<OsString>,
    matters: impl Fn(&Problem) -> bool,
) -> Result<Explained, ConfigErrors> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    // What could not be read may be what later problems miss, so these are told first.
    let sources = sources(args, env).map_err(|problems| ConfigErrors::new(None, problems))?;
    let (explained, mut problems) = validate::validate(&sources);
    problems.retain(matters);
    match problems.as_slice() {
        [] => Ok(explained),
        _ => Err(ConfigErrors::new(sources.file.map(|file| file.path), problems)),
    }
}

/// Gathers all that was given; the error is what can't be read of it.
fn sources(args: &RunArgs, env: impl Fn(&str) -> Option<OsString>) -> Result<Sources, Vec<Problem>> {
    let mut problems = Vec::new();
    let variables = variables(&env, &mut problems);
    let directory = std::env::current_dir().unwrap_or_else(|error| {
        let message = format!("cannot tell the current directory: {error}");
        problems.push(unreadable(Origin::Default, message));
        PathBuf::new()
    });
    let home = defaults::directory(&env, "HOME");
    let base = Base { directory, home };
    let by_variable =
        || env("POOL_CONFIG").map(|path| (path.into(), Origin::Environment("POOL_CONFIG".into())));
    let by_flag = args
        .config
        .clone()
        .map(|path| (path, Origin::Flag("--config".into())));
    let named: Option<(PathBuf, Origin)> = by_flag.or_else(by_variable);
    let file = named.and_then(|(path, origin)| {
        let tell = |error| {
            let (name, path) = (origin.name(""), path.display());
            unreadable(
                origin.clone(),
                format!("`{name}` names `{path}`, which can't be read: {error}"),
            )
        };
        read(&path, &base)
            .map_err(|error| problems.push(tell(error)))
            .ok()
    });
    let flags = args.values.clone();
    let places = Places::of(&env);
    let sources = Sources {
        flags,
        variables,
        file,
        base,
        places,
    };
    if problems.is_empty() {
        Ok(sources)
    } else {
        Err(problems)
    }
}

/// The `POOL_*` variables, by the flag that each stands for.
fn variables(
    env: &impl Fn(&str) -> Option<OsString>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'static str, String> {
    let mut variables = BTreeMap::new();
    for key in flags::all() {
        let name = variable_of(key.flag);
        // RQ itself and its producers have a name of their own for this one.
        let other = || (key.flag == "key-prefix").then(|| env("RQ_KEY_PREFIX")).flatten();
        match env(&name).or_else(other).map(OsString::into_string) {
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

fn unreadable(origin: Origin, message: String) -> Problem {
    Problem {
        key: String::new(),
        origin,
        message,
        hint: None,
    }
}

fn read(path: &Path, base: &Base) -> std::io::Result<File> {
    let text = std::fs::read_to_string(path)?;
    let absolute = base.directory.join(path);
    let directory = absolute.parent().unwrap_or(&base.directory).to_path_buf();
    Ok(File {
        path: path.to_path_buf(),
        text,
        base: Base {
            directory,
            home: base.home.clone(),
        },
    })
}
