//! What claims took whose answer never came; see [`crate::broker::redis::unanswered`].

use std::time::Duration;

use redis::Value;

use super::RqBroker;
use super::claim::row;
use crate::broker::BrokerError;
use crate::job::{Claimed, QueueName};
use crate::time::Mono;

/// How soon a server that can't be asked is tried again by who must know: this doubles up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl RqBroker {
    /// What an earlier claim for these queues took although its answer never came.
    pub(in crate::broker) async fn recover(&self, queues: &[QueueName]) -> Result<Vec<Claimed>, BrokerError> {
        let ranges = self.unanswered.ranges(queues);
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let began = Mono::now();
        let mut call = self.scripts.recover.prepare_invoke();
        call.arg(self.keys.prefix())
            .arg(&self.execution_prefix)
            .arg(ranges.len());
        for (first, end) in ranges {
            call.arg(first).arg(end);
        }
        for queue in queues {
            call.arg(queue.as_str());
        }
        let found: Vec<Value> = self.run(&call).await?;
        let jobs: Vec<Claimed> = found.into_iter().filter_map(|job| self.recovered(job)).collect();
        self.unanswered.looked(queues, began);
        if !jobs.is_empty() {
            tracing::info!(
                jobs = jobs.len(),
                "jobs were taken although no answer came; they run now"
            );
        }
        Ok(jobs)
    }

    /// Makes sure of all claims that were not answered; what they took is in hand then.
    pub(in crate::broker) async fn recover_all(&self) -> Result<(), BrokerError> {
        self.unanswered.give_up();
        if self.unanswered.first().is_some() {
            // A connection on which an answer was lost may be dead.
            self.link.renew().await;
        }
        let mut pause = PAUSE;
        loop {
            let Some((queues, until)) = self.unanswered.first() else {
                return Ok(());
            };
            let left = until.since(Mono::now());
            match self.recover(&queues).await {
                Ok(_) => {
                    // Of those that are left nobody can say more before their time is over.
                    let next = self.unanswered.next(&queues);
                    tokio::time::sleep(next.map_or(Duration::ZERO, |at| at.since(Mono::now()))).await;
                }
                Err(error) if left.is_zero() => return Err(error),
                Err(_) => {
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// One of those, if it is not known already.
    fn recovered(&self, job: Value) -> Option<Claimed> {
        let row = row(job)?;
        let number = String::from_utf8_lossy(&row[2]).parse().ok()?;
        let is_new = self.unanswered.find(number);
        is_new.then(|| self.taken(&row)).flatten()
    }
}
