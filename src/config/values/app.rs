//! `[app]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::dialects::DialectKind;

/// `[app]`
#[derive(Clone, Debug, PartialEq)]
pub struct AppConfig {
    /// Which template.
    pub runtime: RuntimeKind,
    /// The interpreter (python).
    pub python: PathBuf,
    /// The program that carries the tasks (native); `None`: this one.
    pub program: Option<PathBuf>,
    /// Where the template runs; also first on Python's module path.
    pub directory: PathBuf,
    /// Environment variables to add.
    pub environment: BTreeMap<String, String>,
    /// Modules imported before the first fork (python).
    pub preload: Vec<String>,
    /// Modules whose functions jobs may name (python); `preload` when empty.
    pub modules: Vec<String>,
    /// Functions called once after the preload (python).
    pub before_fork: Vec<String>,
    /// Functions called in each new worker (python).
    pub after_fork: Vec<String>,
    /// Many jobs a worker, or one.
    pub isolation: Isolation,
    /// Collapse the template's heap into huge pages before the first fork.
    pub huge_pages: bool,
    /// Whether what is loaded is made immortal, so that workers do not copy what they only read (python).
    pub immortal: Immortal,
    /// Forks of workers leave out what the standard library resets in forked processes (python).
    pub fast_forks: bool,
    /// Longest load before it counts as failed.
    pub load_timeout: Duration,
}

impl AppConfig {
    /// With `isolation = "fresh"`: whether a worker lives on and forks a process for each of its jobs by itself, as the
    /// Python template's do; else a worker is that process, and ends with its job.
    pub fn worker_forks(&self) -> bool {
        self.isolation == Isolation::Fresh && self.runtime.is_python()
    }
}

/// `app.runtime`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Rust tasks of this or the user's own binary.
    Native,
    /// Programs named in the config.
    Command,
    /// Python functions.
    Python,
    /// Jobs of a dialect, on the Python template.
    Dialect(DialectKind),
}

impl RuntimeKind {
    /// All of them.
    pub fn all() -> impl Iterator<Item = RuntimeKind> {
        let dialects = DialectKind::ALL.iter().copied().map(RuntimeKind::Dialect);
        [RuntimeKind::Native, RuntimeKind::Command, RuntimeKind::Python]
            .into_iter()
            .chain(dialects)
    }

    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            RuntimeKind::Native => "native",
            RuntimeKind::Command => "command",
            RuntimeKind::Python => "python",
            RuntimeKind::Dialect(kind) => kind.name(),
        }
    }

    /// The dialect whose jobs it runs; `None`: those of this program's own protocol.
    pub fn dialect(self) -> Option<DialectKind> {
        match self {
            RuntimeKind::Dialect(kind) => Some(kind),
            RuntimeKind::Native | RuntimeKind::Command | RuntimeKind::Python => None,
        }
    }

    /// Its template is Python's.
    pub fn is_python(self) -> bool {
        matches!(self, RuntimeKind::Python | RuntimeKind::Dialect(_))
    }
}

/// `app.isolation`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A worker runs many jobs.
    Warm,
    /// Each job has a process of its own, forked ahead.
    Fresh,
}

/// `app.immortal`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immortal {
    /// Where the interpreter can.
    Auto,
    /// The same, and a warning where it can't.
    Always,
    /// Nowhere.
    Never,
}

impl Default for AppConfig {
    fn default() -> Self {
        AppConfig {
            runtime: RuntimeKind::Native,
            python: PathBuf::from("python3"),
            program: None,
            directory: PathBuf::from("."),
            environment: BTreeMap::new(),
            preload: Vec::new(),
            modules: Vec::new(),
            before_fork: Vec::new(),
            after_fork: Vec::new(),
            isolation: Isolation::Warm,
            huge_pages: true,
            immortal: Immortal::Auto,
            fast_forks: true,
            load_timeout: Duration::from_secs(300),
        }
    }
}
