//! The schedules of a supervisor: a task fires them, and here is counted what it did.

mod clerk;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::broker::Broker;
use crate::config::ScheduleConfig;
use crate::fleet::snapshot::ScheduleSnapshot;
use crate::time::Unix;

use clerk::Clerk;

/// Schedules by name.
pub(super) type Configs = BTreeMap<Arc<str>, ScheduleConfig>;

/// What happened with a schedule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    /// Its name.
    pub schedule: Arc<str>,
    /// What.
    pub what: What,
}

/// One thing that happened with a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// This supervisor fired it, so many seconds later than it should have been.
    Fired { late_s: f64 },
    /// So many due times were left out, for this reason.
    LeftOut { reason: &'static str, count: u64 },
    /// It fires next at this time; `None`: never again.
    Next(Option<Unix>),
}

/// Fires schedules, unless there are none.
#[derive(Debug)]
pub(super) struct Schedules {
    configs: watch::Sender<Configs>,
    task: Option<AbortHandle>,
    figures: BTreeMap<Arc<str>, ScheduleSnapshot>,
}

impl Schedules {
    pub fn new(configs: Configs) -> Self {
        Schedules {
            figures: configs
                .keys()
                .map(|name| (Arc::clone(name), ScheduleSnapshot::default()))
                .collect(),
            configs: watch::Sender::new(configs),
            task: None,
        }
    }

    /// Begins to fire them at this broker. `tell` is called with what happens.
    pub fn start(&mut self, broker: Arc<dyn Broker>, tell: impl Fn(Told) + Send + Sync + 'static) {
        let clerk = Clerk::new(broker, self.configs.subscribe(), Box::new(tell));
        self.task = Some(tokio::spawn(clerk.run()).abort_handle());
    }

    /// The settings have changed.
    pub fn change(&mut self, configs: Configs) {
        self.figures.retain(|name, _| configs.contains_key(name));
        for name in configs.keys() {
            self.figures.entry(Arc::clone(name)).or_default();
        }
        self.configs.send_if_modified(|known| {
            let changed = *known != configs;
            *known = configs;
            changed
        });
    }

    /// Fires nothing any more: the broker is about to be closed.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Counts what the task did.
    pub fn count(&mut self, told: Told) {
        let Some(figures) = self.figures.get_mut(&told.schedule) else {
            return; // A reload has removed it meanwhile.
        };
        match told.what {
            What::Fired { late_s } => {
                figures.fired += 1;
                figures.late_s = late_s;
            }
            What::LeftOut { reason, count } => {
                *figures.left_out.entry(reason.to_owned()).or_default() += count
            }
            What::Next(next) => figures.next = next,
        }
    }

    /// What readers see.
    pub fn snapshot(&self) -> BTreeMap<String, ScheduleSnapshot> {
        let shown = self
            .figures
            .iter()
            .map(|(name, figures)| (name.to_string(), figures.clone()));
        shown.collect()
    }
}
