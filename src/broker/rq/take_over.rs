//! A lease of our own, if it is asked for: supervisors see within its time that one of them is no more, and take over what
//! it had in hand. RQ's own rules need a minute or more, see [`super::maintain`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{RedisError, Script};
use tokio::task::AbortHandle;

use super::RqBroker;
use super::held::AfterWork;
use super::keys::Keys;
use super::options::{Recover, Running};
use crate::broker::BrokerError;
use crate::broker::parts::after_work::AfterWorks;
use crate::broker::redis::connection::Link;
use crate::job::QueueName;

/// A lease is renewed so often in the time in which others are to take over.
const RENEWALS: u32 = 6;
/// And it ends after so many of these turns: what is left is for others to look.
const RENEWALS_MISSED: u32 = 4;
/// Who was late, or begins, only renews for so many turns. The server may have been away, and then all leases have run out:
/// the others need a turn to come back.
const ONLY_RENEWS: u32 = 2;

/// The task that renews the lease, once it runs, and the queues that this supervisor serves.
#[derive(Debug, Default)]
pub(super) struct TakeOver {
    queues: Arc<Mutex<BTreeSet<String>>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Drop for TakeOver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl TakeOver {
    fn queues(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the task. Returns whether it ran.
    fn stop(&self) -> bool {
        let task = self.task().take();
        task.inspect(AbortHandle::abort).is_some()
    }
}

/// One turn: the own lease is renewed, and others' are looked at.
struct Turn {
    link: Arc<Link>,
    keys: Keys,
    script: Script,
    recover: Recover,
    execution_prefix: String,
    queues: Arc<Mutex<BTreeSet<String>>>,
    after_works: AfterWorks<AfterWork>,
}

impl Turn {
    fn interval(&self) -> Duration {
        self.recover.within / RENEWALS
    }

    /// Returns whether the own lease had run out. `looks`: at others' leases.
    async fn run(&self, looks: bool) -> Result<bool, RedisError> {
        let lease = self.interval() * RENEWALS_MISSED;
        let mut call = self.script.prepare_invoke();
        call.arg(self.keys.names())
            .arg(&self.execution_prefix)
            .arg(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))
            .arg(u8::from(self.recover.running == Running::Requeue))
            .arg(u8::from(looks));
        for queue in &*self.queues.lock().unwrap_or_else(PoisonError::into_inner) {
            call.arg(queue);
        }
        let (late, moved, begun, abandoned): (bool, u64, Vec<Vec<u8>>, Vec<String>) =
            self.link.script(&call).await?;
        if late {
            tracing::warn!(
                "the lease of this supervisor had run out: others may run the jobs that it had in hand"
            );
        }
        if moved > 0 {
            tracing::info!(jobs = moved, "another supervisor died; its jobs wait again");
        }
        super::maintain::tell_begun(&begun);
        if !abandoned.is_empty() {
            tracing::info!(queues = ?abandoned, "another supervisor died with jobs that had begun; RQ's housekeeping ends them");
            let queues = abandoned;
            self.after_works.add_own(AfterWork::Maintain { queues });
        }
        Ok(late)
    }
}

impl RqBroker {
    /// Says that this supervisor serves these queues, before it takes jobs of them.
    pub(super) async fn hold_lease(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let Some(recover) = self.options.recover else {
            return Ok(());
        };
        let before = {
            let mut known = self.take_over.queues();
            let before = known.len();
            known.extend(queues.iter().map(ToString::to_string));
            match known.len() > before {
                true => before,
                false => return Ok(()),
            }
        };
        let turn = Turn {
            link: Arc::clone(&self.link),
            keys: self.keys.clone(),
            script: self.scripts.take_over.clone(),
            recover,
            execution_prefix: self.execution_prefix.clone(),
            queues: Arc::clone(&self.take_over.queues),
            after_works: self.after_works.clone(),
        };
        if let Err(error) = turn.run(false).await {
            // The next claim tries again.
            self.take_over.queues().clear();
            return Err(self.link.endpoint.error(&error));
        }
        if before == 0 {
            self.take_over.stop();
            *self.take_over.task() = Some(tokio::spawn(run(turn)).abort_handle());
        }
        Ok(())
    }

    /// Nothing is in hand any more.
    pub(super) async fn give_up_lease(&self) -> Result<(), BrokerError> {
        if !self.take_over.stop() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline.zrem(self.keys.leases(), &self.execution_prefix).ignore();
        pipeline.del(self.keys.lease(&self.execution_prefix)).ignore();
        self.link.run_pipeline(&pipeline).await
    }
}

async fn run(turn: Turn) {
    let (mut well, mut in_time) = (true, 0);
    loop {
        // From the end of a turn to the next: one that took long must not be followed by another at once.
        tokio::time::sleep(turn.interval()).await;
        let done = turn.run(in_time >= ONLY_RENEWS).await;
        if let Err(error) = &done
            && well
        {
            tracing::warn!(%error, "the lease of this supervisor can't be renewed now");
        }
        well = done.is_ok();
        in_time = if matches!(done, Ok(false)) { in_time + 1 } else { 0 };
    }
}
