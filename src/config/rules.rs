//! What values must be, by themselves and beside each other. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dialect::{DialectKind, Dialects};
use super::flat::{self, Entry};
use super::problem::{Origin, Problem};
use super::setting::bare_or_quoted;
use super::{
    AppConfig, BATCH_SIZE_MAX, BrokerConfig, Config, Isolation, LogConfig, PoolConfig, Prefetch, Protocol,
    RuntimeKind, TaskConfig,
};
use crate::time::Human;

/// Most workers of a pool: a bound on what a slip of the finger can start.
pub const WORKERS_MAX: u32 = 10_000;
/// Largest limit on payloads and results: they are held in memory.
pub const PAYLOAD_LIMIT_MAX: usize = 256 << 20;
/// Longest timeout of a job in the settings: more is a slip of the finger.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(36_500 * 86_400);
/// Longest path of a Unix socket, in bytes (`sun_path` less its final zero).
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Every rule that this configuration breaks. No rule is tried on keys in `bad`, whose values
/// could not be read.
pub(super) fn broken(
    config: &Config,
    origins: &BTreeMap<String, Origin>,
    bad: &BTreeSet<String>,
) -> Vec<Problem> {
    let entries = flat::entries(config)
        .into_iter()
        .map(|entry| (entry.path(), entry))
        .collect();
    let mut rules = Rules {
        entries,
        origins,
        bad,
        problems: Vec::new(),
    };
    rules.socket(config);
    rules.broker(&config.broker);
    rules.app(&config.app);
    rules.protocol(config);
    rules.dialects(config);
    for (name, pool) in &config.pools {
        rules.pool(
            &format!("pools.{}", bare_or_quoted(name.as_str())),
            pool,
            &config.app,
            config.supervisor.ends_after_max_jobs && config.max_workers() == 1,
        );
    }
    rules.queues_of_several_pools(config);
    rules.totals(config);
    for (name, task) in &config.tasks {
        rules.task(&format!("tasks.{}", bare_or_quoted(name)), task, config);
    }
    rules.runtime_has_tasks(config);
    rules.metrics(&config.metrics);
    rules.log(&config.log);
    rules.problems
}

/// The rules, and what they found.
pub(super) struct Rules<'a> {
    entries: BTreeMap<String, Entry>,
    origins: &'a BTreeMap<String, Origin>,
    pub(super) bad: &'a BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
}

