//! How each runtime's template starts and what it loads, and the tasks that this crate runs itself.
//!
//! - [`executor`]: what a worker needs from a runtime: run one job;
//! - [`native`], [`task`]: typed Rust tasks, [`native::App`], `batch`: those that take many jobs a call; [`builtin`]: those of the `pool` binary itself;
//! - [`command`]: programs named in the config; `child`: one run of one; `variables`: a job in its environment;
//! - [`python`]: the interpreter and the modules that it is given; `rq`, `celery`: what jobs of RQ and Celery need besides.

mod batch;
pub mod builtin;
mod call;
mod celery;
mod child;
pub mod command;
pub mod executor;
pub mod native;
pub mod python;
pub mod report;
mod rq;
mod streams;
pub mod task;
mod variables;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, DialectKind, Immortal, RuntimeKind, TaskInput, TaskOutput};
pub use crate::sys::spawn::TemplateCommand;
use crate::wire::message::{CommandInput, CommandOutput, CommandTask, Load};

/// The hidden first argument with which a program of this crate becomes a template.
pub const TEMPLATE_ROLE: &str = "__template";

/// Length of the argument that gives the template's process title its room: the kernel shows as title what
/// stands where the arguments stood.
const TITLE_ROOM: usize = 120;

/// The share of `kill_grace` that a command has between TERM and KILL; after the rest of it the
/// supervisor kills its worker, so the worker must have spoken by then.
const COMMAND_GRACE_SHARE: f64 = 0.8;

/// Why a template can't even be described.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// This program's own file can't be named.
    #[error("cannot find this program's own file: {0}")]
    OwnProgram(#[source] std::io::Error),
    /// Its file is gone, and what ran first may be older code than what ran last.
    #[error("the program `{}` is gone; put it back", .0.display())]
    NoProgram(PathBuf),
    /// The runtime's files can't be handed over.
    #[error("cannot prepare the {runtime} runtime: {reason}")]
    Prepare {
        /// Which.
        runtime: &'static str,
        /// Why.
        reason: String,
    },
}

/// How the template of a generation is started, and what it is told to load.
pub fn template_command(config: &Config, generation: u64) -> Result<(TemplateCommand, Load), RuntimeError> {
    let load = load(config, generation);
    let mut command = match config.app.runtime {
        RuntimeKind::Native => own_binary(config, config.app.program.as_deref(), "native", generation)?,
        RuntimeKind::Command => own_binary(config, None, "command", generation)?,
        RuntimeKind::Python => python::template_command(&config.app)?,
        RuntimeKind::Dialect(DialectKind::Celery) => celery::template_command(config)?,
        RuntimeKind::Dialect(DialectKind::Rq) => {
            let mut command = python::template_command(&config.app)?;
            // RQ reads it when it is imported.
            let prefix = config.broker.dialects.rq.key_prefix.clone();
            command
                .environment
                .entry("RQ_KEY_PREFIX".to_owned())
                .or_insert(prefix);
            command
        }
    };
    // A job that enqueues others does so here, unless the settings of the application say something else.
    if let Some(url) = config.broker.url.with_secrets() {
        command.environment.entry("POOL_BROKER".to_owned()).or_insert(url);
    }
    Ok((command, load))
}

/// A template that is a program of this crate: the user's own, or `pool` itself.
fn own_binary(
    config: &Config,
    program: Option<&Path>,
    role: &str,
    generation: u64,
) -> Result<TemplateCommand, RuntimeError> {
    let program = match program {
        Some(program) => program.to_owned(),
        None => own_program(generation)?,
    };
    let args = [TEMPLATE_ROLE, role, &"-".repeat(TITLE_ROOM)];
    Ok(TemplateCommand {
        program,
        args: args.map(OsString::from).to_vec(),
        environment: config.app.environment.clone(),
        directory: config.app.directory.clone(),
        inherit: Vec::new(),
    })
}

/// The file that this program was started from, so that a reload runs what stands there now. Where it was removed before
/// any reload, the program as it runs.
fn own_program(generation: u64) -> Result<PathBuf, RuntimeError> {
    let path = std::env::current_exe().map_err(RuntimeError::OwnProgram)?;
    // A file that was replaced is shown by the kernel with this suffix.
    let replaced = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"))
        .map(PathBuf::from);
    program_at(replaced.unwrap_or(path), generation)
}

fn program_at(path: PathBuf, generation: u64) -> Result<PathBuf, RuntimeError> {
    match generation {
        _ if path.is_file() => Ok(path),
        ..=1 => Ok("/proc/self/exe".into()),
        _ => Err(RuntimeError::NoProgram(path)),
    }
}

