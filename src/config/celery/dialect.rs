//! Celery as a dialect: what the rest of `config/` asks of it.

use std::time::Duration;

use super::{CeleryConfig, line};
use crate::broker;
use crate::broker::celery::options::Options;
use crate::config::dialect::{Dialect, Env, Line, Settings, Word};
use crate::config::explained::Explained;
use crate::config::findings::Rules;
use crate::config::problem::Problem;
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::url::BrokerUrl;
use crate::config::values::{BrokerConfig, Config, DialectKind};

/// How long what we hold outlives us before a peer takes it, if nobody says.
const LEASE: Duration = Duration::from_secs(30);
/// From a hard time limit to the kill, as in Celery. Source: `billiard/pool.py`, `on_hard_timeout`.
const KILL_GRACE: Duration = Duration::from_millis(100);
/// How long running tasks get at a stop. A stock worker waits without a limit; a task that was acknowledged when it began
/// would be lost.
const STOP_TIMEOUT: Duration = Duration::from_secs(3600);

impl Dialect for CeleryConfig {
    fn kind(&self) -> DialectKind {
        DialectKind::Celery
    }

    fn title(&self) -> &'static str {
        "Celery"
    }

    fn heading(&self) -> &'static str {
        "Celery (runtime celery); `pool celery -A proj worker …` takes the words of `celery worker`"
    }

    fn words(&self) -> &'static [Word] {
        &[]
    }

    fn lines(&self) -> &'static [Line] {
        &line::LINES
    }

    fn short_of(&self, flag: &str) -> Option<char> {
        (flag == "app").then_some('A')
    }

    fn spelled_out(&self, _word: &str) -> Option<&'static str> {
        None
    }

    fn gives_way(&self, earlier: &str, later: &str) -> bool {
        line::gives_way(earlier, later)
    }

    fn refused_value(&self, _flag: &str, _text: &str) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Its others are read by Celery itself, in the template.
    fn variables(&self) -> &'static [(&'static str, &'static str)] {
        &[("app", "CELERY_APP")]
    }

    fn variable_problem(&self, _name: &str, _text: &str) -> Option<Problem> {
        None
    }

    fn config_hint(&self) -> &'static str {
        "a module of Celery's settings is named by `--celery-config`"
    }

    fn default_broker(&self) -> &'static str {
        "app:"
    }

    fn own_place(&self) -> Option<BrokerUrl> {
        Some(BrokerUrl::App(self.app.clone()))
    }

    fn be_led_by(&mut self, url: &BrokerUrl) {
        if let BrokerUrl::App(name) = url
            && !name.is_empty()
        {
            self.app.clone_from(name);
        }
    }

    fn is_spoken_at(&self, url: &BrokerUrl) -> bool {
        matches!(url, BrokerUrl::Redis(_) | BrokerUrl::Kombu(_) | BrokerUrl::App(_))
    }

    /// At a Redis that somebody names alone, jobs may be of another program.
    fn is_guessed_at(&self, url: &BrokerUrl) -> bool {
        matches!(url, BrokerUrl::Kombu(_) | BrokerUrl::App(_))
    }

    fn place(&self) -> (&'static str, &'static str) {
        ("Redis", "redis://HOST")
    }

    fn app_names_broker(&self) -> bool {
        true
    }

    fn misses_app(&self) -> Option<&'static str> {
        self.app
            .is_empty()
            .then_some("name the application in place of the server: `--broker app:proj`")
    }

    fn purges_at_start(&self) -> bool {
        self.purge
    }

    fn broker_options(&self, broker: &BrokerConfig, facts: &str) -> Option<broker::Options> {
        Some(broker::Options::Celery(Box::new(Options {
            facts: facts.to_owned(),
            lease: broker.lease,
            heartbeat: broker.heartbeat,
            payload_len_max: broker.max_payload,
        })))
    }

    fn keys_of_jobs(&self) -> &'static [&'static str] {
        &["celery.app"]
    }

    fn give_way(&mut self, config: &mut Config, is_set: &dyn Fn(&str) -> bool) {
        if config.app.runtime.dialect() != Some(DialectKind::Celery) {
            return;
        }
        let broker = &mut config.broker;
        if !is_set("broker.lease") && !is_set("broker.heartbeat") {
            broker.lease = LEASE;
            broker.heartbeat = LEASE / 4;
        }
        for (name, pool) in &mut config.pools {
            let unset = |key: &str| !is_set(&format!("pools.{}.{key}", bare_or_quoted(name.as_str())));
            if unset("queues") {
                pool.queues.clear();
            }
            if unset("kill_grace") {
                pool.kill_grace = KILL_GRACE;
            }
            if unset("stop_timeout") {
                pool.stop_timeout = STOP_TIMEOUT;
            }
        }
    }

    fn read(&self, _explained: &Explained, _env: Env<'_>) -> Result<Option<Settings>, Problem> {
        Ok(None)
    }

    fn check(&self, config: &Config, rules: &mut Rules<'_>) {
        rules.celery(self, config);
    }
}
