//! How the Python template starts: the user's own interpreter, with our modules handed over in memory.
//!
//! `python -c BOOT` reads the modules of `python/` from descriptor [`SOURCES_FD`], a file that has no name and
//! lies on no disk. Nothing is unpacked, nothing is installed into the user's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Seek, Write};
use std::os::fd::{OwnedFd, RawFd};

use super::RuntimeError;
use crate::config::AppConfig;
use crate::sys::memory_file::memory_file;
use crate::sys::spawn::TemplateCommand;

/// Where the template finds its modules, as one JSON object `{name: source}`.
pub const SOURCES_FD: RawFd = 5;

/// The program text that loads the modules and starts the template.
const BOOT: &str = include_str!("../../python/boot.py");

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../python/", $path)))),+]
    };
}

/// The files of `python/` that the template imports, each with its text.
const FILES: &[(&str, &str)] = files![
    "pool_job.py",
    "pool_template/__init__.py",
    "pool_template/celery/__init__.py",
    "pool_template/celery/about.py",
    "pool_template/celery/application.py",
    "pool_template/celery/batches.py",
    "pool_template/celery/capture.py",
    "pool_template/celery/chores.py",
    "pool_template/celery/commands.py",
    "pool_template/celery/dialect.py",
    "pool_template/celery/facts.py",
    "pool_template/celery/gathered.py",
    "pool_template/celery/incoming.py",
    "pool_template/celery/outcome.py",
    "pool_template/celery/plans.py",
    "pool_template/celery/process.py",
    "pool_template/celery/runner.py",
    "pool_template/celery/settings.py",
    "pool_template/celery/state.py",
    "pool_template/dialects.py",
    "pool_template/jobs/__init__.py",
    "pool_template/jobs/batch.py",
    "pool_template/jobs/coroutines.py",
    "pool_template/jobs/deadline.py",
    "pool_template/jobs/dialect.py",
    "pool_template/jobs/errors.py",
    "pool_template/jobs/frames.py",
    "pool_template/jobs/functions.py",
    "pool_template/jobs/lineage.py",
    "pool_template/jobs/loop.py",
    "pool_template/jobs/names.py",
    "pool_template/jobs/progress.py",
    "pool_template/jobs/retries.py",
    "pool_template/loader.py",
    "pool_template/main.py",
    "pool_template/memory/__init__.py",
    "pool_template/memory/areas.py",
    "pool_template/memory/arenas.py",
    "pool_template/memory/heap.py",
    "pool_template/memory/huge_pages.py",
    "pool_template/memory/immortal.py",
    "pool_template/process/__init__.py",
    "pool_template/process/at_fork.py",
    "pool_template/process/control.py",
    "pool_template/process/fork_safety.py",
    "pool_template/process/fresh.py",
    "pool_template/process/lifeline.py",
    "pool_template/process/log_records.py",
    "pool_template/process/packages.py",
    "pool_template/process/shared_api.py",
    "pool_template/process/signals.py",
    "pool_template/process/streams.py",
    "pool_template/process/title.py",
    "pool_template/rehearsal.py",
    "pool_template/rq/__init__.py",
    "pool_template/rq/batch.py",
    "pool_template/rq/code.py",
    "pool_template/rq/cron.py",
    "pool_template/rq/current.py",
    "pool_template/rq/dialect.py",
    "pool_template/rq/django_tasks.py",
    "pool_template/rq/environment.py",
    "pool_template/rq/lifecycle.py",
    "pool_template/rq/outcome.py",
    "pool_template/rq/performer.py",
    "pool_template/rq/raised.py",
    "pool_template/rq/runner.py",
    "pool_template/rq/sentinel.py",
    "pool_template/rq/settings.py",
    "pool_template/rq/taken.py",
    "pool_template/template.py",
    "pool_template/worker.py",
];

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
    let modules: BTreeMap<_, _> = FILES
        .iter()
        .map(|(path, text)| (module_name(path), text))
        .collect();
    let mut file = memory_file(c"pool-python").map_err(std::io::Error::other)?;
    file.write_all(serde_json::to_string(&modules)?.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// The module that Python finds in this file.
fn module_name(path: &str) -> String {
    let name = path.strip_suffix(".py").unwrap_or(path);
    name.strip_suffix("/__init__").unwrap_or(name).replace('/', ".")
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
    fn every_file_is_carried() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        let mut files = Vec::new();
        python_files(&root, &mut files);
        let mut paths: Vec<&str> = files
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap())
            // What is installed beside the application is no part of the template.
            .filter(|path| *path != "boot.py" && !path.starts_with("poolhouse/"))
            .collect();
        paths.sort_unstable();
        let carried: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(carried, paths);
    }

    #[test]
    fn a_package_is_named_by_its_directory() {
        assert_eq!(module_name("pool_template/__init__.py"), "pool_template");
        assert_eq!(
            module_name("pool_template/jobs/loop.py"),
            "pool_template.jobs.loop"
        );
    }

    #[test]
    fn one_argument_of_a_program_may_be_this_long() {
        let longest = 128 << 10; // MAX_ARG_STRLEN, see execve(2)
        assert!(BOOT.len() < longest / 10);
    }
}
