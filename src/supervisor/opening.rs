//! The broker of a supervisor: there from the start, or opened once the application is loaded and says where it is.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::input::{self, Input};
use super::opened::Opened;
use super::roster::Roster;
use super::{Supervisor, SupervisorError};
use crate::broker::{Broker, BrokerError};
use crate::config::Config;
use crate::fleet::{Event, Now};
use crate::job::QueueName;
use crate::wire::message::LoadReport;

/// Opens a broker with what the application says about it.
pub type Open = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Arc<dyn Broker>, BrokerError>> + Send + Sync>;

/// Where the jobs of a supervisor are.
#[derive(Clone)]
pub enum Jobs {
    /// At this broker.
    At(Arc<dyn Broker>),
    /// At one that only the loaded application can name.
    AsTheAppSays(Open),
}

impl<B: Broker + 'static> From<Arc<B>> for Jobs {
    fn from(broker: Arc<B>) -> Self {
        Jobs::At(broker)
    }
}

impl From<Arc<dyn Broker>> for Jobs {
    fn from(broker: Arc<dyn Broker>) -> Self {
        Jobs::At(broker)
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Jobs::At(broker) => f.debug_tuple("At").field(broker).finish(),
            Jobs::AsTheAppSays(_) => f.write_str("AsTheAppSays"),
        }
    }
}

/// The broker that is open, or how it is opened.
#[derive(Default)]
pub(super) struct Opening {
    /// How; `None`: it was there from the start.
    open: Option<Open>,
    /// Templates that are loaded, and wait for the broker.
    waiting: Vec<(u64, LoadReport)>,
    /// What the application said last.
    facts: Option<String>,
}

impl Opening {
    pub fn by(open: Option<Open>) -> Self {
        Opening {
            open,
            ..Opening::default()
        }
    }

    /// What the application said last about its broker.
    pub fn facts(&self) -> Option<&str> {
        self.facts.as_deref()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = &self.waiting.len();
        f.debug_struct("Opening")
            .field("waiting", waiting)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A template is loaded. It forks once the broker is open.
    pub(super) fn loaded(&mut self, template: u64, report: LoadReport) -> Option<Event> {
        let facts = report.facts.clone();
        let (facts, open) = match (facts, &self.opening.open) {
            (facts, Some(open)) => (facts.unwrap_or_default(), open),
            (Some(facts), None) => return self.heed(template, report, facts),
            (None, None) => return Some(Event::TemplateReady { template, report }),
        };
        if self.broker.is_none() {
            if self.opening.waiting.is_empty() {
                let opened = open(facts.clone());
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    let opened = match opened.await {
                        Ok(broker) => Opened::begin(broker, input::events(&inputs)).await,
                        Err(error) => Err(error),
                    };
                    let _ = inputs.send(Input::Opened(opened));
                });
                self.opening.facts = Some(facts);
            }
            self.opening.waiting.push((template, report));
            return None;
        }
        self.heed(template, report, facts)
    }

    /// Tells the broker what the application says about it, if that is news. It may be what the application does not load for.
    fn heed(&mut self, template: u64, report: LoadReport, facts: String) -> Option<Event> {
        let broker = self
            .broker
            .clone()
            .filter(|_| self.opening.facts.as_ref() != Some(&facts));
        if let Some(broker) = broker {
            match broker.app_reloaded(&facts) {
                Ok(needs_restart) => {
                    for what in &needs_restart {
                        tracing::warn!("{what} changed: only a restart puts that in force");
                    }
                    self.reloads.need_restart_for(needs_restart);
                }
                Err(error) => {
                    let error = error.to_string();
                    self.processes.kill_template(template);
                    return Some(Event::TemplateFailed { template, error });
                }
            }
            self.schedules.load(broker.app_schedules());
            self.opening.facts = Some(facts);
        }
        Some(Event::TemplateReady { template, report })
    }

    /// The broker that the application named is open, or it can't be.
    pub(super) fn opened(&mut self, opened: Result<Opened, BrokerError>, now: Now) {
        let Opened { broker, source } = match opened {
            Ok(opened) => opened,
            Err(error) => return self.ending.fail(SupervisorError::Broker(error)),
        };
        self.traffic.open(source, broker.url());
        self.roster = Roster::new(Some(broker.clone()), self.inputs.clone());
        self.broker = Some(broker.clone());
        self.start_schedules();
        let config = self.with_app_queues();
        say_queues(&config, broker.url());
        self.fleet.reload(&config, false, now, &mut self.actions);
        for (template, report) in std::mem::take(&mut self.opening.waiting) {
            let event = Event::TemplateReady { template, report };
            self.fleet.on(event, now, &mut self.actions);
        }
    }

    /// The settings, in which a pool that names no queue serves those that the application names.
    pub(super) fn with_app_queues(&self) -> Config {
        let mut config = self.config.clone();
        let queues = self.broker.as_ref().map(|broker| broker.app_queues());
        let queues = queues.unwrap_or_default();
        for pool in config.pools.values_mut().filter(|pool| pool.queues.is_empty()) {
            pool.queues.clone_from(&queues);
        }
        config
    }
}

/// Names the queues of each pool: the application may have chosen them.
fn say_queues(config: &Config, broker: &str) {
    for (name, pool) in &config.pools {
        let pool_name = name.as_str();
        if pool.queues.is_empty() {
            tracing::warn!(pool = pool_name, broker, "there are no queues: no job is taken");
            continue;
        }
        let queues: Vec<&str> = pool.queues.iter().map(QueueName::as_str).collect();
        let queues = queues.join(",");
        tracing::info!(pool = pool_name, %queues, broker, "taking jobs");
    }
}
