//! Jobs that come due: what RQ's scheduler process does, in a task of ours. Source: `rq/scheduler.py`.
//!
//! One scheduler in a fleet has the lock of a queue, be it ours or RQ's. It looks once a second, as RQ's does: Redis
//! has nothing that could be waited for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{RedisError, Script, Value};
use tokio::task::AbortHandle;

use super::held::{AfterWork, Hand, Kind};
use super::keys::Keys;
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::broker::parts::after_work::AfterWorks;
use crate::broker::redis::connection::Link;
use crate::job::QueueName;
use crate::time::Unix;

/// Source: `rq/scheduler.py`, `RQScheduler.interval`.
const INTERVAL: Duration = Duration::from_secs(1);
/// Life of the lock and of the scheduler's own hash, in seconds. Source: as above, `interval + 60`.
const LOCK_TTL: u64 = 61;

/// The task, once it runs, and its queues.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    queues: Arc<Mutex<BTreeSet<String>>>,
    task: Mutex<Option<(String, AbortHandle)>>,
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Scheduler {
    /// Ends the task. Returns the scheduler's name, if it ran.
    pub fn stop(&self) -> Option<String> {
        let (name, task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        task.abort();
        Some(name)
    }
}

/// One look at the scheduled jobs.
struct Pass {
    link: Arc<Link>,
    keys: Keys,
    script: Script,
    name: String,
    created: Unix,
    queues: Arc<Mutex<BTreeSet<String>>>,
    hand: Arc<Mutex<Hand>>,
    after_works: AfterWorks<AfterWork>,
}

impl Pass {
    async fn run(&self) -> Result<(), RedisError> {
        let now = Unix::now();
        let mut call = self.script.prepare_invoke();
        call.arg(self.keys.names())
            .arg(&self.name)
            .arg(text::score(now))
            .arg(text::iso(now))
            .arg(LOCK_TTL)
            .arg(super::roster::hostname())
            .arg(std::process::id())
            .arg(text::iso(self.created));
        for queue in &*self.queues.lock().unwrap_or_else(PoisonError::into_inner) {
            call.arg(queue);
        }
        let (moved, _, limited, refused): (u64, Value, Vec<Vec<u8>>, Vec<Vec<u8>>) =
            self.link.script(&call).await?;
        super::settle::tell_refused(&refused);
        if moved > 0 {
            tracing::debug!(jobs = moved, "scheduled jobs are due");
        }
        for of_one in limited.chunks_exact(2) {
            // RQ's own code takes no other names.
            if let (Ok(queue), Ok(job)) = (std::str::from_utf8(&of_one[0]), std::str::from_utf8(&of_one[1])) {
                self.enqueue_by_rq(queue, job);
            }
        }
        Ok(())
    }

    /// A job with a rate limit goes through RQ's own code. It stays among the scheduled until then.
    fn enqueue_by_rq(&self, queue: &str, job: &str) {
        let work = AfterWork::Enqueue {
            queue: queue.to_owned(),
            job_ids: vec![job.to_owned()],
        };
        let hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let running =
            |held: &super::held::Held| matches!(&held.kind, Kind::After(other) if other.work == work);
        let is_known = self.after_works.holds(&work) || hand.jobs.values().any(running);
        if !is_known {
            self.after_works.add(vec![work]);
        }
    }
}

impl RqBroker {
    /// Takes these queues on; the first call makes a pass before it returns, so that a burst finds what is due.
    pub(super) async fn start_scheduler(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        if !self.options.with_scheduler {
            return Ok(());
        }
        let new = {
            let mut known = self
                .scheduler
                .queues
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let before = known.len();
            known.extend(queues.iter().map(ToString::to_string));
            known.len() > before
        };
        if !new {
            return Ok(());
        }
        let running = self
            .scheduler
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        let pass = Pass {
            link: Arc::clone(&self.link),
            keys: self.keys.clone(),
            script: self.scripts.schedule.clone(),
            name: self.scheduler_name(),
            created: Unix::now(),
            queues: Arc::clone(&self.scheduler.queues),
            hand: Arc::clone(&self.hand),
            after_works: self.after_works.clone(),
        };
        if let Err(error) = pass.run().await {
            // Not begun: the next claim tries again.
            self.scheduler
                .queues
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            return Err(self.link.endpoint.error(&error));
        }
        if !running {
            let name = pass.name.clone();
            let task = tokio::spawn(run(pass));
            let mut slot = self.scheduler.task.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some((name, task.abort_handle()));
        }
        Ok(())
    }

    fn scheduler_name(&self) -> String {
        format!("{}{}", self.execution_prefix, self.execution_prefix)
    }

    /// Gives up the locks.
    pub(super) async fn stop_scheduler(&self) -> Result<(), BrokerError> {
        let Some(name) = self.scheduler.stop() else {
            return Ok(());
        };
        let mut pipeline = redis::pipe();
        let release =
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
        for queue in &*self
            .scheduler
            .queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            let lock = self.keys.scheduler_lock(queue);
            pipeline
                .cmd("EVAL")
                .arg(release)
                .arg(1)
                .arg(lock)
                .arg(&name)
                .ignore();
        }
        pipeline.del(self.keys.scheduler(&name)).ignore();
        let done: Result<(), _> = self.link.pipeline(&pipeline).await;
        done.map_err(|error| self.link.endpoint.error(&error))
    }
}

async fn run(pass: Pass) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut well = true;
    loop {
        ticks.tick().await;
        let done = pass.run().await;
        if let Err(error) = &done
            && well
        {
            tracing::warn!(%error, "scheduled jobs can't be moved now");
        }
        well = done.is_ok();
    }
}
