//! What claims took whose answer never came; see [`crate::broker::redis::unanswered`].

use redis::Value;

use super::RqBroker;
use super::row::row;
use crate::broker::BrokerError;
use crate::broker::redis::unanswered::Pause;
use crate::job::{Claimed, QueueName};
use crate::time::Mono;

impl RqBroker {
    /// What an earlier claim for these queues took although its answer never came.
    pub(in crate::broker) async fn recover(&self, queues: &[QueueName]) -> Result<Vec<Claimed>, BrokerError> {
        let ranges = self.unanswered.ranges(queues);
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let began = Mono::now();
        let mut call = self.scripts.recover.prepare_invoke();
        call.arg(self.keys.names())
            .arg(&self.execution_prefix)
            .arg(ranges.len());
        for (first, end) in ranges {
            call.arg(first).arg(end);
        }
        for queue in queues {
            call.arg(queue.as_str());
        }
        let found: Vec<Value> = self.link.run_script(&call).await?;
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
        self.unanswered.give_up(&self.link).await;
        let mut pause = Pause::default();
        while let Some((queues, until)) = self.unanswered.first() {
            let left = until.since(Mono::now());
            let looked = self.recover(&queues).await.map(drop);
            pause.after(looked, left, self.unanswered.next(&queues)).await?;
        }
        Ok(())
    }

    /// One of those, if it is not known already.
    fn recovered(&self, job: Value) -> Option<Claimed> {
        let row = row(job)?;
        let number = String::from_utf8_lossy(&row[2]).parse().ok()?;
        let is_new = self.unanswered.find(number);
        is_new.then(|| self.taken(&row)).flatten()
    }
}
