//! Settings: flags, `POOL_*` environment, TOML file and defaults, in that order of strength,
//! become one checked [`Config`]. Nothing past this module sees an unchecked value.

mod defaults;
mod dialect;
mod flags;
mod flat;
mod keys;
mod load;
mod metrics;
mod options;
mod problem;
mod protocol;
mod raw;
mod reload;
mod render;
mod rq;
mod rules;
mod scalars;
mod setting;
mod size;
#[cfg(test)]
mod tests;
mod totals;
mod unknown;
mod url;
mod validate;
mod words;

use core::net::SocketAddr; // the value alone, where nothing is listened on
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use dialect::{DialectKind, Dialects};
pub use flags::{ClientArgs, Lookup, RunArgs, misspelled_variables};
pub use load::{ClientConfig, Wanted, broker_address, load, load_client};
pub use problem::{ConfigErrors, Origin, Problem};
pub use protocol::Protocol;
pub use reload::{Change, Effect, reload_changes};
pub use render::{Explained, explain};
pub use rq::RqConfig;
pub use rules::WORKERS_MAX;
pub use size::{Size, parse_size};
pub use url::{BrokerUrl, RedisUrl, encoded};
pub use words::spelled_out;

pub use crate::broker::rq::options::{DequeueStrategy, Keep};
pub use crate::job::QueueOrder;
use crate::job::{PoolName, QueueName};
pub use crate::policy::memory::{COST_UNKNOWN, MemoryLimit};
pub use crate::policy::prefetch::Prefetch;
pub use crate::policy::retry::Rules as RetryConfig;
pub use crate::policy::scaling::{Policy as ScalingPolicy, Settings as ScalingSettings};
use crate::policy::share;

/// All settings of one supervisor, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Where jobs wait.
    pub broker: BrokerConfig,
    /// The control socket.
    pub socket: PathBuf,
    /// What is loaded and forked.
    pub app: AppConfig,
    /// What holds for all pools together.
    pub supervisor: SupervisorConfig,
    /// At least one pool; the command line describes `default`.
    pub pools: BTreeMap<PoolName, PoolConfig>,
    /// Per-task settings, and the command runtime's programs.
    pub tasks: BTreeMap<Arc<str>, TaskConfig>,
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

/// `[broker]`
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Which broker.
    pub url: BrokerUrl,
    /// How long claims are held without renewal.
    pub lease: Duration,
    /// How often the lease is renewed while jobs are held; at most a third of `lease`.
    pub heartbeat: Duration,
    /// How long results can be read.
    pub result_ttl: Duration,
    /// Largest payload of a job, in bytes.
    pub max_payload: usize,
    /// Largest result of a job, in bytes.
    pub max_result: usize,
    /// The embedded broker waits for the disk at each commit (survives power loss, slower).
    pub fsync: bool,
    /// Certificates that vouch for the broker, PEM; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// Certificate by which the broker knows us, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Which protocol is spoken with it.
    pub protocol: Protocol,
    /// `[NAME]` of each dialect: what only its protocol needs.
    pub dialects: Dialects,
}

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

/// `[supervisor]`: what holds for all pools together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SupervisorConfig {
    /// Most workers of all pools together; `None`: no limit but those of the pools.
    pub max_total_workers: Option<u32>,
    /// PSS of templates and workers above which no worker is added; `None`: no limit.
    pub max_total_memory: Option<MemoryLimit>,
    /// It ends when no job was in hand for so long; `None`: it stays.
    pub max_idle_time: Option<Duration>,
    /// A file that its process id is written to.
    pub pid_file: Option<PathBuf>,
    /// It ends when `max_jobs` were run and nobody is left to go on: in a burst, and with one worker in all. Else a
    /// worker that ran `max_jobs` is replaced. No key: the dialect of the jobs says it.
    pub ends_after_max_jobs: bool,
}

/// `[pools.NAME]` over `[defaults]`
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// The queues it serves.
    pub queues: Vec<QueueName>,
    /// How it chooses among them.
    pub order: QueueOrder,
    /// Never fewer workers; may be 0.
    pub min_workers: u32,
    /// Never more; at least 1.
    pub max_workers: u32,
    /// Workers whose room no other pool's growth takes; at least `min_workers` and 1 are kept in any case.
    pub reserve_workers: u32,
    /// `policy`, and the keys of each: what decides about the number of workers.
    pub scaling: ScalingSettings,
    /// Time between decisions.
    pub scaling_period: Duration,
    /// The window that utilization is measured over.
    pub utilization_window: Duration,
    /// PSS of the whole pool above which no worker is added; `None`: no limit.
    pub max_memory: Option<MemoryLimit>,
    /// Jobs that a worker may hold beyond the one it runs.
    pub prefetch: Prefetch,
    /// Jobs after which a worker is replaced; `None`: never.
    pub max_jobs: Option<u32>,
    /// Age after which it is replaced; `None`: never.
    pub max_age: Option<Duration>,
    /// PSS above which it is replaced, in bytes; `None`: never.
    pub max_worker_memory: Option<u64>,
    /// Workers kept ready beyond those that run, where a worker ends with its job.
    pub spare_workers: u32,
    /// Longest run of a job; `None`: no limit.
    pub job_timeout: Option<Duration>,
    /// From a job's interruption to the kill of its worker.
    pub kill_grace: Duration,
    /// From the first TERM to giving running jobs back.
    pub stop_timeout: Duration,
    /// How failed jobs are run again.
    pub retry: RetryConfig,
}

impl PoolConfig {
    /// Workers that the pool may always have, whatever the others of its supervisor take.
    pub fn floor(&self) -> u32 {
        share::floor(self.min_workers, self.max_workers, self.reserve_workers)
    }
}

/// Most jobs of a batch: all of them are held in memory, and go out in a row.
pub const BATCH_SIZE_MAX: u32 = 4096;

/// `[tasks.NAME]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskConfig {
    /// Program and arguments (command runtime); empty elsewhere.
    pub command: Vec<String>,
    /// Longest run.
    pub timeout: Option<Duration>,
    /// Runs after the first that failed.
    pub retries: Option<u32>,
    /// Environment variables to add (command runtime).
    pub environment: BTreeMap<String, String>,
    /// Where it runs (command runtime).
    pub directory: Option<PathBuf>,
    /// Largest standard output in bytes (command runtime).
    pub max_output: Option<usize>,
    /// Most jobs of one call; `None`: what the code says.
    pub batch_size: Option<u32>,
    /// Longest wait for a batch to fill; `None`: what the code says.
    pub batch_linger: Option<Duration>,
    /// A batch that fails as a whole is run again in halves.
    pub batch_split: bool,
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
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` text.
    Text,
    /// One JSON object a line.
    Json,
}
