//! How the Python template starts: the user's own interpreter, with our modules handed over in memory.
//!
//! `python -c BOOT` reads the modules of `python/` from descriptor [`SOURCES_FD`], a file that has no name and
//! lies on no disk. Nothing is unpacked, nothing is installed into the user's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Seek, Write};
use std::os::fd::{OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::RuntimeError;
use crate::config::AppConfig;
use crate::sys::spawn::TemplateCommand;

/// Where the template finds its modules, as one JSON object `{name: source}`.
pub const SOURCES_FD: RawFd = 5;

/// The program text that loads the modules and starts the template.
const BOOT: &str = include_str!("../../python/boot.py");

macro_rules! modules {
    ($($name:literal => $file:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../python/", $file)))),+]
    };
}

/// Each carried module with its source.
const MODULES: &[(&str, &str)] = modules! {
    "pool_job" => "pool_job.py",
    "pool_template" => "pool_template/__init__.py",
    "pool_template.areas" => "pool_template/areas.py",
    "pool_template.arenas" => "pool_template/arenas.py",
    "pool_template.at_fork" => "pool_template/at_fork.py",
    "pool_template.batch" => "pool_template/batch.py",
    "pool_template.control" => "pool_template/control.py",
    "pool_template.deadline" => "pool_template/deadline.py",
    "pool_template.errors" => "pool_template/errors.py",
    "pool_template.fork_safety" => "pool_template/fork_safety.py",
    "pool_template.frames" => "pool_template/frames.py",
    "pool_template.fresh" => "pool_template/fresh.py",
    "pool_template.huge_pages" => "pool_template/huge_pages.py",
    "pool_template.job_loop" => "pool_template/job_loop.py",
    "pool_template.lineage" => "pool_template/lineage.py",
    "pool_template.loader" => "pool_template/loader.py",
    "pool_template.main" => "pool_template/main.py",
    "pool_template.names" => "pool_template/names.py",
    "pool_template.rehearsal" => "pool_template/rehearsal.py",
    "pool_template.rq_batch" => "pool_template/rq_batch.py",
    "pool_template.rq_code" => "pool_template/rq_code.py",
    "pool_template.rq_current" => "pool_template/rq_current.py",
    "pool_template.rq_environment" => "pool_template/rq_environment.py",
    "pool_template.rq_lifecycle" => "pool_template/rq_lifecycle.py",
    "pool_template.rq_runner" => "pool_template/rq_runner.py",
    "pool_template.rq_sentinel" => "pool_template/rq_sentinel.py",
    "pool_template.rq_settings" => "pool_template/rq_settings.py",
    "pool_template.shared_api" => "pool_template/shared_api.py",
    "pool_template.signals" => "pool_template/signals.py",
    "pool_template.streams" => "pool_template/streams.py",
    "pool_template.tasks" => "pool_template/tasks.py",
    "pool_template.template" => "pool_template/template.py",
    "pool_template.title" => "pool_template/title.py",
    "pool_template.worker" => "pool_template/worker.py",
};

/// The variable and the value by which `boot.py` knows that it is not the user's: any that is not empty will do (ld.so(8)).
const BIND_NOW: (&str, &str) = ("LD_BIND_NOW", "pool");

/// How the template of a Python application is started.
pub fn template_command(app: &AppConfig) -> Result<TemplateCommand, RuntimeError> {
    let sources = sources_file().map_err(|error| RuntimeError::Prepare {
        runtime: "python",
        reason: format!("its modules can't be put into a file in memory: {error}"),
    })?;
    Ok(TemplateCommand {
        program: app.python.clone(),
        args: vec![OsString::from("-c"), OsString::from(BOOT)],
        environment: environment(app),
        directory: app.directory.clone(),
        inherit: vec![(sources, SOURCES_FD)],
    })
}

/// What the application asks for, and that the dynamic linker binds all symbols at the start: bound lazily, each worker
/// (with `isolation = "fresh"` each job) would look up again what it calls first. `boot.py` takes the variable away.
fn environment(app: &AppConfig) -> BTreeMap<String, String> {
    let mut environment = app.environment.clone();
    if std::env::var_os(BIND_NOW.0).is_none() {
        environment
            .entry(BIND_NOW.0.into())
            .or_insert_with(|| BIND_NOW.1.into());
    }
    environment
}

fn sources_file() -> std::io::Result<OwnedFd> {
    let modules: BTreeMap<_, _> = MODULES.iter().copied().collect();
    let descriptor = memfd_create("pool-python", MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(descriptor);
    file.write_all(serde_json::to_string(&modules)?.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn python_files(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                python_files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "py") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_module_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut files = Vec::new();
        python_files(&root, &mut files);
        let mut names: Vec<String> = files
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap().with_extension(""))
            .filter(|path| path != Path::new("boot"))
            .map(|path| path.to_str().unwrap().replace('/', "."))
            .map(|name| name.strip_suffix(".__init__").unwrap_or(&name).to_owned())
            .collect();
        names.sort();
        let carried: Vec<&str> = MODULES.iter().map(|(name, _)| *name).collect();
        assert_eq!(carried, names);
    }

    #[test]
    fn one_argument_of_a_program_may_be_this_long() {
        let longest = 128 << 10; // MAX_ARG_STRLEN, see execve(2)
        assert!(BOOT.len() < longest / 10);
    }
}
