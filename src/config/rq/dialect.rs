//! RQ as a dialect: what the rest of `config/` asks of it.

use super::{RqConfig, module, options, source, words};
use crate::broker;
use crate::config::dialect::{Dialect, Env, Line, Settings, Word};
use crate::config::explained::Explained;
use crate::config::findings::Rules;
use crate::config::problem::{Origin, Problem};
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::url::BrokerUrl;
use crate::config::values::{BrokerConfig, Config, DialectKind};
use crate::job::PoolName;

impl Dialect for RqConfig {
    fn kind(&self) -> DialectKind {
        DialectKind::Rq
    }

    fn title(&self) -> &'static str {
        "RQ"
    }

    fn heading(&self) -> &'static str {
        "RQ, in the words of `rq worker` (runtime rq)"
    }

    fn words(&self) -> &'static [Word] {
        &words::WORDS
    }

    fn lines(&self) -> &'static [Line] {
        &words::LINES
    }

    fn short_of(&self, flag: &str) -> Option<char> {
        words::short_of(flag)
    }

    /// `-ds` is one word in RQ, and would be `-d -s` here.
    fn spelled_out(&self, word: &str) -> Option<&'static str> {
        (word == "-ds").then_some("--dequeue-strategy")
    }

    fn gives_way(&self, earlier: &str, later: &str) -> bool {
        words::gives_way(earlier, later)
    }

    fn refused_value(&self, flag: &str, text: &str) -> Option<(&'static str, &'static str)> {
        words::refused_value(flag, text)
    }

    fn variables(&self) -> &'static [(&'static str, &'static str)] {
        &words::VARIABLES
    }

    fn variable_problem(&self, name: &str, text: &str) -> Option<Problem> {
        words::variable_problem(name, text)
    }

    fn config_hint(&self) -> &'static str {
        "a module of RQ's settings is named by `--rq-config`"
    }

    fn default_broker(&self) -> &'static str {
        "redis://localhost:6379/0"
    }

    fn is_spoken_at(&self, url: &BrokerUrl) -> bool {
        matches!(url, BrokerUrl::Redis(_))
    }

    fn place(&self) -> (&'static str, &'static str) {
        ("Redis", "redis://HOST")
    }

    fn broker_options(&self, broker: &BrokerConfig, _facts: &str) -> Option<broker::Options> {
        options::options(self, broker).map(|options| broker::Options::Rq(Box::new(options)))
    }

    fn keys_of_jobs(&self) -> &'static [&'static str] {
        &[
            "rq.key_prefix",
            "rq.queue_key_prefix",
            "rq.job_key_prefix",
            "rq.serializer",
        ]
    }

    fn give_way(&mut self, config: &mut Config, is_set: &dyn Fn(&str) -> bool) {
        let is_in_force = config.app.runtime.dialect() == Some(DialectKind::Rq);
        if is_in_force && !is_set("broker.heartbeat") {
            config.broker.heartbeat = config.broker.heartbeat.min(self.job_monitoring_interval);
        }
        config.supervisor.ends_after_max_jobs |= is_in_force;
        if let Some(strategy) = self.strategy_of_class()
            && !is_set("rq.dequeue_strategy")
        {
            self.dequeue_strategy = strategy;
        }
        if is_in_force {
            self.order_of_pools(config, is_set);
        }
        self.workers_max = config.max_workers();
    }

    fn read(&self, explained: &Explained, env: Env<'_>) -> Result<Option<Settings>, Problem> {
        let config = &explained.config;
        // As in RQ, whoever names a server names all of it.
        let wants_server = *explained.origin("broker.url") == Origin::Default;
        let values = match &self.config {
            Some(module) => module::read(module, &config.app, self).map_err(|message| Problem {
                key: "rq.config".to_owned(),
                origin: explained.origin("rq.config").clone(),
                message,
                hint: Some(
                    "its name is a dotted one, and it is looked for as a module of the application is"
                        .to_owned(),
                ),
            })?,
            None => {
                let names = source::NAMES.iter().filter(|name| name.starts_with("REDIS_"));
                let value = |name: &&str| Some(((*name).to_owned(), env(name)?.into_string().ok()?.into()));
                names.filter_map(value).collect()
            }
        };
        let said = source::said(&values, wants_server).map_err(|why| Problem {
            key: "broker.url".to_owned(),
            origin: explained.origin("rq.config").clone(),
            message: match &self.config {
                Some(module) => format!("the settings module `{module}`: {why}"),
                None => format!("the environment: {why}"),
            },
            hint: None,
        })?;
        let module = self.config.clone();
        Ok((!said.is_empty()).then_some(Settings { module, said }))
    }

    fn check(&self, config: &Config, rules: &mut Rules<'_>) {
        rules.rq(self);
        rules.rq_order(self, config);
    }
}

impl RqConfig {
    /// The strategy is another name for the order of each pool.
    fn order_of_pools(&self, config: &mut Config, is_set: &dyn Fn(&str) -> bool) {
        for (name, pool) in &mut config.pools {
            if !is_set(&order_of(name)) {
                pool.order = self.dequeue_strategy.order();
            }
        }
    }
}

/// The path of a pool's order.
pub(super) fn order_of(pool: &PoolName) -> String {
    format!("pools.{}.order", bare_or_quoted(pool.as_str()))
}
