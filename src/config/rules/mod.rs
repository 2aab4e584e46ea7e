//! What values must be, by themselves and beside each other. Pure.

mod app;
mod metrics;
mod pools;
mod protocol;
mod schedules;
mod totals;

use std::collections::{BTreeMap, BTreeSet};

use super::entries;
use super::findings::Rules;
use super::keys::literals;
use super::problem::{Origin, Problem};
use super::scalars::setting::bare_or_quoted;
use super::values::{BrokerConfig, Config, DialectKind, Dialects, LogConfig, Protocol, RuntimeKind};
use crate::time::Human;

pub use pools::WORKERS_MAX;

/// Largest limit on payloads and results: they are held in memory.
const PAYLOAD_LIMIT_MAX: usize = 256 << 20;
/// Longest path of a Unix socket, in bytes (`sun_path` less its final zero).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// Every rule that this configuration breaks. No rule is tried on keys in `bad`, whose values
/// could not be read.
pub(super) fn broken(
    config: &Config,
    origins: &BTreeMap<String, Origin>,
    bad: &BTreeSet<String>,
) -> Vec<Problem> {
    let entries = entries::all(config).into_iter();
    let mut rules = Rules {
        literals: entries.map(|entry| (entry.path(), entry.literal)).collect(),
        origins,
        bad,
        problems: Vec::new(),
        app_names_queues: config.broker.app_names_broker(),
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
    for (name, schedule) in &config.schedules {
        rules.schedule(&format!("schedules.{}", bare_or_quoted(name)), schedule, config);
    }
    rules.runtime_has_tasks(config);
    rules.metrics(&config.metrics);
    rules.log(&config.log);
    rules.problems
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

    /// The tables of the dialects.
    fn dialects(&mut self, config: &Config) {
        // With a dialect's jobs and another runtime, that alone is the problem.
        let known_to = match config.broker.protocol {
            Protocol::Dialect(kind) => RuntimeKind::Dialect(kind),
            Protocol::Embedded => config.app.runtime,
        };
        let mut defaults = Dialects::default();
        for kind in DialectKind::ALL {
            for (key, default) in literals(defaults.of_mut(*kind)) {
                let path = format!("{}.{key}", kind.name());
                self.only_for(&path, &default, known_to, &[RuntimeKind::Dialect(*kind)]);
            }
            config.broker.dialects.of(*kind).check(config, self);
        }
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
}
