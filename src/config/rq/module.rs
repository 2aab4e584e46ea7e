//! Reads a module of RQ's settings, by the application's own interpreter.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use super::RqConfig;
use super::source::NAMES;
use crate::config::values::AppConfig;
use crate::sys::memory_file::memory_file;
use crate::time::Human;

/// How long the module may take: it is the user's code.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer, and of what the module prints, that are read.
const ANSWER_LEN_MAX: usize = 1 << 20;
/// Prints the settings.
const SCRIPT: &str = include_str!("module.py");

/// The settings of the module that are read here; the error says why there are none.
pub(in crate::config) fn read(
    module: &str,
    app: &AppConfig,
    rq: &RqConfig,
) -> Result<Map<String, Value>, String> {
    let cannot = |why: String| format!("cannot read the settings module `{module}`: {why}");
    let python = app.python.display();
    // Files, not pipes: what the module starts may keep these open for as long as it likes.
    let file = || memory_file(c"pool-settings");
    let (answer, said) = file()
        .and_then(|answer| Ok((answer, file()?)))
        .map_err(|error| cannot(format!("there is no room for its answer: {error}")))?;
    let copy = |file: &File| file.try_clone().map_err(|error| cannot(error.to_string()));
    let mut child = Command::new(&app.python)
        .args(["-c", SCRIPT])
        .arg(&app.directory)
        .arg(module)
        .args(&rq.path)
        .current_dir(&app.directory)
        .envs(&app.environment)
        .stdin(Stdio::null())
        .stdout(copy(&answer)?)
        .stderr(copy(&said)?)
        .spawn()
        .map_err(|error| cannot(format!("`{python}` can't be started: {error}")))?;
    let ended = wait(&mut child).map_err(|error| cannot(format!("no thread can be started: {error}")))?;
    let said = String::from_utf8_lossy(&beginning(&said)).into_owned();
    let last = said.trim_end().lines().last().map(str::to_owned);
    let mut all: Map<String, Value> = match serde_json::from_slice(&beginning(&answer)) {
        Ok(all) => all,
        Err(_) if !ended => return Err(cannot(format!("it took longer than {}", Human(PATIENCE)))),
        Err(_) => return Err(cannot(last.unwrap_or("it ended without an answer".to_owned()))),
    };
    all.retain(|name, _| NAMES.contains(&name.as_str()));
    Ok(all)
}

/// Waits for the end of the program, and kills it after a while. Returns whether it ended by itself. The error is that
/// of the thread that waits.
fn wait(child: &mut Child) -> std::io::Result<bool> {
    let (ended, on_end) = mpsc::channel();
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive ints"));
    std::thread::scope(|scope| {
        // A supervisor reaps all of its children, and may be first: then the wait is an error, and over too.
        let waiting = || ended.send(child.wait().is_ok());
        std::thread::Builder::new().spawn_scoped(scope, waiting)?;
        if on_end.recv_timeout(PATIENCE).is_ok() {
            return Ok(true);
        }
        // It is not reaped: the thread would have said so.
        let _ = kill(pid, Signal::SIGKILL);
        Ok(false)
    })
}

/// The first bytes of a file, as many as an answer may have.
fn beginning(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; ANSWER_LEN_MAX];
    // What is missing makes the answer unreadable, which is told.
    let len = file.read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Mono;

    fn settings(text: &str) -> Result<Map<String, Value>, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("their_settings.py"), text).unwrap();
        let app = AppConfig {
            directory: dir.path().to_owned(),
            ..AppConfig::default()
        };
        read("their_settings", &app, &RqConfig::default())
    }

    #[test]
    fn a_child_that_holds_its_output_holds_nobody_up() {
        // Both ways to leave one: a program, and a copy that keeps each descriptor.
        let began = Mono::now();
        let text = "import os, subprocess, sys\n\
                    pids = [subprocess.Popen(['sleep', '50']).pid, os.fork()]\n\
                    if not pids[1]: os.execvp('sleep', ['sleep', '50'])\n\
                    REDIS_HOST = 'h'\nQUEUES = pids";
        let found = settings(text).unwrap();
        assert_eq!(found["REDIS_HOST"], "h");
        assert!(Mono::now().since(began) < Duration::from_secs(40));
        for pid in found["QUEUES"].as_array().unwrap() {
            let pid = i32::try_from(pid.as_i64().unwrap()).unwrap();
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    #[test]
    fn why_there_are_none_is_said() {
        let error = settings("import no_such_module").unwrap_err();
        let expected = "cannot read the settings module `their_settings`: \
                        ModuleNotFoundError: No module named 'no_such_module'";
        assert_eq!(error, expected);
    }
}
