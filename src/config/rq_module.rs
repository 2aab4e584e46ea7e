//! Reads a module of RQ's settings, by the application's own interpreter.

use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use super::rq_source::NAMES;
use super::{AppConfig, RqConfig};

/// Bounds itself by an alarm: the module is the user's code.
const SCRIPT: &str = include_str!("rq_module.py");

/// The settings of the module that are read here; the error says why there are none.
pub(super) fn read(module: &str, app: &AppConfig, rq: &RqConfig) -> Result<Map<String, Value>, String> {
    let cannot = |why: String| format!("cannot read the settings module `{module}`: {why}");
    let python = app.python.display();
    let output = Command::new(&app.python)
        .args(["-c", SCRIPT])
        .arg(&app.directory)
        .arg(module)
        .args(&rq.path)
        .current_dir(&app.directory)
        .envs(&app.environment)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot(format!("`{python}` can't be started: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim_end().lines().last().unwrap_or("it says nothing");
        return Err(cannot(format!("{last} ({})", output.status)));
    }
    let mut all: Map<String, Value> =
        serde_json::from_slice(&output.stdout).map_err(|error| cannot(error.to_string()))?;
    all.retain(|name, _| NAMES.contains(&name.as_str()));
    Ok(all)
}
