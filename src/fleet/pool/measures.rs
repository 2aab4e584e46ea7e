//! What a pool measures and counts: how busy its workers are, how long tasks take, what became of jobs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Now;
use crate::fleet::snapshot::QueueFlow;
use crate::fleet::tally::Tally;
use crate::job::{Job, QueueName, Work};
use crate::policy::meter::Meter;
use crate::policy::prefetch::ServiceTimes;
use crate::time::{Mono, Unix};

use super::flows::{Flows, There};
use super::rates::Rates;

/// Tasks remembered for printing; names come with jobs, so their number is bounded.
const PRINTING_MAX: usize = 1024;

/// The measurements of one pool.
#[derive(Debug)]
pub(super) struct Measures {
    /// When they began.
    began: Unix,
    meter: Meter,
    service: ServiceTimes,
    /// How long the jobs of each queue take.
    queues: ServiceTimes<QueueName>,
    /// Tasks that have printed something, by name.
    printing: HashSet<Arc<str>>,
    flows: Flows,
    rates: Rates,
    tally: Tally,
}

impl Measures {
    pub fn new(window: Duration, now: Unix) -> Self {
        Measures {
            began: now,
            meter: Meter::new(window),
            service: ServiceTimes::default(),
            queues: ServiceTimes::default(),
            printing: HashSet::new(),
            flows: Flows::default(),
            rates: Rates::default(),
            tally: Tally::default(),
        }
    }

    /// When they began.
    pub fn began(&self) -> Unix {
        self.began
    }

    /// How busy workers are.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// For whoever knows of workers that come and go, and jobs that begin and end.
    pub fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// How long tasks take.
    pub fn service(&self) -> &ServiceTimes {
        &self.service
    }

    /// How long the jobs of each queue take.
    pub fn queues(&self) -> &ServiceTimes<QueueName> {
        &self.queues
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// For whoever knows what is to be counted.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// What passed through its queues since the last period; `there`: executions that wait or run now.
    pub fn take_flows(&mut self, there: &BTreeMap<QueueName, There>) -> Vec<QueueFlow> {
        self.flows.take(there)
    }

    /// Executions that ended in the last minute, by queue.
    pub fn last_minute(&self, now: Mono) -> BTreeMap<String, u64> {
        self.rates.last_minute(now)
    }

    /// Another window.
    pub fn set_window(&mut self, window: Duration, now: Mono) {
        if window != self.meter.window() {
            self.meter.set_window(window, now);
        }
    }

    /// A worker ran a job, by its own stamps.
    pub fn ran(&mut self, job: &Job, (started, ended): (Mono, Mono), now: Now) {
        // What the broker asked for itself says nothing of how long jobs take.
        if job.work == Work::After {
            return;
        }
        let took = ended.since(started);
        self.service.record(&job.task, took);
        self.queues.record(&job.queue, took);
        self.flows.ran(&job.queue, took);
        self.rates.ended(&job.queue, now.mono);
        // Later runs waited for a retry, not for a worker.
        let first = job.failures + job.losses == 0;
        let waited = first.then(|| {
            let until_now = now.unix.since(job.ready);
            until_now.saturating_sub(now.mono.since(started))
        });
        self.tally.ran(&job.task, took, &job.queue, waited);
    }

    /// A job of this task printed something.
    pub fn prints(&mut self, task: &Arc<str>) {
        if self.printing.len() < PRINTING_MAX && !self.printing.contains(task) {
            self.printing.insert(task.clone());
        }
    }

    /// Whether jobs of this task print.
    pub fn is_printing(&self, task: &str) -> bool {
        self.printing.contains(task)
    }
}
