//! The broker of a supervisor: there from the start, or opened once the application is loaded and says where it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedSender;

use super::input::{self, Input};
use super::opened::Opened;
use super::roster::Roster;
use super::{Supervisor, SupervisorError};
use crate::broker::{Broker, BrokerError};
use crate::config::Config;
use crate::fleet::{Event, Now};
use crate::job::QueueName;
use crate::time::Human;
use crate::wire::message::LoadReport;

/// How much longer each pause is than the one before, while a server is away at the start.
const PAUSE_STEP: Duration = Duration::from_secs(2);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Opens a broker with what the application says about it.
#[async_trait]
pub trait Open: Send + Sync {
    /// Opens the broker that the application names.
    ///
    /// # Errors
    /// As [`crate::broker::open`].
    async fn open(&self, facts: &str) -> Result<Arc<dyn Broker>, BrokerError>;

    /// How often a server that is away at the start is tried again; `None`: until it is there.
    fn retries(&self, facts: &str) -> Option<u32>;
}

/// A function that opens it, once.
#[async_trait]
impl<F> Open for F
where
    F: Fn(String) -> BoxFuture<'static, Result<Arc<dyn Broker>, BrokerError>> + Send + Sync,
{
    async fn open(&self, facts: &str) -> Result<Arc<dyn Broker>, BrokerError> {
        self(facts.to_owned()).await
    }

    fn retries(&self, _facts: &str) -> Option<u32> {
        Some(0)
    }
}

/// Where the jobs of a supervisor are.
#[derive(Clone)]
pub enum Jobs {
    /// At this broker.
    At(Arc<dyn Broker>),
    /// At one that only the loaded application can name.
    AsTheAppSays(Arc<dyn Open>),
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
    open: Option<Arc<dyn Open>>,
    /// Templates that are loaded, and wait for the broker.
    waiting: Vec<(u64, LoadReport)>,
    /// What the application said last.
    facts: Option<String>,
}

impl Opening {
    pub fn by(open: Option<Arc<dyn Open>>) -> Self {
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
                tokio::spawn(patiently(open.clone(), facts.clone(), self.inputs.clone()));
                self.opening.facts = Some(facts);
            }
            self.opening.waiting.push((template, report));
            return None;
        }
        self.heed(template, report, facts)
    }

    /// A template forks, unless the broker does not take what its application says.
    fn heed(&mut self, template: u64, report: LoadReport, facts: String) -> Option<Event> {
        if let Err(error) = self.tell_broker(facts) {
            let error = error.to_string();
            self.processes.kill_template(template);
            return Some(Event::TemplateFailed { template, error });
        }
        Some(Event::TemplateReady { template, report })
    }

    /// An application that was loaded before is in force again.
    pub(super) fn app_is(&mut self, report: &LoadReport) {
        let facts = report.facts.clone();
        if let Some(Err(error)) = facts.map(|facts| self.tell_broker(facts)) {
            tracing::error!(%error, "the broker does not take what the application says about it");
        }
    }

    /// Tells the broker what the application says about it, if that is news.
    fn tell_broker(&mut self, facts: String) -> Result<(), BrokerError> {
        let is_news = self.opening.facts.as_ref() != Some(&facts);
        let Some(broker) = self.broker.clone().filter(|_| is_news) else {
            return Ok(());
        };
        let needs_restart = broker.app_reloaded(&facts)?;
        for what in &needs_restart {
            tracing::warn!("{what} changed: only a restart puts that in force");
        }
        self.reloads.need_restart_for(needs_restart);
        self.schedules.load(broker.app_schedules());
        self.opening.facts = Some(facts);
        Ok(())
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

/// Opens the broker and begins to be fed by it. A server that is away is tried again, as often as the application allows.
async fn patiently(open: Arc<dyn Open>, facts: String, inputs: UnboundedSender<Input>) {
    let mut pauses = pauses(open.retries(&facts));
    let opened = loop {
        let opened = match open.open(&facts).await {
            Ok(broker) => Opened::begin(broker, input::events(&inputs)).await,
            Err(error) => Err(error),
        };
        let Err(error @ (BrokerError::Unreachable { .. } | BrokerError::Busy { .. })) = &opened else {
            break opened;
        };
        let Some(pause) = pauses.next() else {
            break opened;
        };
        tracing::warn!(%error, retry_in = %Human(pause), "the broker is away: it is tried again");
        tokio::time::sleep(pause).await;
    };
    let _ = inputs.send(Input::Opened(opened));
}

/// The pauses before each retry.
fn pauses(retries: Option<u32>) -> impl Iterator<Item = Duration> {
    let all = (1..).map(|retry| PAUSE_STEP.saturating_mul(retry).min(PAUSE_MAX));
    all.take(retries.map_or(usize::MAX, |retries| retries as usize))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let seconds = |retries| pauses(retries).map(|pause| pause.as_secs());
        assert_eq!(seconds(Some(3)).collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(seconds(None).nth(1000), Some(30));
        assert_eq!(seconds(Some(0)).next(), None);
    }
}
