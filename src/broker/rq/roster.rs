//! Workers as `rq info`, `Worker.all()` and dashboards see them: their birth, heartbeats, state and death.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::held::Kind;
use super::left::LeftJobs;
use super::{RqBroker, text};
use crate::broker::presence::Show;
use crate::broker::{BrokerError, Order, WorkerView};
use crate::time::{Mono, Unix};

/// The workers that are registered.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Process id and queues by name.
    known: Mutex<BTreeMap<String, (i32, String)>>,
    /// Names that were registered once: the record of such a name is ours, and what it counts goes on.
    ours: Mutex<BTreeSet<String>>,
    /// Our address, as the server sees it.
    address: tokio::sync::OnceCell<String>,
    /// Versions of `rq` and of Python, once an application is loaded.
    versions: Mutex<[String; 2]>,
    /// Jobs that nobody moves into their queues.
    left_jobs: LeftJobs,
    /// All have left. Locked while workers are shown: those who leave must not be registered by an earlier word that
    /// comes late.
    has_left: tokio::sync::Mutex<bool>,
}

impl Roster {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, (i32, String)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ours(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the application that was loaded last.
    pub fn set_versions(&self, versions: [String; 2]) {
        *self.versions.lock().unwrap_or_else(PoisonError::into_inner) = versions;
    }

    fn versions(&self) -> [String; 2] {
        self.versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Any registered name.
    pub fn any(&self) -> Option<String> {
        self.known().keys().next().cloned()
    }
}

/// This host's name.
pub(super) fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// Whether the worker of this record (birth, death, host and process id) may be at work.
fn is_alive([birth, death, host, pid]: &[Option<String>; 4]) -> bool {
    let elsewhere = host.as_deref() != Some(&hostname());
    // One that was killed on this host can't have said goodbye.
    let process = |pid: &String| std::path::Path::new("/proc").join(pid).exists();
    birth.is_some() && death.is_none() && (elsewhere || pid.as_ref().is_some_and(process))
}

#[async_trait]
impl Show for RqBroker {
    async fn show(&self, workers: Vec<WorkerView>) -> Result<(), BrokerError> {
        let has_left = self.roster.has_left.lock().await;
        match *has_left {
            true => Ok(()),
            false => self.register(workers).await.and(self.show_cron_jobs().await),
        }
    }

    async fn next_order(&self) -> Order {
        Order {
            ask: self.hear_order().await,
            reply: None, // RQ's clients don't wait for one
        }
    }
}

impl RqBroker {
    /// Each with its name. Of two in the one place that `--name` names, the one that stays is shown.
    fn named(&self, workers: Vec<WorkerView>) -> Vec<(String, WorkerView)> {
        let mut workers: Vec<(String, WorkerView)> = workers
            .into_iter()
            .map(|worker| (self.options.names.of(worker.ordinal), worker))
            .collect();
        workers.sort_by(|(a, first), (b, second)| (a, first.leaving).cmp(&(b, second.leaving)));
        workers.dedup_by(|(second, _), (first, _)| second == first);
        workers
    }

    /// Registers who is new, renews who lives, buries who is gone. To be called in turn.
    async fn register(&self, workers: Vec<WorkerView>) -> Result<(), BrokerError> {
        let now = Unix::now();
        let workers = self.named(workers);
        let mut living = BTreeMap::new();
        for (name, worker) in &workers {
            let queues: Vec<&str> = worker.queues.iter().map(|queue| queue.as_str()).collect();
            living.insert(name.clone(), (worker.pid, queues.join(",")));
        }
        let known = self.roster.known().clone();
        // Who sees a worker can speak to it.
        let channels = workers.iter();
        let channels = channels.map(|(name, worker)| (self.keys.channel(name), worker.worker));
        self.orders.serve(channels.collect()).await;
        if workers.is_empty() && known.is_empty() {
            return Ok(()); // such as a client that leaves
        }
        let mut call = self.scripts.roster.prepare_invoke();
        call.arg(self.keys.names())
            .arg(text::iso(now))
            .arg(text::score(now))
            .arg(self.options.worker_ttl.as_secs())
            .arg(self.options.job_monitoring_interval.as_secs() + 60)
            .arg(hostname())
            .arg(self.address().await?)
            .arg(workers.len());
        let versions = self.roster.versions();
        call.arg(&versions[0]).arg(&versions[1]);
        let of_queues = match self.options.with_scheduler {
            true => None,
            false => self.roster.left_jobs.queues_to_look_at(&workers, Mono::now()),
        };
        call.arg(of_queues.as_deref().unwrap_or_default());
        for (name, worker) in &workers {
            let new = match known.get(name) {
                Some((pid, _)) if *pid == worker.pid => "",
                None if !self.roster.ours().contains(name) => "new",
                _ => "again",
            };
            call.arg(name)
                .arg(new)
                .arg(worker.pid)
                .arg(&living[name].1)
                .arg(text::iso(worker.born))
                .arg(self.state_of(worker));
            let [job, queue, execution, since] = self.shown(worker, name);
            call.arg(job).arg(queue).arg(execution).arg(since);
            call.arg(if worker.asked { "asked" } else { "" });
        }
        for (name, (_, queues)) in known.iter().filter(|(name, _)| !living.contains_key(*name)) {
            call.arg(name).arg(queues);
        }
        let (taken, left): (Vec<String>, BTreeSet<String>) = self.link.run_script(&call).await?;
        if of_queues.is_some() {
            self.roster.left_jobs.found(left);
        }
        living.retain(|name, _| !taken.contains(name));
        self.roster.ours().extend(living.keys().cloned());
        *self.roster.known() = living;
        match taken.as_slice() {
            [] => Ok(()),
            [name, ..] => {
                let reason = format!(
                    "there is an active worker named `{name}` on another host already (choose another name with `--name`)"
                );
                tracing::error!("{reason}");
                Err(BrokerError::Refused(reason))
            }
        }
    }

    /// The names that somebody chose must be free, and what is left of earlier workers of these names goes.
    /// Source: `rq/worker/base.py`, `register_birth`.
    pub(super) async fn claim_names(&self) -> Result<(), BrokerError> {
        if self.options.names.chosen.is_none() {
            return Ok(()); // nobody else has ours
        }
        let ordinals = u16::try_from(self.options.names.workers_max)
            .unwrap_or(u16::MAX)
            .max(1);
        let names: Vec<String> = (1..=ordinals)
            .map(|ordinal| self.options.names.of(ordinal))
            .collect();
        let mut ask = redis::pipe();
        for name in &names {
            ask.cmd("HMGET")
                .arg(self.keys.worker(name))
                .arg(&["birth", "death", "hostname", "pid"]);
        }
        let records: Vec<[Option<String>; 4]> = self.link.run_pipeline(&ask).await?;
        let mut forget = redis::cmd("DEL");
        for (name, record) in names.iter().zip(&records) {
            if is_alive(record) {
                return Err(BrokerError::Refused(format!(
                    "There exists an active worker named '{name}' already (choose another name with `--name`)"
                )));
            }
            forget.arg(self.keys.worker(name));
        }
        // Now, and not when they are registered: their first jobs may have been counted before.
        self.link.run_command(&forget).await
    }

    /// No worker begins while all are suspended. Source: `rq/cli/workers.py`, `worker`.
    pub(super) async fn check_suspension(&self) -> Result<(), BrokerError> {
        let suspended: bool = self
            .link
            .run_command(redis::cmd("EXISTS").arg(self.keys.suspended()))
            .await?;
        if suspended {
            return Err(BrokerError::Refused(
                "RQ is currently suspended, to resume job execution run \"rq resume\"".to_owned(),
            ));
        }
        Ok(())
    }

    /// Says of all workers at once that they are suspended, or idle again.
    pub(super) async fn mark(&self, suspended: bool) {
        let mut pipeline = redis::pipe();
        for name in self.roster.known().keys() {
            let state = if suspended { "suspended" } else { "idle" };
            pipeline
                .cmd("HSET")
                .arg(self.keys.worker(name))
                .arg("state")
                .arg(state)
                .ignore();
        }
        let done: Result<(), _> = self.link.run_pipeline(&pipeline).await;
        if let Err(error) = done {
            tracing::debug!(%error, "the state of workers can't be shown now");
        }
    }

    fn state_of(&self, worker: &WorkerView) -> &'static str {
        if worker.job.is_some() {
            "busy"
        } else if worker.paused || self.suspended.load(Ordering::Relaxed) {
            "suspended"
        } else {
            "idle"
        }
    }

    /// Job, queue, execution and its start, for a job that has run for a moment; empty texts for after-work.
    fn shown(&self, worker: &WorkerView, name: &str) -> [String; 4] {
        let Some(running) = &worker.job else {
            return Default::default();
        };
        let mut hand = self.hand();
        // The supervisor knows it by a number of its source's; the newest execution of a job is the one that runs.
        let of_it = hand.jobs.iter_mut();
        let of_it = of_it.filter(|(_, held)| held.job == running.job.as_str());
        let Some((number, held)) = of_it.max_by_key(|(number, _)| **number) else {
            return Default::default();
        };
        if matches!(held.kind, Kind::After(_)) {
            return Default::default();
        }
        if held.returned && held.shown.is_none() {
            self.returned_began.notify_one();
        }
        held.shown = Some(name.to_owned());
        [
            held.job.clone(),
            held.queue.clone(),
            self.execution(*number),
            text::seconds(running.started),
        ]
    }

    /// Source: `rq/worker/base.py`, `_set_ip_address`.
    async fn address(&self) -> Result<&str, BrokerError> {
        let ask = || async {
            let info: String = match self.link.run_command(redis::cmd("CLIENT").arg("INFO")).await {
                Ok(info) => info,
                // A user without this right, as some providers have it.
                Err(BrokerError::Corrupt { .. }) => return Ok("unknown".to_owned()),
                Err(error) => return Err(error),
            };
            let address = info.split(' ').find_map(|field| field.strip_prefix("addr="));
            Ok(address.unwrap_or("unknown").to_owned())
        };
        self.roster.address.get_or_try_init(ask).await.map(String::as_str)
    }

    /// All workers leave, what is still in hand goes back, and the scheduler gives up its locks.
    pub(super) async fn leave(&self) -> Result<(), BrokerError> {
        self.wake_ups.stop();
        self.orders.stop();
        self.stop_scheduler().await?;
        self.recover_all().await?;
        self.give_all_back().await?;
        self.give_up_later().await;
        self.give_up_lease().await?;
        let mut has_left = self.roster.has_left.lock().await;
        *has_left = true;
        self.forget_cron_jobs().await?;
        self.register(Vec::new()).await
    }
}
