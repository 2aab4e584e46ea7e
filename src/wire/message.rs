//! The messages on a template's control socket: one JSON object a packet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest control packet in bytes; a longer report is cut by its sender.
pub const CONTROL_LEN_MAX: usize = 65_536;

/// Descriptors that come with [`ToTemplate::Fork`], in this order.
pub const FORK_DESCRIPTORS: [&str; 4] = ["job socket", "lifeline", "stdout", "stderr"];

/// Supervisor to template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToTemplate {
    /// First message: what to load.
    Load(Load),
    /// Fork one worker; its descriptors are attached, see [`FORK_DESCRIPTORS`].
    Fork {
        /// The supervisor's number for the worker, unique in its life.
        worker: u64,
        /// The pool it works for, for its process title.
        pool: String,
    },
    /// Leave; the workers stay.
    Stop,
}

/// What a template loads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Which generation this is, from 1.
    pub generation: u64,
    /// Modules to import before the first fork (python).
    pub preload: Vec<String>,
    /// Modules whose functions jobs may name (python); `preload` when empty.
    pub modules: Vec<String>,
    /// Functions to call once after the preload (dotted names; python).
    pub before_fork: Vec<String>,
    /// Functions to call in each worker (dotted names; python).
    pub after_fork: Vec<String>,
    /// Commands by task name (command).
    pub commands: BTreeMap<String, CommandTask>,
    /// Seconds between a job's interruption and the kill of its worker: how long a command
    /// has between TERM and KILL.
    pub kill_grace_s: f64,
    /// Largest result in bytes.
    pub max_result: usize,
    /// Collapse the heap into huge pages before the first fork.
    pub huge_pages: bool,
    /// A worker forks a process for each of its jobs (python).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// What RQ's jobs need; `None` under every other runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rq: Option<Box<RqLoad>>,
}

/// What a worker needs to run RQ's jobs; the names are those of `rq worker`'s options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RqLoad {
    /// Where Redis is, secrets included, as redis-py takes it: `redis://`, `rediss://`, `unix://`.
    /// With Sentinel: user, password and database of the Redis server alone count.
    pub url: String,
    /// More keyword arguments of the connection: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` …
    pub connection: BTreeMap<String, String>,
    /// The Sentinels to ask where Redis is; `None`: the URL says it.
    pub sentinel: Option<RqSentinel>,
    /// A worker's name; `{}` stands for its ordinal.
    pub worker_name: String,
    /// The queues of each pool by its name.
    pub queues: BTreeMap<String, Vec<String>>,
    /// `pickle`, `json` or a dotted name; `None`: pickle.
    pub serializer: Option<String>,
    /// Dotted names of classes in place of RQ's own.
    pub job_class: Option<String>,
    /// See `job_class`.
    pub queue_class: Option<String>,
    /// See `job_class`; it configures, and finishes the jobs that need more than a plain one.
    pub worker_class: Option<String>,
    /// Dotted names of functions, in the order of `--exception-handler`.
    pub exception_handlers: Vec<String>,
    /// Whether failed jobs are kept out of the failed registry.
    pub disable_default_exception_handler: bool,
    /// Seconds to keep results of jobs that do not say; `None`: RQ's default.
    pub results_ttl: Option<i64>,
    /// Seconds after which a silent worker is forgotten; `None`: RQ's default.
    pub worker_ttl: Option<u64>,
    /// Seconds between two signs of life of a running job; `None`: RQ's default.
    pub job_monitoring_interval: Option<u64>,
    /// Whether log lines may hold a job's description.
    pub disable_job_desc_logging: bool,
    /// Directories behind the module path.
    pub path: Vec<String>,
    /// Module of RQ's settings; the template puts its `DICT_CONFIG` in force.
    #[serde(default)]
    pub config: Option<String>,
    /// Tasks whose batches run again in halves when they fail as a whole.
    #[serde(default)]
    pub batch_split: Vec<String>,
}

/// Where Redis is found by Sentinel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RqSentinel {
    /// Host and port of each.
    pub hosts: Vec<(String, u16)>,
    /// The name that they know the primary by.
    pub service: String,
    /// Keyword arguments of the connections to the Sentinels themselves: `username`, `password` …
    #[serde(default)]
    pub connection: BTreeMap<String, String>,
}

/// A task of the command runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandTask {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Environment variables to add.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; `None`: where the template runs.
    pub directory: Option<String>,
    /// Largest standard output in bytes.
    pub max_output: usize,
}

/// Template to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromTemplate {
    /// The app is loaded; forks may be asked for.
    Ready(LoadReport),
    /// The app does not load; the template exits after this.
    Failed {
        /// What happened, in a sentence.
        error: String,
        /// Traceback; may be empty.
        #[serde(default)]
        detail: String,
    },
    /// A worker was forked.
    Forked {
        /// The worker's number.
        worker: u64,
        /// Its process id.
        pid: i32,
    },
    /// A worker could not be forked.
    ForkFailed {
        /// The worker's number.
        worker: u64,
        /// Why.
        error: String,
    },
    /// A worker ended and was reaped.
    Exited {
        /// The worker's number.
        worker: u64,
        /// Its raw wait status, as waitpid(2) gives it.
        status: i32,
    },
}

/// How a task wants its jobs gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTask {
    /// Most jobs of one call.
    pub size: u32,
    /// Longest wait for them, from the first one on, in milliseconds.
    pub linger_ms: u32,
}

/// What a template found while it loaded: the fork-safety report and figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadReport {
    /// Runtime and version, such as `python 3.11.7`.
    pub runtime: String,
    /// Tasks that it knows by name (native, command); empty where names are resolved late (python).
    pub tasks: Vec<String>,
    /// Tasks that take their jobs in batches, by name.
    pub batches: BTreeMap<String, BatchTask>,
    /// Seconds from start to ready.
    pub load_s: f64,
    /// Bytes collapsed into huge pages.
    pub collapsed_bytes: u64,
    /// Why the heap was not collapsed, if it was not.
    pub collapse_skipped: Option<String>,
    /// Fork-safety: what workers would share or miss, each with culprit and remedy.
    pub warnings: Vec<String>,
}
