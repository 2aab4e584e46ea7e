//! Tasks that must not run: by their ids, and by their stamps.

use std::collections::HashSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::supervisor::Supervisor;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::held::{Chore, Held};
use crate::broker::celery::remote::{Answer, Revocation, StampRevocation};
use crate::broker::{Ask, Picture};
use crate::text;

/// What raises the soft limit in a task, which may end in its own way. Source: `celery/app/trace.py`,
/// `setup_worker_optimizations`; `celery/concurrency/prefork.py`, `process_initializer`.
const SOFT_LIMIT: Signal = Signal::SIGUSR1;
/// Bytes of ids that a line of the log holds.
const LOGGED_MAX: usize = 400;

impl Consumer {
    /// What runs ends only where that is asked for; all else never begins. Source: `celery/worker/control.py`, `_revoke`.
    pub(super) async fn revoke(&self, revocation: &Revocation, supervisor: &Supervisor) -> Answer {
        let tasks = revocation.ids.join(",");
        tracing::info!(
            tasks = text::head(&tasks, LOGGED_MAX),
            signal = revocation.signal,
            "revoked"
        );
        self.node.revoke(revocation.ids.clone());
        let picture = supervisor.picture().await?;
        let mut found = Vec::new();
        let is_meant = |held: &Held, _is_running: bool| {
            let is_meant = revocation.ids.iter().any(|id| id == held.job.as_str());
            if is_meant {
                found.push(held.job.to_string());
            }
            is_meant
        };
        self.call_off(&picture, is_meant, revocation.signal, supervisor)
            .await;
        let elsewhere = revocation.ids.iter().filter(|id| !found.contains(id));
        let elsewhere: Vec<String> = elsewhere.cloned().collect();
        let queue = picture.pools.iter().flat_map(|pool| &pool.queues).next();
        if let Some(queue) = queue.filter(|_| !elsewhere.is_empty()) {
            let number = self.hand().numbers(1);
            let chore = Chore::mark_revoked(number, &elsewhere, queue.clone());
            self.chores.add(vec![chore]);
        }
        Ok(revocation.answer(&found))
    }

    /// The same for tasks that have one of these stamps.
    pub(super) async fn revoke_stamps(
        &self,
        revocation: &StampRevocation,
        supervisor: &Supervisor,
    ) -> Answer {
        tracing::info!(signal = revocation.signal, "revoked by stamps");
        self.node.revoke_stamps(&revocation.stamps);
        let picture = supervisor.picture().await?;
        let mut found: Vec<(String, Value)> = Vec::new();
        let is_meant = |held: &Held, is_running: bool| {
            let stamps = revocation.stamps.of_task(&held.payload);
            let is_meant = !stamps.is_empty();
            if is_running {
                found.extend(stamps.into_iter().map(|(name, value)| (name.to_owned(), value)));
            }
            is_meant
        };
        self.call_off(&picture, is_meant, revocation.signal, supervisor)
            .await;
        Ok(revocation.answer(&found))
    }

    /// Of those in hand, these don't begin, and those of them that run end if there is a `signal`. `is_meant` is told of
    /// each whether it runs.
    async fn call_off(
        &self,
        picture: &Picture,
        mut is_meant: impl FnMut(&Held, bool) -> bool,
        signal: Option<&'static str>,
        supervisor: &Supervisor,
    ) {
        let jobs = picture.workers.iter();
        let running: HashSet<&str> = jobs
            .filter_map(|worker| Some(worker.job.as_ref()?.job.as_str()))
            .collect();
        let mut asked = Vec::new();
        for held in self.hand().messages_mut().filter(|held| !held.has_chore) {
            let is_running = running.contains(held.job.as_str());
            if !is_meant(held, is_running) {
                continue;
            }
            held.is_revoked = true;
            held.signal = signal;
            match (is_running, signal) {
                (true, None) => {}
                (true, Some(name)) if name == SOFT_LIMIT.as_str() => {
                    asked.push(Ask::SignalJob(held.job.clone(), SOFT_LIMIT));
                }
                (true, Some(_)) => asked.push(Ask::StopJob(held.job.clone())),
                (false, _) => asked.push(Ask::CancelJob(held.job.clone())),
            }
        }
        self.lost.notify_waiters();
        for ask in asked {
            let _ = supervisor.ask(ask).await; // it may have ended, or be on its way to the supervisor
        }
    }
}
