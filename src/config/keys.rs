//! Every key of the configuration, once: its name, its flag, its field, its meaning.
//!
//! Files, flags, variables, `--help`, `check`, reloads and the example file all walk these tables.
//! A key's type is its field's (see `scalars/`), its default the `Default` of its section. `jobs.rs` has the tables of tasks and schedules.

mod jobs;

use std::collections::BTreeMap;

use super::scalars::Program;
use super::scalars::max_workers::MaxWorkers;
use super::scalars::setting::Setting;
use super::values::{
    AppConfig, BrokerConfig, DialectKind, LogConfig, MetricsConfig, PoolConfig, SupervisorConfig,
};

/// What is known of a key besides its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its name in its table.
    pub name: &'static str,
    /// Its flag without dashes; empty: it has none.
    pub flag: &'static str,
    /// What its value is, for `--help`: `TIME`, `N` …
    pub value: &'static str,
    /// What it means, in a line of prose without a full stop; `{dialects}` stands for their names.
    pub meaning: &'static str,
}

impl Key {
    /// What it means, with the dialects by name.
    pub fn meaning(&self) -> String {
        let names: Vec<&str> = DialectKind::ALL.iter().map(|kind| kind.name()).collect();
        self.meaning.replace("{dialects}", &names.join(", "))
    }

    /// The environment variable that sets it, if a flag does.
    pub fn variable(&self) -> Option<String> {
        (!self.flag.is_empty()).then(|| variable_of(self.flag))
    }
}

/// The variable for a flag: `--max-workers` is `POOL_MAX_WORKERS`.
pub(super) fn variable_of(flag: &str) -> String {
    format!("POOL_{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// What a walk over a section's keys does with each.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&'static Key, &mut dyn Setting);

/// A part of the configuration whose keys can be walked.
pub(super) trait Section {
    /// Calls `visit` for each key, in the order of the documentation.
    fn each_key(&mut self, visit: Visit<'_>);
}

/// The names of a section's keys.
pub(super) fn names_of(section: &mut dyn Section) -> Vec<&'static str> {
    let mut names = Vec::new();
    section.each_key(&mut |key, _| names.push(key.name));
    names
}

/// The values of one section's keys, by name.
pub(super) fn literals(section: &mut dyn Section) -> BTreeMap<&'static str, String> {
    let mut literals = BTreeMap::new();
    section.each_key(&mut |key, setting| drop(literals.insert(key.name, setting.literal())));
    literals
}

/// `key!(name, meaning)` or `key!(name, flag VALUE, meaning)`
macro_rules! key {
    ($name:literal, $meaning:literal) => {
        &Key {
            name: $name,
            flag: "",
            value: "",
            meaning: $meaning,
        }
    };
    ($name:literal, $flag:literal $value:literal, $meaning:literal) => {
        &Key {
            name: $name,
            flag: $flag,
            value: $value,
            meaning: $meaning,
        }
    };
}
pub(super) use key;

/// The control socket, above all tables.
pub(super) const SOCKET: &Key = key!(
    "socket", "socket" "PATH",
    "Control socket; by default next to the embedded broker's file, else in $RUNTIME_DIRECTORY"
);

impl Section for BrokerConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("url", "broker" "URL", "Where jobs wait: sqlite:PATH (the embedded broker), redis://HOST ({dialects}) or memory: (tests)"),
            &mut self.url,
        );
        visit(
            key!("protocol", "protocol" "NAME", "Protocol spoken with the broker: embedded, {dialects}"),
            &mut self.protocol,
        );
        visit(
            key!("lease", "lease" "TIME", "How long a claimed job is held without renewal"),
            &mut self.lease,
        );
        visit(
            key!("heartbeat", "heartbeat" "TIME", "How often leases are renewed; at most a third of the lease"),
            &mut self.heartbeat,
        );
        visit(
            key!("result_ttl", "result-ttl" "TIME", "How long results are kept; 0 keeps none"),
            &mut self.result_ttl,
        );
        visit(
            key!("dead_ttl", "dead-ttl" "TIME", "How long the embedded broker keeps dead letters; none: for ever"),
            &mut self.dead_ttl,
        );
        visit(
            key!("max_payload", "max-payload" "SIZE", "Largest payload of a job"),
            &mut self.max_payload,
        );
        visit(
            key!("max_result", "max-result" "SIZE", "Largest result of a job"),
            &mut self.max_result,
        );
        visit(
            key!("fsync", "fsync" "BOOL", "Wait for the disk at each commit: survives power loss, slower"),
            &mut self.fsync,
        );
        visit(
            key!("tls_ca", "tls-ca" "PATH", "Certificates to check the broker's against; none: the system's (rediss)"),
            &mut self.tls_ca,
        );
        visit(
            key!("tls_cert", "tls-cert" "PATH", "Certificate to show to the broker (rediss)"),
            &mut self.tls_cert,
        );
        visit(
            key!("tls_key", "tls-key" "PATH", "Private key of that certificate (rediss)"),
            &mut self.tls_key,
        );
    }
}

