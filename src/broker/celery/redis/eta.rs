//! Tasks that are not due yet. Their messages stay in `unacked` under our tags, with the time that they wait for as their
//! score: so stock workers leave them alone until then, and give them back a visibility timeout later should we be gone.

use redis::Value;

use super::RedisBroker;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::unacked;
use crate::broker::celery::held::Due;
use crate::job::{Claimed, QueueName};
use crate::time::{Mono, Unix};

/// Tasks that are held at most where the application sets no limit. Of each some 40 bytes are kept.
const ETAS_MAX: usize = 1_000_000;
/// Messages that are asked for in one call.
const BATCH_MAX: usize = 500;

impl RedisBroker {
    /// Whether nothing may be taken that might have to wait, too.
    pub(super) fn holds_all_etas_it_may(&self) -> bool {
        let most = self.consumer.app.etas_max.unwrap_or(ETAS_MAX);
        self.consumer.hand().waiting() >= most
    }

    /// Takes those that are due by now.
    pub(super) async fn take_due(
        &self,
        queues: &[QueueName],
        room: usize,
        jobs: &mut Vec<Claimed>,
    ) -> Result<(), BrokerError> {
        self.score_etas().await?;
        let queues = self.consumer.with_left(queues);
        while jobs.len() < room {
            let most = (room - jobs.len()).min(BATCH_MAX);
            let due = self
                .consumer
                .hand()
                .take_due(&queues, Unix::now(), Mono::now(), most);
            if due.is_empty() {
                return Ok(());
            }
            let numbers: Vec<i64> = due.iter().map(|due| due.number).collect();
            let entries = match self.entries(&numbers).await {
                Ok(entries) => entries,
                Err(error) => {
                    self.consumer.hand().put_back(due, Mono::now());
                    return Err(error);
                }
            };
            for (Due { number, queue, came }, entry) in due.into_iter().zip(entries) {
                let Some(entry) = entry else {
                    tracing::warn!(%queue, "a task that waited for its time was given back by somebody else meanwhile");
                    continue;
                };
                let raw = unacked(&entry).map_or(entry, |(raw, _)| raw);
                jobs.extend(self.admit(number, &queue, &raw, came));
            }
        }
        Ok(())
    }

    /// The entries of `unacked` under these numbers; they are renewed.
    pub(super) async fn entries(&self, numbers: &[i64]) -> Result<Vec<Option<Vec<u8>>>, BrokerError> {
        let mut call = self.scripts.look.prepare_invoke();
        call.arg(self.keys.unacked()).arg(self.keys.unacked_index());
        for number in numbers {
            call.arg(self.tag(*number));
        }
        let entries: Vec<Value> = self.link.run_script(&call).await?;
        let entry = |entry| redis::from_redis_value::<Option<Vec<u8>>>(entry).ok().flatten();
        Ok(entries.into_iter().map(entry).collect())
    }

    /// Those that were just taken get the time that they wait for as their score.
    pub(super) async fn score_etas(&self) -> Result<(), BrokerError> {
        let fresh = self.consumer.hand().etas.take_fresh();
        for chunk in fresh.chunks(BATCH_MAX) {
            let mut add = redis::cmd("ZADD");
            add.arg(self.keys.unacked_index()).arg("XX");
            for (eta, number) in chunk {
                add.arg(format!(
                    "{}.{:03}",
                    eta.0.div_euclid(1000),
                    eta.0.rem_euclid(1000)
                ))
                .arg(self.tag(*number));
            }
            if let Err(error) = self.link.run_command::<i64>(&add).await {
                self.consumer.hand().etas.not_scored(&fresh);
                return Err(error);
            }
        }
        Ok(())
    }
}
