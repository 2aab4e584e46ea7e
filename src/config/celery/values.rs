//! `[celery]`: what `celery worker` is told, under its own names.

use std::fmt;
use std::time::Duration;

use crate::config::url::without_secrets;

/// `[celery]`: only for the celery runtime. All else is said by the application's own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct CeleryConfig {
    /// The application, as `celery -A` takes it: `proj`, `proj.celery`, `proj:app`; empty: nobody said it.
    pub app: String,
    /// Module of the application's settings, `CELERY_CONFIG_MODULE`; `None`: the application's own.
    pub config: Option<String>,
    /// Class of the loader, `CELERY_LOADER`.
    pub loader: Option<String>,
    /// Where results go, in place of the application's setting.
    pub result_backend: Option<SecretUrl>,
    /// Modules to import besides those of the application.
    pub include: Vec<String>,
    /// Name of the node: `%h`, `%n` and `%d` stand for the host, its first part and its domain.
    pub hostname: Option<String>,
    /// Queues of the application that are not served.
    pub exclude_queues: Vec<String>,
    /// What waits in the queues of the pools is deleted at each start.
    pub purge: bool,
    /// Level of the application's own log.
    pub loglevel: Level,
    /// A task is killed after so long if it does not say itself; `None`: the application's `task_time_limit`.
    pub time_limit: Option<Duration>,
    /// A task gets `SoftTimeLimitExceeded` after so long; `None`: the application's `task_soft_time_limit`.
    pub soft_time_limit: Option<Duration>,
    /// Events of tasks are sent from the start on; else once somebody asks for them, or where the application says so.
    pub task_events: bool,
    /// Time between the events that say that the node is there; `None`: it sends none.
    pub heartbeat_interval: Option<Duration>,
    /// Other nodes are asked at the start which tasks were revoked.
    pub mingle: bool,
    /// File in which revoked tasks are remembered; `None`: the application's `worker_state_db`, if it names one.
    pub state_db: Option<String>,
    /// Django's checks are not run.
    pub skip_checks: bool,
}

/// A level of Python's logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All.
    Debug,
    /// Each task that comes and ends.
    Info,
    /// What is odd: Celery's own default.
    Warning,
    /// What failed.
    Error,
    /// What ends a program.
    Critical,
}

impl Level {
    /// Its name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
            Level::Critical => "CRITICAL",
        }
    }
}

/// A URL that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Of this text.
    pub(super) fn new(text: &str) -> Self {
        SecretUrl(text.to_owned())
    }

    /// With its password; not for a log.
    pub fn with_secrets(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_secrets(&self.0))
    }
}

/// Not derived: it would show the password.
impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

impl Default for CeleryConfig {
    fn default() -> Self {
        CeleryConfig {
            app: String::new(),
            config: None,
            loader: None,
            result_backend: None,
            include: Vec::new(),
            hostname: None,
            exclude_queues: Vec::new(),
            purge: false,
            loglevel: Level::Warning,
            time_limit: None,
            soft_time_limit: None,
            task_events: false,
            heartbeat_interval: Some(Duration::from_secs(2)),
            mingle: true,
            state_db: None,
            skip_checks: false,
        }
    }
}
