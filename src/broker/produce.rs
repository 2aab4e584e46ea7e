//! What a producer needs.

use async_trait::async_trait;

use super::BrokerError;
use crate::job::{JobId, NewJob};

/// Adds jobs.
#[async_trait]
pub trait Producer: Send + Sync {
    /// Adds jobs, all or none; one answer a job, in order.
    ///
    /// # Errors
    /// [`BrokerError::IdTaken`] when another job has the id of one of them; [`BrokerError::Refused`] when one can't be
    /// kept, with the reason.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError>;
}

/// What became of one [`NewJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, or is scheduled, under this id.
    New(JobId),
    /// Its unique key is held by this job, which has not ended; nothing was enqueued.
    Duplicate(JobId),
}

impl Enqueued {
    /// The job that stands for the request now.
    pub fn id(&self) -> &JobId {
        match self {
            Enqueued::New(id) | Enqueued::Duplicate(id) => id,
        }
    }
}
