//! What a reader of jobs and results needs.

use std::time::Duration;

use async_trait::async_trait;

use super::{BrokerError, Ended, Watch};
use crate::job::{JobId, JobView};

/// Looks jobs up, and waits for them to end.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Looks jobs up; one answer an id, in order. `None` for an id that is unknown or has expired.
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError>;

    /// Watches jobs until they end. Nothing is asked of the broker before the first [`Watch::next`].
    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch>;

    /// Whether a job that failed for good is kept with its arguments, and can run again.
    fn can_retry(&self) -> bool {
        true
    }
}

/// Waits until all of these jobs have ended, at most `within`, and returns each as it is then, in order.
///
/// `None` stands for a job that is unknown or has expired. When the time is up, some have no final
/// state ([`crate::job::JobState::is_final`]). Never polls: the broker is asked once for each time that jobs
/// ended, so no more often than there are jobs, and once more when the time is up.
pub async fn wait_all(
    reader: &dyn Reader,
    ids: &[JobId],
    within: Option<Duration>,
) -> Result<Vec<Option<JobView>>, BrokerError> {
    let mut views: Vec<Option<JobView>> = vec![None; ids.len()];
    let mut has_ended = vec![false; ids.len()];
    let mut watch = reader.watch(ids.to_vec());
    let work = async {
        while has_ended.contains(&false) {
            for Ended { at, job, .. } in watch.next().await? {
                (views[at], has_ended[at]) = (job, true);
            }
        }
        Ok::<(), BrokerError>(())
    };
    match within {
        None => work.await?,
        Some(within) => tokio::time::timeout(within, work).await.unwrap_or(Ok(()))?,
    }
    let open: Vec<usize> = (0..ids.len()).filter(|at| !has_ended[*at]).collect();
    if !open.is_empty() {
        let open_ids: Vec<JobId> = open.iter().map(|at| ids[*at].clone()).collect();
        for (at, view) in open.into_iter().zip(reader.find(&open_ids).await?) {
            views[at] = view;
        }
    }
    Ok(views)
}
