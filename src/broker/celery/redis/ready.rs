//! Waiting until there may be something to take.

use std::time::Duration;

use super::RedisBroker;
use crate::broker::BrokerError;
use crate::job::QueueName;
use crate::time::{Mono, Unix};

impl RedisBroker {
    /// Returns when there may be something to take.
    pub(super) async fn wait(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let came = self.consumer.chores.came();
        tokio::pin!(came);
        came.as_mut().enable();
        if self.consumer.chores.count() > 0
            || self
                .consumer
                .hand()
                .recovered
                .iter()
                .any(|job| queues.contains(&job.job.queue))
        {
            return Ok(());
        }
        let waiting = self.consumer.with_left(queues);
        let next_due = self.consumer.hand().next_due(&waiting, Unix::now(), Mono::now());
        tokio::select! {
            biased;
            woken = self.woken(queues) => woken,
            () = came => Ok(()),
            () = sleep(next_due) => Ok(()),
            () = self.consumer.limits_changed.notified() => Ok(()),
            () = self.unanswered_due(queues) => Ok(()),
            taken_over = self.watch_peers() => taken_over,
        }
    }

    /// A list of these queues is not empty.
    async fn woken(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let lists = queues
            .iter()
            .flat_map(|queue| self.keys.lists(queue.as_str()))
            .collect::<Vec<_>>();
        if lists.is_empty() || self.holds_all_etas_it_may() {
            std::future::pending::<()>().await;
        }
        let woken = self.wake_ups.any(lists).await;
        woken.map_err(|error| self.link.endpoint.error(&error))
    }

    /// A claim whose answer never came is made sure of.
    async fn unanswered_due(&self, queues: &[QueueName]) {
        match self.unanswered.next(queues) {
            Some(at) => tokio::time::sleep(at.since(Mono::now())).await,
            None => std::future::pending().await,
        }
    }

    /// Gives back what others held when they die. It looks when the first lease ends that is known, and each lease for those
    /// that came since; returns only to tell of a failure, for what goes back wakes who waits for its list.
    async fn watch_peers(&self) -> Result<(), BrokerError> {
        loop {
            let lease = Duration::from_secs(self.lease_seconds());
            let known = self.peers.next().map_or(lease, |at| at.since(Unix::now()));
            tokio::time::sleep(known.min(lease).max(Duration::from_millis(50))).await;
            let count = self.take_over().await?;
            if count > 0 {
                tracing::warn!(
                    messages = count,
                    "took back messages of a supervisor that is gone"
                );
            }
        }
    }
}

async fn sleep(within: Option<Duration>) {
    match within {
        Some(within) => tokio::time::sleep(within).await,
        None => std::future::pending().await,
    }
}
