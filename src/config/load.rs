//! Reads what the settings are made of: the file, the variables, the current directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::defaults::{Places, directory};
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

/// What a verb needs to find the broker and the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConfig {
    /// Where jobs wait.
    pub broker: BrokerConfig,
    /// The control socket.
    pub socket: PathBuf,
}

/// The settings of a verb that talks to the broker or the supervisor, from the same sources.
///
/// # Errors
/// The problems that matter to it: a mistake in a pool's settings does not keep `pool status` from
/// asking the supervisor that runs with the settings of before.
pub fn load_client(
    args: &ClientArgs,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<ClientConfig, ConfigErrors> {
    let Config { broker, socket, .. } = read_all(&args.as_run_args(), env, Problem::concerns_clients)?.config;
    Ok(ClientConfig { broker, socket })
}

/// The settings with their origins, or the problems that matter.
pub(super) fn read_all(
    args: &RunArgs,
    env: impl Fn(&str) -> Option<OsString>,
    matters: impl Fn(&Problem) -> bool,
) -> Result<Explained, ConfigErrors> {
    let (sources, mut problems) = sources(args, env);
    let (explained, more) = validate::validate(&sources);
    problems.extend(more);
    problems.retain(matters);
    match problems.as_slice() {
        [] => Ok(explained),
        _ => Err(ConfigErrors::new(sources.file.map(|file| file.path), problems)),
    }
}

/// Gathers; what can't be read is left out and reported.
fn sources(args: &RunArgs, env: impl Fn(&str) -> Option<OsString>) -> (Sources, Vec<Problem>) {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut problems = Vec::new();
    let mut problem = |origin: Origin, message: String| {
        problems.push(Problem {
            key: String::new(),
            origin,
            message,
            hint: None,
        });
    };

    let mut variables = BTreeMap::new();
    for key in flags::all() {
        let name = variable_of(key.flag);
        match env(&name).map(OsString::into_string) {
            Some(Ok(value)) => drop(variables.insert(key.flag, value)),
            Some(Err(_)) => problem(
                Origin::Environment(name.clone()),
                format!("`{name}` is not UTF-8"),
            ),
            None => {}
        }
    }
    let current = std::env::current_dir().unwrap_or_else(|error| {
        problem(
            Origin::Default,
            format!("cannot tell the current directory: {error}"),
        );
        PathBuf::from("/")
    });
    let base = Base {
        directory: current,
        home: directory(&env, "HOME"),
    };
    let named = match &args.config {
        Some(path) => Some((path.clone(), Origin::Flag("--config".to_owned()))),
        None => env("POOL_CONFIG")
            .map(|path| (PathBuf::from(path), Origin::Environment("POOL_CONFIG".to_owned()))),
    };
    let file = named.and_then(|(path, origin)| match read(&path, &base) {
        Ok(file) => Some(file),
        Err(error) => {
            let name = origin.name("").to_owned();
            problem(
                origin,
                format!(
                    "`{name}` names `{}`, which can't be read: {error}",
                    path.display()
                ),
            );
            None
        }
    });
    let places = Places::of(&env);
    (
        Sources {
            flags: args.values.clone(),
            variables,
            file,
            base,
            places,
        },
        problems,
    )
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
