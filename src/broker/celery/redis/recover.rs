//! What claims took whose answer never came; see [`crate::broker::redis::unanswered`].

use super::RedisBroker;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::unacked;
use crate::broker::celery::held::Came;
use crate::broker::redis::unanswered::Pause;
use crate::job::{Claimed, QueueName};
use crate::time::Mono;

/// Tags that are asked for in one call.
const BATCH_MAX: usize = 500;

impl RedisBroker {
    /// What an earlier claim for these queues took although its answer never came.
    pub(super) async fn recover(&self, queues: &[QueueName]) -> Result<Vec<Claimed>, BrokerError> {
        let ranges = self.unanswered.ranges(queues);
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let began = Mono::now();
        let numbers: Vec<i64> = ranges.into_iter().flat_map(|(first, end)| first..end).collect();
        let (mut jobs, mut found) = (Vec::new(), 0);
        for numbers in numbers.chunks(BATCH_MAX) {
            let entries = self.entries(numbers).await?;
            for (number, entry) in numbers.iter().zip(entries) {
                let Some(entry) = entry.filter(|_| self.unanswered.find(*number)) else {
                    continue;
                };
                found += 1;
                let Some((raw, queue)) = unacked(&entry) else {
                    self.admit_unreadable(*number, "it is no message");
                    continue;
                };
                match QueueName::new(self.keys.known_as(&queue)) {
                    Ok(queue) => jobs.extend(self.admit(*number, &queue, &raw, Came::New)),
                    Err(why) => self.admit_unreadable(*number, &format!("its queue's name {why}")),
                }
            }
        }
        self.unanswered.looked(queues, began);
        if found > 0 {
            tracing::info!(
                messages = found,
                "messages were taken although no answer came; they run now"
            );
        }
        Ok(jobs)
    }

    fn admit_unreadable(&self, number: i64, reason: &str) {
        tracing::error!(%reason, list = self.keys.unreadable(), "a message can't be read: it is put aside");
        self.consumer.hand().unreadable.push(number);
    }

    /// Makes sure of all claims that were not answered; what they took is in hand then.
    pub(super) async fn recover_all(&self) -> Result<(), BrokerError> {
        self.unanswered.give_up(&self.link).await;
        let mut pause = Pause::default();
        while let Some((queues, until)) = self.unanswered.first() {
            let left = until.since(Mono::now());
            let looked = self.recover(&queues).await.map(drop);
            pause.after(looked, left, self.unanswered.next(&queues)).await?;
        }
        Ok(())
    }
}
