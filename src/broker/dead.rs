//! Jobs that failed for good and are kept.

use async_trait::async_trait;

use super::BrokerError;
use super::filter::StateName;
use crate::job::{JobError, JobId, JobState, JobView, QueueName};
use crate::time::Unix;

/// Shows dead letters, and ends or revives them.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The states of those jobs that are dead letters here, and can be retried and deleted.
    fn states(&self) -> &'static [StateName] {
        &[StateName::Dead, StateName::Canceled]
    }

    /// Dead letters, the newest first.
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError>;

    /// Puts dead letters back into their queues, failures and losses forgotten. Returns those found;
    /// one whose unique key another job has by now stays where it is, and so does one that never ran since a job
    /// earlier in its chain failed: it comes back with that one.
    async fn retry(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;

    /// Deletes dead letters. Returns those found.
    async fn delete(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;
}

/// What is shown of a dead letter that can't be read: one line of a list, not the end of it. `id`, `task`: as they are
/// stored.
pub(super) fn unreadable(id: &[u8], queue: QueueName, task: &[u8], why: String) -> JobView {
    let id = shown(id);
    let id = JobId::new(&id).unwrap_or_else(|_| JobId::generate());
    JobView {
        error: Some(JobError::new("unreadable", why)),
        ..JobView::new(id, queue, &shown(task), JobState::Dead)
    }
}

/// Bytes as a short text of one line.
pub(super) fn shown(bytes: &[u8]) -> String {
    /// In characters: a name has room for so many of any kind.
    const SHOWN_MAX: usize = 60;
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(SHOWN_MAX).map(plain).collect()
}

/// Which dead letters to show.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    /// Only of this queue.
    pub queue: Option<QueueName>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only those that ended no later than this, so that a walk through all of them comes to an end.
    pub ended_by: Option<Unix>,
    /// At most so many, the newest first.
    pub limit: usize,
}
