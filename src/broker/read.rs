//! What a reader of jobs and results needs.

use async_trait::async_trait;

use super::{BrokerError, Watch};
use crate::job::{JobId, JobView};

/// Looks jobs up, and waits for them to end.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Looks jobs up; one answer an id, in order. `None` for an id that is unknown or has expired.
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError>;

    /// Watches jobs until they end. Nothing is asked of the broker before the first [`Watch::next`].
    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch>;
}
