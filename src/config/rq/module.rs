//! Reads a module of RQ's settings, by the application's own interpreter.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use super::RqConfig;
use super::source::NAMES;
use crate::config::AppConfig;

/// Bounds itself by an alarm: the module is the user's code.
const SCRIPT: &str = include_str!("module.py");

/// The settings of the module that are read here; the error says why there are none.
pub(in crate::config) fn read(
    module: &str,
    app: &AppConfig,
    rq: &RqConfig,
) -> Result<Map<String, Value>, String> {
    let cannot = |why: String| format!("cannot read the settings module `{module}`: {why}");
    let python = app.python.display();
    let mut child = Command::new(&app.python)
        .args(["-c", SCRIPT])
        .arg(&app.directory)
        .arg(module)
        .args(&rq.path)
        .current_dir(&app.directory)
        .envs(&app.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot(format!("`{python}` can't be started: {error}")))?;
    let (answer, said) = (child.stdout.take(), child.stderr.take());
    let (answer, said) = std::thread::scope(|scope| {
        let said = scope.spawn(|| whole(said));
        (whole(answer), said.join().unwrap_or_default())
    });
    // A supervisor reaps all of its children, and may be first: how it went is told by what it wrote.
    let _ = child.wait();
    let mut all: Map<String, Value> = serde_json::from_slice(&answer).map_err(|_| {
        let said = String::from_utf8_lossy(&said);
        let last = said.trim_end().lines().last();
        cannot(last.unwrap_or("it took longer than a minute").to_owned())
    })?;
    all.retain(|name, _| NAMES.contains(&name.as_str()));
    Ok(all)
}

/// All that comes until its writer closes it, as far as it can be read.
fn whole(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What is missing makes the answer unreadable, which is told.
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
}
