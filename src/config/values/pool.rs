//! `[pools.NAME]`, `[tasks.NAME]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::scalars::max_workers::PerProcessor;
use crate::job::{QueueName, QueueOrder};
use crate::policy::floors::Floors;
use crate::policy::memory::MemoryLimit;
use crate::policy::permits::Permits;
use crate::policy::prefetch::Prefetch;
use crate::policy::retry::Rules as RetryConfig;
use crate::policy::scaling::Settings as ScalingSettings;
use crate::policy::share;

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
    /// What that comes from, if it is not a number that was given.
    pub max_workers_from: Option<PerProcessor>,
    /// Times of day at which `min_workers` is higher.
    pub floors: Floors,
    /// Workers whose room no other pool's growth takes; at least `min_workers` and 1 are kept in any case.
    pub reserve_workers: u32,
    /// `policy`, and the keys of each: what decides about the number of workers.
    pub scaling: ScalingSettings,
    /// Time between decisions.
    pub scaling_period: Duration,
    /// The window that utilization is measured over.
    pub utilization_window: Duration,
    /// What each worker takes of `supervisor.permits`.
    pub permits: Permits,
    /// How long growth is held that brought no throughput; 0: it is not looked at.
    pub throughput_hold: Duration,
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
    /// Private memory above which it is replaced, in bytes; `None`: never.
    pub max_worker_private: Option<u64>,
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
    /// The least that `max_workers` may be.
    pub fn least_maximum(&self) -> u32 {
        self.min_workers
            .max(self.floors.highest())
            .max(self.reserve_workers)
    }

    /// Workers that the pool may always have, whatever the others of its supervisor take, at its busiest time of day.
    pub fn floor(&self) -> u32 {
        let min = self.min_workers.max(self.floors.highest());
        share::floor(min, self.max_workers, self.reserve_workers)
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
    /// What the program reads on standard input (command runtime).
    pub stdin: TaskInput,
    /// What its standard output becomes (command runtime).
    pub stdout: TaskOutput,
    /// Where output goes that is kept as a file (command runtime).
    pub output_directory: Option<PathBuf>,
    /// Largest standard output in bytes (command runtime).
    pub max_output: Option<usize>,
    /// Most address space of each process of the program, in bytes (command runtime).
    pub max_memory: Option<u64>,
    /// Most processor time of each process of the program (command runtime).
    pub max_cpu_time: Option<Duration>,
    /// Most jobs of one call; `None`: what the code says.
    pub batch_size: Option<u32>,
    /// Longest wait for a batch to fill; `None`: what the code says.
    pub batch_linger: Option<Duration>,
    /// A batch that fails as a whole is run again in halves.
    pub batch_split: bool,
}

/// `tasks.NAME.stdin`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskInput {
    /// The job's data as it was enqueued.
    #[default]
    Json,
    /// The text of a JSON string.
    Raw,
    /// The bytes that a JSON string, or `{"base64": …}`, holds in base64.
    Base64,
}

/// `tasks.NAME.stdout`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskOutput {
    /// JSON as it is, other text as a string, bytes that are no text in base64.
    #[default]
    Auto,
    /// A string.
    Text,
    /// In base64, whatever it is.
    Base64,
    /// A file of its own, of which the result tells the path.
    File,
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            queues: vec![QueueName::new("default").expect("a valid name")],
            order: QueueOrder::Strict,
            min_workers: 2,
            max_workers: 5,
            max_workers_from: None,
            floors: Floors::default(),
            reserve_workers: 0,
            scaling: ScalingSettings::default(),
            scaling_period: Duration::from_secs(5),
            utilization_window: Duration::from_secs(30),
            permits: Permits::default(),
            throughput_hold: Duration::ZERO,
            max_memory: None,
            prefetch: Prefetch::Auto,
            max_jobs: None,
            max_age: None,
            max_worker_memory: None,
            max_worker_private: None,
            spare_workers: 1,
            // As elsewhere: a limit that nobody asked for would kill work that is meant to be long.
            job_timeout: None,
            kill_grace: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(60),
            retry: RetryConfig::default(),
        }
    }
}

/// No retries: only its author knows whether a job may run twice.
impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            retries: 0,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            max_worker_losses: 3,
        }
    }
}
