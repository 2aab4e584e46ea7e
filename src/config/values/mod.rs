//! What the settings are: plain values with their defaults.

mod app;
mod broker;
mod dialects;
mod pool;
mod protocol;
mod schedule;

use core::net::SocketAddr; // the value alone, where nothing is listened on
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::job::PoolName;
use crate::policy::memory::MemoryLimit;
use crate::policy::permits::Permits;

pub use app::{AppConfig, Immortal, Isolation, RuntimeKind};
pub use broker::BrokerConfig;
pub use dialects::{DialectKind, Dialects};
pub use pool::{BATCH_SIZE_MAX, PoolConfig, TaskConfig, TaskInput, TaskOutput};
pub use protocol::Protocol;
pub use schedule::{Arguments, ScheduleConfig};

/// All settings of one supervisor, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Where jobs wait.
    pub broker: BrokerConfig,
    /// The control socket.
    pub socket: PathBuf,
    /// The file of the history of decisions.
    pub history: PathBuf,
    /// What is loaded and forked.
    pub app: AppConfig,
    /// What holds for all pools together.
    pub supervisor: SupervisorConfig,
    /// At least one pool; the command line describes `default`.
    pub pools: BTreeMap<PoolName, PoolConfig>,
    /// Per-task settings, and the command runtime's programs.
    pub tasks: BTreeMap<Arc<str>, TaskConfig>,
    /// Jobs that are enqueued again and again.
    pub schedules: BTreeMap<Arc<str>, ScheduleConfig>,
    /// Metrics over HTTP.
    pub metrics: MetricsConfig,
    /// Logging.
    pub log: LogConfig,
}

impl Config {
    /// The most workers that all pools have together.
    pub fn max_workers(&self) -> u32 {
        self.pools
            .values()
            .map(|pool| pool.max_workers)
            .fold(0, u32::saturating_add)
    }
}

/// `[supervisor]`: what holds for all pools together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SupervisorConfig {
    /// Most workers of all pools together; `None`: no limit but those of the pools.
    pub max_total_workers: Option<u32>,
    /// PSS of templates and workers above which no worker is added; `None`: no limit.
    pub max_total_memory: Option<MemoryLimit>,
    /// What there is of each kind of permits, for all pools together.
    pub permits: Permits,
    /// It ends when no job was in hand for so long; `None`: it stays.
    pub max_idle_time: Option<Duration>,
    /// A file that its process id is written to.
    pub pid_file: Option<PathBuf>,
    /// Whether decisions are kept.
    pub history: History,
    /// It ends when `max_jobs` were run and nobody is left to go on: in a burst, and with one worker in all. Else a
    /// worker that ran `max_jobs` is replaced. No key: the dialect of the jobs says it.
    pub ends_after_max_jobs: bool,
}

/// `supervisor.history`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// In a file.
    #[default]
    File,
    /// Not at all.
    None,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where `GET /metrics` is answered; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// The file with the token that a client has to show; `None`: it needs none.
    pub token_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `pool=debug`.
    pub level: String,
    /// A line for each job that ends well, and at the level `debug` for each that begins.
    pub jobs: bool,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            format: LogFormat::Text,
            level: "info".to_owned(),
            jobs: true,
        }
    }
}
