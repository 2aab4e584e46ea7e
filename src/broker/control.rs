//! What tools ask about jobs that have not ended.

use async_trait::async_trait;

use super::BrokerError;
use crate::job::JobId;

/// Cancels and stops jobs.
#[async_trait]
pub trait Control: Send + Sync {
    /// Takes jobs out before they begin; they never run. One answer a job, in order.
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError>;

    /// The same, and a job that runs is stopped for good.
    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError>;
}

/// What became of a request to cancel or stop a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// It is canceled.
    Done,
    /// A supervisor holds it and was asked. What its state says in the end holds.
    Asked,
    /// Nobody sees where it is. So many workers were told, and don't run it when it comes, as long as they live.
    Told(usize),
    /// It has begun, and runs on.
    Runs,
    /// It had ended.
    Ended,
    /// There is no such job.
    Unknown,
    /// It can't be canceled, for this reason, and is left as it is.
    Refused(String),
}
