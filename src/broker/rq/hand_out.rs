//! Handing out after-work: jobs of our own, of which nothing is in Redis.

use std::sync::Arc;
use std::time::Duration;

use super::RqBroker;
use super::held::{Held, KIND_AFTER_WORK, Kind};
use crate::job::{Claim, Claimed, Job, JobId, Loss, QueueName, Work};
use crate::time::Unix;

/// Further tries of after-work that failed.
const RETRIES: u32 = 3;
/// Longest run of after-work.
const TIMEOUT: Duration = Duration::from_secs(600);

impl RqBroker {
    pub(super) fn after_work(&self, queues: &[QueueName], limit: usize) -> Vec<Claimed> {
        let Some(queue) = queues.first() else {
            return Vec::new();
        };
        let mut hand = self.hand();
        let after_work = self.after_works.take(limit);
        let mut jobs = Vec::with_capacity(after_work.len());
        for pending in after_work {
            let (failures, losses) = (pending.failures, pending.losses);
            let number = hand.numbers(1);
            let task: Arc<str> = pending.work.task().into();
            let payload = serde_json::to_vec(&pending.work).unwrap_or_default();
            let Ok(id) = JobId::new(&format!("{task}:{number}")) else {
                continue;
            };
            hand.jobs.insert(
                number,
                Held {
                    job: id.to_string(),
                    queue: queue.to_string(),
                    kind: Kind::After(pending),
                    rate_limit: None,
                    shown: None,
                    tried: false,
                    returned: false,
                },
            );
            let claim = Claim {
                job: id.clone(),
                handle: number,
                epoch: 0,
            };
            let job = Job {
                id,
                queue: queue.clone(),
                task,
                kind: KIND_AFTER_WORK,
                payload: payload.into(),
                timeout: Some(TIMEOUT),
                retries: Some(RETRIES),
                retry_after: Some(Duration::ZERO),
                loss: Loss::RunsAgain,
                work: Work::After,
                batches: false,
                failures,
                losses,
                ready: Unix::now(),
            };
            jobs.push(Claimed { claim, job });
        }
        jobs
    }
}
