//! The housekeeping of RQ's registries, and what supervisors that are no more had in hand.

use std::time::Duration;

use super::held::AfterWork;
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::job::QueueName;
use crate::time::{Mono, Unix};

/// How long a claim lives beyond the heartbeat that was due, and a little more. Source: `rq/worker/base.py`,
/// `get_heartbeat_ttl`.
const ABANDONED: Duration = Duration::from_secs(65);

impl RqBroker {
    /// The housekeeping of RQ's registries, at the start and each interval, becomes after-work.
    pub(super) async fn maintain_when_due(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let now = Mono::now();
        let due = self.housekeeping.due(queues);
        if queues.is_empty() || due.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.reclaim(queues).await?;
        let mut wait = self.options.maintenance_interval;
        if due.is_none() {
            // What a predecessor had taken when it was killed has expired by then.
            wait = wait.min(self.options.job_monitoring_interval + ABANDONED);
        }
        self.housekeeping.done(queues, now + wait);
        let queues = queues.iter().map(ToString::to_string).collect();
        self.after_works.add_own(AfterWork::Maintain { queues });
        Ok(())
    }

    /// What a supervisor that is no more had taken and not begun waits again.
    async fn reclaim(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let mut call = self.scripts.reclaim.prepare_invoke();
        call.arg(self.keys.names()).arg(text::score(Unix::now()));
        for queue in queues {
            call.arg(queue.as_str());
        }
        let (moved, begun): (u64, Vec<Vec<u8>>) = self.link.run_script(&call).await?;
        tell_begun(&begun);
        if moved > 0 {
            tracing::info!(
                jobs = moved,
                "another supervisor died with jobs that it had not begun; they wait again"
            );
        }
        Ok(())
    }
}

/// Jobs that came back too often.
pub(super) fn tell_begun(jobs: &[Vec<u8>]) {
    for job in jobs {
        let job = String::from_utf8_lossy(job);
        tracing::warn!(%job, "supervisors died with this job in hand, three in a row: it counts as begun and is abandoned");
    }
}
