//! Canceling jobs as RQ does, and asking their workers to stop them.

use async_trait::async_trait;

use super::{RqBroker, text};
use crate::broker::{BrokerError, Canceled, Control};
use crate::job::JobId;
use crate::time::Unix;

#[async_trait]
impl Control for RqBroker {
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.open_still()?;
        self.cancel_jobs(ids).await
    }

    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.open_still()?;
        let mut answers = self.cancel_jobs(ids).await?;
        for (id, answer) in ids.iter().zip(&mut answers) {
            if *answer == Canceled::Runs && self.order_stop(id).await? {
                *answer = Canceled::Asked;
            }
        }
        Ok(answers)
    }
}

impl RqBroker {
    async fn cancel_jobs(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.scripts.cancel.prepare_invoke();
        let now = Unix::now();
        call.arg(self.keys.names())
            .arg(text::iso(now))
            .arg(text::score(now));
        for id in ids {
            call.arg(id.as_str());
        }
        let answers: Vec<String> = self.link.run_script(&call).await?;
        Ok(answers.into_iter().map(answer).collect())
    }

    /// Asks the worker of a job to stop it. Returns whether there is one that hears. Source: `rq/command.py`,
    /// `send_stop_job_command`.
    async fn order_stop(&self, id: &JobId) -> Result<bool, BrokerError> {
        let key = self.keys.job(id.as_str());
        let worker: Option<String> = self
            .link
            .run_command(redis::cmd("HGET").arg(key).arg("worker_name"))
            .await?;
        let Some(worker) = worker.filter(|worker| !worker.is_empty()) else {
            return Ok(false);
        };
        let order = serde_json::json!({ "command": "stop-job", "job_id": id }).to_string();
        let channel = self.keys.channel(&worker);
        let heard: u64 = self
            .link
            .run_command(redis::cmd("PUBLISH").arg(channel).arg(order))
            .await?;
        Ok(heard > 0)
    }
}

/// What a word of `lua/cancel.lua` means.
fn answer(word: String) -> Canceled {
    match word.as_str() {
        "done" => Canceled::Done,
        "asked" => Canceled::Asked,
        "runs" => Canceled::Runs,
        "ended" => Canceled::Ended,
        "unknown" => Canceled::Unknown,
        _ => Canceled::Refused(word),
    }
}
