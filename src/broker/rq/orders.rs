//! What others ask of our workers by `PUBLISH`: stop a job, kill a horse, shut a worker down. Source: `rq/command.py`.

use serde::Deserialize;

use super::RqBroker;
use super::held::Kind;
use crate::broker::Ask;
use crate::job::JobId;

/// A message on a worker's channel.
#[derive(Debug, Deserialize)]
struct Message {
    command: String,
    job_id: Option<String>,
    execution_id: Option<String>,
}

impl RqBroker {
    /// The next thing that somebody asks of a worker or its job.
    pub(super) async fn hear_order(&self) -> Ask {
        loop {
            let (worker, message) = self.orders.next().await;
            let message: Message = match serde_json::from_slice(&message) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%error, "an order can't be read");
                    continue;
                }
            };
            match self.understand(worker, &message) {
                Some(ask) => return ask,
                None => tracing::info!(
                    worker,
                    ?message,
                    "an order that no job or worker here is meant by"
                ),
            }
        }
    }

    fn understand(&self, worker: u64, message: &Message) -> Option<Ask> {
        match message.command.as_str() {
            "shutdown" => Some(Ask::ReplaceWorker(worker)),
            "kill-horse" => Some(Ask::KillWorker(worker)),
            "stop-job" => self.stop(message.job_id.as_deref()?, None),
            "stop-execution" => self.stop(message.job_id.as_deref()?, message.execution_id.as_deref()),
            _ => None,
        }
    }

    fn stop(&self, job: &str, asked: Option<&str>) -> Option<Ask> {
        let hand = self.hand();
        let meant = |number: i64, kind: &Kind| match (kind, asked) {
            (Kind::Plain { .. }, Some(asked)) => self.execution(number) == asked,
            (Kind::Plain { .. } | Kind::Whole, _) => true,
            (Kind::After(_), _) => false,
        };
        let held = hand
            .jobs
            .iter()
            .any(|(number, held)| held.job == job && meant(*number, &held.kind));
        held.then(|| JobId::new(job).ok()).flatten().map(Ask::StopJob)
    }
}
