//! The settings in force, as TOML that reads back, with where each one comes from.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::flat;
use super::problem::Origin;
use super::{Config, ConfigErrors, RunArgs, load};

/// A checked configuration with the origin of each of its values.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The settings.
    pub config: Config,
    /// By path, such as `pools.mail.max_workers`; a key that is not there has its default.
    pub(super) origins: BTreeMap<String, Origin>,
}

/// Like [`load`], and remembers where each value comes from: for `pool check`.
///
/// # Errors
/// As [`load`].
pub fn explain(
    args: &RunArgs,
    env: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Explained, ConfigErrors> {
    load::read_all(args, env, |_| true)
}

impl Explained {
    /// Where the value of a key such as `pools.default.max_workers` comes from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }

    /// Every setting as TOML, each with its origin as a comment; secrets are left out.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = String::new();
        for entry in flat::entries(&self.config) {
            if entry.table != table {
                table.clone_from(&entry.table);
                let _ = write!(text, "\n[{table}]\n");
            }
            let setting = format!("{} = {}", entry.key.name, entry.literal);
            let origin = self.shown(self.origin(&entry.path()));
            let _ = writeln!(text, "{setting:<38} # {origin}");
        }
        text
    }

    fn shown(&self, origin: &Origin) -> String {
        match (origin, &self.config.file) {
            (Origin::Default, _) => "default".to_owned(),
            (Origin::Settings { name, module }, _) => match module {
                Some(module) => format!("{name} of {module}"),
                None => format!("environment {name}"),
            },
            (Origin::File { line, .. }, Some(file)) => format!("{}:{line}", file.display()),
            (Origin::File { line, .. }, None) => format!("line {line}"),
            (Origin::Environment(name), _) => format!("environment {name}"),
            (Origin::Flag(flag), _) => format!("flag {flag}"),
        }
    }
}