impl Section for AppConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("runtime", "runtime" "RUNTIME", "What runs the jobs: native, command, python, {dialects}"),
            &mut self.runtime,
        );
        let mut python = Program(std::mem::take(&mut self.python));
        visit(
            key!("python", "python" "PATH", "Python interpreter, such as .venv/bin/python (python, {dialects})"),
            &mut python,
        );
        self.python = python.0;
        let mut program = self.program.take().map(Program);
        visit(
            key!("program", "program" "PATH", "Program with the tasks; none: this one (native)"),
            &mut program,
        );
        self.program = program.map(|program| program.0);
        visit(
            key!("directory", "directory" "PATH", "Directory to run the application in; first on Python's module path"),
            &mut self.directory,
        );
        visit(
            key!(
                "environment",
                "Environment variables to add, for the application and its jobs"
            ),
            &mut self.environment,
        );
        self.each_code_key(visit);
        visit(
            key!("isolation", "isolation" "KIND", "warm: a worker runs many jobs; fresh: each job has a process of its own"),
            &mut self.isolation,
        );
        visit(
            key!("huge_pages", "huge-pages" "BOOL", "Put the loaded heap into huge pages, which makes forks cheaper"),
            &mut self.huge_pages,
        );
        visit(
            key!("immortal", "immortal" "auto|BOOL", "Workers do not copy preloaded objects that they only read (python, {dialects}; CPython 3.12+)"),
            &mut self.immortal,
        );
        visit(
            key!("fast_forks", "fast-forks" "BOOL", "Skip resets that forked workers do not need (python, {dialects})"),
            &mut self.fast_forks,
        );
        visit(
            key!("load_timeout", "load-timeout" "TIME", "Longest time to load the application"),
            &mut self.load_timeout,
        );
    }
}

impl AppConfig {
    fn each_code_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("preload", "preload" "MODULE", "Module to import before the first fork; repeatable (python, {dialects})"),
            &mut self.preload,
        );
        visit(
            key!("modules", "module" "MODULE", "Module whose functions jobs may name; repeatable; none: those preloaded (python)"),
            &mut self.modules,
        );
        visit(
            key!("before_fork", "before-fork" "FUNCTION", "Function to call once, after the preload; repeatable (python, {dialects})"),
            &mut self.before_fork,
        );
        visit(
            key!("after_fork", "after-fork" "FUNCTION", "Function to call in each new worker; repeatable (python, {dialects})"),
            &mut self.after_fork,
        );
    }
}

impl Section for SupervisorConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("max_total_workers", "max-total-workers" "N", "Most workers in all pools together"),
            &mut self.max_total_workers,
        );
        visit(
            key!(
                "max_total_memory", "max-total-memory" "SIZE",
                "Memory (PSS) of all pools together above which no worker is added: a size or a share such as 50%"
            ),
            &mut self.max_total_memory,
        );
        visit(
            key!(
                "permits",
                "What there is downstream for all pools together, such as { database = 40 } for connections"
            ),
            &mut self.permits,
        );
        visit(
            key!("max_idle_time", "max-idle-time" "TIME", "Stop after this long without a job"),
            &mut self.max_idle_time,
        );
        visit(
            key!("pid_file", "pid-file" "PATH", "File for the supervisor's process id"),
            &mut self.pid_file,
        );
        visit(
            key!("history", "history" "KIND", "Where decisions are kept, for pool explain: file or none"),
            &mut self.history,
        );
    }
}

impl Section for PoolConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("queues", "queue" "NAME", "Queue to serve; repeatable, in order of priority"),
            &mut self.queues,
        );
        visit(
            key!("order", "order" "ORDER", "How to choose among the queues: strict, round-robin or random"),
            &mut self.order,
        );
        self.each_scaling_key(visit);
        self.each_worker_key(visit);
        self.each_job_key(visit);
    }
}

