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
    Load(Box<Load>),
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
    /// Import the modules of `modules`, too, once hooks have run: to find out whether they can be (python).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub import_modules: bool,
    /// Tasks to look for once all is loaded: to find out whether they are there (python).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub find_tasks: Vec<String>,
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
    /// Make what is loaded immortal, where the interpreter can (python).
    pub immortal: bool,
    /// Forks of workers leave nothing out of what is registered for forks (python).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_fork_hooks: bool,
    /// A worker forks a process for each of its jobs (python).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// The dialect in which jobs are written, where the runtime runs others than its own; empty: its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dialect: String,
    /// What the dialect's runner needs to know; only it reads them.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub options: serde_json::Map<String, serde_json::Value>,
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
    /// What it reads on standard input.
    #[serde(default)]
    pub stdin: CommandInput,
    /// What its standard output becomes.
    #[serde(default)]
    pub stdout: CommandOutput,
    /// Where output goes that is kept as a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_directory: Option<String>,
    /// Most address space of each of its processes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<u64>,
    /// Most processor time of each of its processes, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpu_s: Option<u64>,
}

/// What a command reads on standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandInput {
    /// The job's data as it is.
    #[default]
    Json,
    /// The text of a JSON string.
    Raw,
    /// The bytes that a JSON string, or an object with `base64`, holds in base64.
    Base64,
}

/// What a command's standard output becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandOutput {
    /// JSON as it is, text as a string, other bytes in base64.
    #[default]
    Auto,
    /// A string.
    Text,
    /// In base64.
    Base64,
    /// A file.
    File,
}

/// Template to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromTemplate {
    /// Ahead of `ready`: a part of what the application says about its broker, see [`super::facts`].
    Facts {
        /// The next piece of one text.
        part: String,
    },
    /// The app is loaded; forks may be asked for.
    Ready(Box<LoadReport>),
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
        /// The most memory that it had resident at once, in bytes, where its template knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_memory: Option<u64>,
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
    /// Those of [`Load::find_tasks`] that are not there, each with the reason.
    pub unknown_tasks: BTreeMap<String, String>,
    /// Tasks that take their jobs in batches, by name.
    pub batches: BTreeMap<String, BatchTask>,
    /// Seconds from start to ready.
    pub load_s: f64,
    /// Bytes collapsed into huge pages.
    pub collapsed_bytes: u64,
    /// Why the heap was not collapsed, if it was not.
    pub collapse_skipped: Option<String>,
    /// Preloaded objects that were made immortal (python).
    pub immortal_objects: u64,
    /// Bytes of the pages that hold their reference counts: what a worker does not copy when it reads them all.
    pub immortal_bytes: u64,
    /// Seconds that this took.
    pub immortal_s: f64,
    /// Why there are none, where there could be.
    pub immortal_skipped: Option<String>,
    /// Fork-safety: what workers would share or miss, each with culprit and remedy.
    pub warnings: Vec<String>,
    /// What of the application can't run here, a sentence each.
    pub unfit: Vec<String>,
    /// What the application says about its broker, put together from `facts` messages; `None`: nothing. It may hold
    /// passwords: not for a log.
    #[serde(skip)]
    pub facts: Option<String>,
}
