//! Waiting until there may be something to take.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::RqBroker;
use crate::broker::BrokerError;
use crate::job::QueueName;
use crate::time::Mono;

/// How long the server is asked to wait at most before it is asked again, so that a connection that died silently is
/// noticed. A shorter life of workers asks for less. Source: `rq/worker/base.py`, `dequeue_timeout`.
const BLOCK_MAX: Duration = Duration::from_secs(60);
const BLOCK_MIN: Duration = Duration::from_secs(1);
const BEFORE_WORKER_TTL: Duration = Duration::from_secs(15);
/// While all workers are suspended RQ's workers look once a second, and Redis has nothing to wait for.
const SUSPENDED: Duration = Duration::from_secs(1);

/// How long the server is asked to wait, when workers' keys live for so long.
pub(super) fn block(worker_ttl: Duration) -> Duration {
    let block = worker_ttl.saturating_sub(BEFORE_WORKER_TTL);
    block.clamp(BLOCK_MIN, BLOCK_MAX)
}

impl RqBroker {
    /// Returns when there may be something to take.
    pub(in crate::broker) async fn wait(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let woken = async {
            let lists = queues
                .iter()
                .map(|queue| self.keys.queue(queue.as_str()))
                .collect();
            let woken = self.wake_ups.any(lists).await;
            woken.map_err(|error| self.link.endpoint.error(&error))
        };
        let came = self.after_works.came();
        tokio::pin!(came);
        came.as_mut().enable();
        if self.after_works.count() > 0 {
            return Ok(());
        }
        if self.suspended.load(Ordering::Relaxed) {
            tokio::select! {
                () = came => return Ok(()),
                () = tokio::time::sleep(SUSPENDED) => {}
            }
            let key = self.keys.suspended();
            let suspended = self.link.run_command(redis::cmd("EXISTS").arg(key)).await?;
            self.set_suspended(suspended).await;
            return Ok(());
        }
        tokio::select! {
            biased;
            woken = woken => woken,
            () = came => Ok(()),
            () = self.housekeeping_due(queues) => Ok(()),
            () = self.unanswered_due(queues) => Ok(()),
        }
    }

    async fn housekeeping_due(&self, queues: &[QueueName]) {
        let due = self.housekeeping.due(queues);
        if let Some(at) = due {
            sleep_until(at).await;
        }
    }

    /// A claim whose answer never came is made sure of.
    async fn unanswered_due(&self, queues: &[QueueName]) {
        let due = self.unanswered.next(queues);
        match due {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(in crate::broker) async fn set_suspended(&self, suspended: bool) {
        if self.suspended.swap(suspended, Ordering::Relaxed) != suspended {
            if suspended {
                tracing::warn!("all workers are suspended by `rq suspend`; `rq resume` lets them go on");
            } else {
                tracing::info!("workers are resumed");
            }
            self.mark(suspended).await;
        }
    }
}

async fn sleep_until(at: Mono) {
    tokio::time::sleep(at.since(Mono::now())).await;
}