impl PoolConfig {
    fn each_scaling_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("min_workers", "min-workers" "N", "Fewest workers; may be 0"),
            &mut self.min_workers,
        );
        visit(
            key!("max_workers", "max-workers" "N", "Most workers; 2/cpu or auto: by the processors"),
            &mut MaxWorkers(&mut self.max_workers, &mut self.max_workers_from),
        );
        visit(
            key!("floors", "Times of day at which there are more workers at least"),
            &mut self.floors,
        );
        visit(
            key!(
                "permits",
                "What each worker takes of supervisor.permits, such as { database = 2 }"
            ),
            &mut self.permits,
        );
        visit(
            key!("throughput_hold", "throughput-hold" "TIME", "How long growth is held that brought no throughput; 0: it is not looked at"),
            &mut self.throughput_hold,
        );
        visit(
            key!(
                "reserve_workers", "reserve-workers" "N",
                "Workers that always have room, however far other pools grow; at least min_workers, and 1"
            ),
            &mut self.reserve_workers,
        );
        visit(
            key!("policy", "policy" "NAME", "What decides about the number of workers: utilization, or demand, which adds several at once for jobs that wait"),
            &mut self.scaling.policy,
        );
        visit(
            key!("target_wait", "target-wait" "TIME", "How long a job may wait before its pool grows at once (demand)"),
            &mut self.scaling.demand.target_wait,
        );
        visit(
            key!(
                "utilization_threshold", "utilization-threshold" "SHARE",
                "Busier than this share of the time: one worker more; below half of it: one less; auto: 0.5, or 0.8 with demand"
            ),
            &mut self.scaling.threshold,
        );
        visit(
            key!("scaling_period", "scaling-period" "TIME", "Time between scaling decisions"),
            &mut self.scaling_period,
        );
        visit(
            key!("utilization_window", "utilization-window" "TIME", "Time over which utilization is measured"),
            &mut self.utilization_window,
        );
        visit(
            key!(
                "max_memory", "max-memory" "SIZE",
                "Memory (PSS) of the pool above which no worker is added: a size or a share such as 50%"
            ),
            &mut self.max_memory,
        );
    }

    fn each_worker_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("prefetch", "prefetch" "N", "Jobs that a worker may hold besides the one it runs; auto: about 10 ms of work"),
            &mut self.prefetch,
        );
        visit(
            key!("max_jobs", "max-jobs" "N", "Jobs after which a worker is replaced; where the dialect of the jobs wants it, a single worker, and each one of a burst, ends instead"),
            &mut self.max_jobs,
        );
        visit(
            key!("max_age", "max-age" "TIME", "Age at which a worker is replaced"),
            &mut self.max_age,
        );
        visit(
            key!("max_worker_memory", "max-worker-memory" "SIZE", "Memory (PSS) above which a worker is replaced"),
            &mut self.max_worker_memory,
        );
        visit(
            key!(
                "max_worker_private", "max-worker-private" "SIZE",
                "Memory of its own, shared with no other process, above which a worker is replaced"
            ),
            &mut self.max_worker_private,
        );
        visit(
            key!("spare_workers", "spare-workers" "N", "Workers forked ahead with isolation = \"fresh\""),
            &mut self.spare_workers,
        );
    }

    fn each_job_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("job_timeout", "job-timeout" "TIME", "Longest run of a job that names no timeout"),
            &mut self.job_timeout,
        );
        visit(
            key!("kill_grace", "kill-grace" "TIME", "Time from the interruption of a job to the kill of its worker"),
            &mut self.kill_grace,
        );
        visit(
            key!("stop_timeout", "stop-timeout" "TIME", "Time that running jobs get at a stop, before they go back to their queues"),
            &mut self.stop_timeout,
        );
        visit(
            key!("retries", "retries" "N", "How often a failed job runs again, if neither job nor task says"),
            &mut self.retry.retries,
        );
        visit(
            key!("backoff", "backoff" "TIME", "Wait before the first retry; it doubles with each"),
            &mut self.retry.backoff,
        );
        visit(
            key!("backoff_max", "backoff-max" "TIME", "Longest wait before a retry"),
            &mut self.retry.backoff_max,
        );
        visit(
            key!("max_worker_losses", "max-worker-losses" "N", "Deaths of its worker after which a job is a dead letter"),
            &mut self.retry.max_worker_losses,
        );
    }
}

impl Section for MetricsConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("listen", "metrics-listen" "ADDR:PORT", "Address where Prometheus reads the metrics over HTTP, at /metrics"),
            &mut self.listen,
        );
        visit(
            key!("token_file", "metrics-token-file" "PATH", "File with the token that a reader must show; needed if others can reach the address"),
            &mut self.token_file,
        );
    }
}

impl Section for LogConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("format", "log-format" "FORMAT", "text for people, json for machines"),
            &mut self.format,
        );
        visit(
            key!("level", "log-level" "FILTER", "Level, or levels by module: info, pool=debug,warn"),
            &mut self.level,
        );
        visit(
            key!("jobs", "log-jobs" "BOOL", "A line for each job that ends well; at the level debug for each that begins, too"),
            &mut self.jobs,
        );
    }
}
