//! The default file of the embedded broker serves every project that names no broker. A supervisor says so when the last
//! one that used the file ran another project: jobs of the one are unknown to the other.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{BrokerUrl, Config, Explained, Origin};

/// Notes which directory's application is served from the default file. Says so if that was another one before.
pub fn note_project(explained: &Explained) {
    let config = &explained.config;
    let is_default = config.file.is_none() && *explained.origin("broker.url") == Origin::Default;
    let (true, BrokerUrl::Sqlite(file)) = (is_default, &config.broker.url) else {
        return;
    };
    match replace(&beside(file), &project(config)) {
        Ok(Some(before)) => tracing::warn!(
            broker = %config.broker.url,
            before,
            "the default broker was used for another directory before, and has its jobs too; give each project its own: \
             --broker sqlite:PATH, or an empty pool.toml in its directory"
        ),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "can't note whose application uses the default broker"),
    }
}

/// The directory of the application.
fn project(config: &Config) -> String {
    let directory = &config.app.directory;
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.clone());
    directory.display().to_string()
}

/// The file that names the project: `pool.db.project`.
fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".project");
    PathBuf::from(name)
}

/// Writes the text; returns what was there if it was something else.
fn replace(path: &Path, text: &str) -> io::Result<Option<String>> {
    let before = match std::fs::read_to_string(path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if before.as_deref() == Some(text) {
        return Ok(None);
    }
    std::fs::write(path, text)?;
    Ok(before)
}