impl Rules<'_> {
    fn socket(&mut self, config: &Config) {
        let len = config.socket.as_os_str().len();
        if len > SOCKET_PATH_LEN_MAX {
            let message = format!(
                "the control socket's path `{}` is {len} bytes long; expected {SOCKET_PATH_LEN_MAX} or fewer",
                config.socket.display()
            );
            self.add("socket", message, "name a shorter one with `--socket PATH`");
        }
    }

    fn broker(&mut self, broker: &BrokerConfig) {
        self.positive("broker.lease", broker.lease);
        self.positive("broker.heartbeat", broker.heartbeat);
        for (path, limit) in [
            ("broker.max_payload", broker.max_payload),
            ("broker.max_result", broker.max_result),
        ] {
            self.value(
                path,
                (1..=PAYLOAD_LIMIT_MAX).contains(&limit),
                "from 1 byte to 256MiB",
            );
        }
        let needed = broker.heartbeat.saturating_mul(3);
        let hint = format!(
            "a lease must outlive three heartbeats; set `broker.lease` to {} or more",
            Human(needed)
        );
        self.pair(
            "broker.lease",
            broker.lease >= needed,
            "shorter than three times",
            "broker.heartbeat",
            &hint,
        );
    }

    fn app(&mut self, app: &AppConfig) {
        self.positive("app.load_timeout", app.load_timeout);
        let defaults = flat::literals(&mut AppConfig::default());
        let python: Vec<RuntimeKind> = RuntimeKind::all().filter(|kind| kind.is_python()).collect();
        for (key, known_to) in [
            ("python", &*python),
            ("preload", &python),
            ("modules", &[RuntimeKind::Python]),
            ("before_fork", &python),
            ("after_fork", &python),
            ("program", &[RuntimeKind::Native]),
        ] {
            self.only_for(&format!("app.{key}"), &defaults[key], app.runtime, known_to);
        }
        for module in &app.preload {
            self.text(
                "app.preload",
                module,
                is_dotted(module),
                "a module such as `myapp.tasks`",
            );
        }
        for module in &app.modules {
            let ok = is_dotted(module.strip_suffix(".*").unwrap_or(module));
            self.text(
                "app.modules",
                module,
                ok,
                "a module such as `myapp.tasks`, or a package and all below it: `myapp.*`",
            );
        }
        for (key, functions) in [("before_fork", &app.before_fork), ("after_fork", &app.after_fork)] {
            for function in functions {
                let ok = is_dotted(function) && function.contains('.');
                self.text(
                    &format!("app.{key}"),
                    function,
                    ok,
                    "a function such as `myapp.hooks.connect`",
                );
            }
        }
    }

    fn pool(&mut self, at: &str, pool: &PoolConfig, app: &AppConfig, ends_with_worker: bool) {
        let path = |key: &str| format!("{at}.{key}");
        self.value(&path("queues"), !pool.queues.is_empty(), "at least one queue");
        let distinct: BTreeSet<_> = pool.queues.iter().collect();
        let ok = distinct.len() == pool.queues.len();
        self.value(&path("queues"), ok, "each queue once");
        self.scaling(at, pool);
        self.workers_and_jobs(at, pool);
        if app.isolation == Isolation::Fresh {
            self.fresh(at, pool, ends_with_worker);
        }
    }

    fn scaling(&mut self, at: &str, pool: &PoolConfig) {
        let path = |key: &str| format!("{at}.{key}");
        let ok = (1..=WORKERS_MAX).contains(&pool.max_workers);
        self.value(&path("max_workers"), ok, &format!("from 1 to {WORKERS_MAX}"));
        if pool.max_workers > 0 {
            let ok = pool.min_workers <= pool.max_workers;
            self.pair(&path("max_workers"), ok, "below", &path("min_workers"), "");
            let ok = pool.reserve_workers <= pool.max_workers;
            self.pair(&path("max_workers"), ok, "below", &path("reserve_workers"), "");
        }
        let threshold = pool.scaling.utilization.threshold;
        let ok = threshold > 0.0 && threshold <= 1.0;
        self.value(&path("utilization_threshold"), ok, "above 0, up to 1");
        self.positive(&path("scaling_period"), pool.scaling_period);
        let ok = pool.utilization_window >= pool.scaling_period;
        let (window, period) = (path("utilization_window"), path("scaling_period"));
        self.pair(&window, ok, "shorter than", &period, "");
    }

    fn workers_and_jobs(&mut self, at: &str, pool: &PoolConfig) {
        let path = |key: &str| format!("{at}.{key}");
        let ok = pool.max_jobs != Some(0);
        self.value(&path("max_jobs"), ok, "1 or more, or \"none\"");
        for (key, time) in [("max_age", pool.max_age), ("job_timeout", pool.job_timeout)] {
            let ok = time != Some(Duration::ZERO);
            self.value(&path(key), ok, "more than 0s, or \"none\"");
        }
        self.timeout(&path("job_timeout"), pool.job_timeout);
        let ok = pool.retry.backoff_max >= pool.retry.backoff;
        self.pair(&path("backoff_max"), ok, "shorter than", &path("backoff"), "");
        let ok = pool.retry.max_worker_losses > 0;
        self.value(&path("max_worker_losses"), ok, "1 or more");
    }

    /// With `isolation = "fresh"` what speaks of several jobs a worker can't hold.
    fn fresh(&mut self, at: &str, pool: &PoolConfig, ends_with_worker: bool) {
        let why = "or `app.isolation = \"warm\"`: a fresh worker runs one job";
        // The supervisor of the only worker may end with it, and so counts the jobs of its forks.
        let ok = ends_with_worker || matches!(pool.max_jobs, None | Some(0 | 1));
        self.value(&format!("{at}.max_jobs"), ok, &format!("1 {why}"));
        let ok = matches!(pool.prefetch, Prefetch::Auto | Prefetch::Fixed(0));
        self.value(&format!("{at}.prefetch"), ok, &format!("\"auto\" or 0, {why}"));
    }

    /// A flag or variable holds for every pool; the same queues for all can't be meant.
    fn queues_of_several_pools(&mut self, config: &Config) {
        let names: Vec<String> = config.pools.keys().map(|name| format!("`{name}`")).collect();
        let path = |name: &str| format!("pools.{}.queues", bare_or_quoted(name));
        let outside = config
            .pools
            .keys()
            .map(|name| path(name.as_str()))
            .find(|path| matches!(self.origin(path), Origin::Flag(_) | Origin::Environment(_)));
        if let (2.., Some(path)) = (names.len(), outside) {
            let message = format!(
                "`{}` names no pool, and the file has {}: {}",
                self.origin(&path).name(&path),
                names.len(),
                names.join(", ")
            );
            self.add(&path, message, "set `queues` in each `[pools.NAME]` of the file");
        }
    }

    fn task(&mut self, at: &str, task: &TaskConfig, config: &Config) {
        let runtime = config.app.runtime;
        let path = |key: &str| format!("{at}.{key}");
        let defaults = flat::literals(&mut TaskConfig::default());
        for key in ["command", "environment", "directory", "max_output"] {
            self.only_for(&path(key), &defaults[key], runtime, &[RuntimeKind::Command]);
        }
        if runtime == RuntimeKind::Command && task.command.is_empty() && !self.bad.contains(&path("command"))
        {
            let message = format!("`{at}.command` is missing; expected a program and its arguments");
            // The table itself is where the key is missing.
            self.add(
                &format!("{at}."),
                message,
                "for example `command = [\"convert\", \"-\", \"png:-\"]`",
            );
        }
        if let Some(program) = task.command.first() {
            self.text(
                &path("command"),
                program,
                !program.is_empty(),
                "a program's name first",
            );
        }
        self.value(
            &path("timeout"),
            task.timeout != Some(Duration::ZERO),
            "more than 0s, or \"none\"",
        );
        self.timeout(&path("timeout"), task.timeout);
        self.value(
            &path("max_output"),
            task.max_output != Some(0),
            "1 byte or more, or \"none\"",
        );
        self.value(
            &path("batch_size"),
            task.batch_size
                .is_none_or(|size| (1..=BATCH_SIZE_MAX).contains(&size)),
            "1 to 4096 jobs, or \"none\"",
        );
        let ok = task
            .max_output
            .is_none_or(|bytes| bytes <= config.broker.max_result);
        self.pair(&path("max_output"), ok, "above", "broker.max_result", "");
    }

    /// An application without a single task can't be meant.
    fn runtime_has_tasks(&mut self, config: &Config) {
        let app = &config.app;
        let (missing, hint) = match app.runtime {
            RuntimeKind::Python if app.preload.is_empty() && app.modules.is_empty() => (
                "a module in `app.preload` or `app.modules`",
                "`--preload myapp.tasks` imports the module whose functions are the tasks",
            ),
            RuntimeKind::Command if config.tasks.is_empty() => (
                "a command in `[tasks.NAME]`",
                "add `[tasks.NAME]` with `command = [\"program\", \"argument\"]` to the configuration file",
            ),
            RuntimeKind::Native | RuntimeKind::Python | RuntimeKind::Command | RuntimeKind::Dialect(_) => {
                return;
            }
        };
        if ["app.preload", "app.modules"]
            .iter()
            .any(|path| self.bad.contains(*path))
        {
            return;
        }
        let name = self.origin("app.runtime").name("app.runtime");
        let literal = self.literal("app.runtime");
        let message = format!("`{name}` is {literal}, which has no tasks; expected {missing}");
        self.add("app.runtime", message, hint);
    }

    fn log(&mut self, log: &LogConfig) {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let directive = |directive: &str| {
            let (target, level) = directive.rsplit_once('=').unwrap_or(("pool", directive));
            !target.is_empty() && LEVELS.contains(&level.to_ascii_lowercase().as_str())
        };
        let ok = log.level.split(',').all(|part| directive(part.trim()));
        let expected = format!(
            "one of {}, or levels by module such as `pool=debug,warn`",
            LEVELS.join(", ")
        );
        self.value("log.level", ok, &expected);
    }

    fn timeout(&mut self, path: &str, timeout: Option<Duration>) {
        self.value(
            path,
            timeout.is_none_or(|time| time <= TIMEOUT_MAX),
            "36500 days or less, or \"none\"",
        );
    }

    pub(super) fn positive(&mut self, path: &str, time: Duration) {
        self.value(path, time > Duration::ZERO, "more than 0s");
    }

    /// The tables of the dialects.
    fn dialects(&mut self, config: &Config) {
        // With a dialect's jobs and another runtime, that alone is the problem.
        let known_to = match config.broker.protocol {
            Protocol::Dialect(kind) => RuntimeKind::Dialect(kind),
            Protocol::Embedded => config.app.runtime,
        };
        let mut defaults = Dialects::default();
        for kind in DialectKind::ALL {
            for (key, default) in flat::literals(defaults.of_mut(*kind)) {
                let path = format!("{}.{key}", kind.name());
                self.only_for(&path, &default, known_to, &[RuntimeKind::Dialect(*kind)]);
            }
            config.broker.dialects.of(*kind).check(config, self);
        }
    }

    /// A key that was set although only other runtimes know it: it would be ignored.
    fn only_for(&mut self, path: &str, default: &str, runtime: RuntimeKind, known_to: &[RuntimeKind]) {
        if known_to.contains(&runtime) || self.literal(path) == default || self.bad.contains("app.runtime") {
            return;
        }
        let names: Vec<&str> = known_to.iter().map(|kind| kind.name()).collect();
        let runtimes = if names.len() > 1 { "runtimes" } else { "runtime" };
        let message = format!(
            "`{}` is only for the {} {runtimes}; the runtime is {}",
            self.origin(path).name(path),
            names.join(" and "),
            runtime.name()
        );
        let hint = format!(
            "set `app.runtime` to \"{}\", or leave the key out",
            names.join("\" or \"")
        );
        self.add(path, message, &hint);
    }

    /// One key's own rule.
    pub(super) fn value(&mut self, path: &str, ok: bool, expected: &str) {
        if ok || self.bad.contains(path) {
            return;
        }
        let name = self.origin(path).name(path);
        self.add(
            path,
            format!("`{name}` is {}; expected {expected}", self.shown(path)),
            "",
        );
    }

    /// One item of a list.
    pub(super) fn text(&mut self, path: &str, item: &str, ok: bool, expected: &str) {
        if ok {
            return;
        }
        let name = self.origin(path).name(path);
        self.add(path, format!("`{name}` holds {item:?}; expected {expected}"), "");
    }

    /// Two keys that must fit; the problem stands where the stronger one was set.
    pub(super) fn pair(&mut self, path: &str, ok: bool, relation: &str, other: &str, hint: &str) {
        if ok || self.bad.contains(path) || self.bad.contains(other) {
            return;
        }
        let (origin, other_origin) = (self.origin(path), self.origin(other));
        let by_default = |origin: &Origin| {
            if *origin == Origin::Default {
                " by default"
            } else {
                ""
            }
        };
        let message = format!(
            "`{}` is {}{}, {relation} `{}`, which is {}{}",
            origin.name(path),
            self.shown(path),
            by_default(origin),
            other_origin.name(other),
            self.shown(other),
            by_default(other_origin),
        );
        let stronger = if origin >= other_origin { path } else { other };
        self.add(stronger, message, hint);
    }

    pub(super) fn add(&mut self, path: &str, message: String, hint: &str) {
        self.problems.push(Problem {
            key: path.to_owned(),
            origin: self.origin(path).clone(),
            message,
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }

    pub(super) fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }

    /// Whether somebody said something about the key.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    /// Whether the key's value could not be read.
    pub(super) fn is_bad(&self, path: &str) -> bool {
        self.bad.contains(path)
    }

    fn literal(&self, path: &str) -> &str {
        self.entries.get(path).map_or("", |entry| &entry.literal)
    }

    /// The value for a message: times and sizes without the quotes that TOML wants.
    fn shown(&self, path: &str) -> &str {
        let literal = self.literal(path);
        let unquoted = literal.trim_matches('"');
        if unquoted.starts_with(|c: char| c.is_ascii_digit()) {
            unquoted
        } else {
            literal
        }
    }
}

/// A dotted Python name: identifiers with dots between.
pub(super) fn is_dotted(name: &str) -> bool {
    name.split('.').all(|part| {
        let starts = part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
        starts && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}