fn load(config: &Config, generation: u64) -> Load {
    let app = &config.app;
    let grace = config.pools.values().map(|pool| pool.kill_grace).min();
    let grace = grace.unwrap_or(Duration::ZERO);
    let (dialect, options) = match app.runtime {
        RuntimeKind::Dialect(DialectKind::Rq) => ("rq".to_owned(), rq::options(config)),
        RuntimeKind::Dialect(DialectKind::Celery) => ("celery".to_owned(), celery::options(config)),
        RuntimeKind::Native | RuntimeKind::Command | RuntimeKind::Python => Default::default(),
    };
    Load {
        generation,
        preload: app.preload.clone(),
        modules: app.modules.clone(),
        import_modules: false,
        find_tasks: Vec::new(),
        before_fork: app.before_fork.clone(),
        after_fork: app.after_fork.clone(),
        commands: commands(config),
        kill_grace_s: grace.mul_f64(COMMAND_GRACE_SHARE).as_secs_f64(),
        max_result: config.broker.max_result,
        huge_pages: app.huge_pages,
        immortal: app.immortal != Immortal::Never,
        all_fork_hooks: !app.fast_forks,
        fresh: app.worker_forks(),
        dialect,
        options,
    }
}

/// The tasks of the command runtime; elsewhere `[tasks.NAME]` holds limits alone.
fn commands(config: &Config) -> std::collections::BTreeMap<String, CommandTask> {
    let max_result = config.broker.max_result;
    let with_program = config.tasks.iter().filter(|(_, task)| !task.command.is_empty());
    with_program
        .map(|(name, task)| {
            let directory = task.directory.as_ref();
            let command = CommandTask {
                command: task.command.clone(),
                environment: task.environment.clone(),
                directory: directory.map(|path| path.to_string_lossy().into_owned()),
                max_output: match task.stdout {
                    TaskOutput::File => task.max_output.unwrap_or(usize::MAX),
                    TaskOutput::Auto | TaskOutput::Text | TaskOutput::Base64 => {
                        task.max_output.unwrap_or(max_result)
                    }
                },
                stdin: match task.stdin {
                    TaskInput::Json => CommandInput::Json,
                    TaskInput::Raw => CommandInput::Raw,
                    TaskInput::Base64 => CommandInput::Base64,
                },
                stdout: match task.stdout {
                    TaskOutput::Auto => CommandOutput::Auto,
                    TaskOutput::Text => CommandOutput::Text,
                    TaskOutput::Base64 => CommandOutput::Base64,
                    TaskOutput::File => CommandOutput::File,
                },
                output_directory: task
                    .output_directory
                    .as_ref()
                    .map(|path| path.to_string_lossy().into_owned()),
                max_memory: task.max_memory,
                max_cpu_s: task.max_cpu_time.map(whole_seconds),
            };
            (name.to_string(), command)
        })
        .collect()
}

/// As the kernel counts processor time: a part of a second is one.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, RunArgs};
    use std::ffi::OsString;

    fn config(file: &str) -> Config {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut path, file.as_bytes()).unwrap();
        let args = RunArgs::from_flags(["--config".as_ref(), path.path().as_os_str()]).unwrap();
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/tmp"));
        config::load(&args, home).unwrap()
    }

    #[test]
    fn tasks_with_a_program_are_loaded_within_the_limits_of_the_pools() {
        let config = config(
            r#"
            app.runtime = "command"
            broker.max_result = "1M"
            pools.a.kill_grace = "10s"
            pools.b.kill_grace = "5s"
            [tasks.list]
            command = ["ls", "-l"]
            directory = "/usr"
            [tasks.count]
            command = ["wc"]
            max_output = "1K"
            "#,
        );
        let (command, load) = template_command(&config, 7).unwrap();
        assert_eq!(command.args[..2], ["__template", "command"]);
        assert_eq!(load.generation, 7);
        assert_eq!(load.kill_grace_s, 4.0, "below the shortest grace");
        let outputs: Vec<_> = load
            .commands
            .iter()
            .map(|(name, task)| (&**name, task.max_output))
            .collect();
        assert_eq!(outputs, [("count", 1024), ("list", 1 << 20)]);
        assert_eq!(load.commands["list"].directory.as_deref(), Some("/usr"));
    }

    #[test]
    fn a_native_template_is_this_program_or_the_one_that_is_named() {
        let gone = PathBuf::from("/no/such/program");
        assert_eq!(program_at(gone.clone(), 1).unwrap(), Path::new("/proc/self/exe"));
        let error = program_at(gone, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program `/no/such/program` is gone; put it back"
        );
        let own = template_command(&config(""), 1).unwrap().0;
        assert_eq!(own.program, std::env::current_exe().unwrap());
        assert_eq!(own.args[..2], ["__template", "native"]);
        let other = template_command(&config("app.program = \"/bin/cat\""), 1)
            .unwrap()
            .0;
        assert_eq!(other.program, Path::new("/bin/cat"));
    }
}
