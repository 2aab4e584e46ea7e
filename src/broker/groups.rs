//! Jobs that depend on others: groups, which are counted, and chains, in which a result is handed on.

use async_trait::async_trait;
use serde::Serialize;

use super::BrokerError;
use crate::job::{GroupId, JobId, NewJob};
use crate::time::Unix;

/// Jobs of one group at the most: they are enqueued in one transaction.
pub const GROUP_LEN_MAX: usize = 100_000;

/// Jobs of one chain at the most.
pub const CHAIN_LEN_MAX: usize = 1_000;

/// Adds groups and tells how far they are.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Adds a group of jobs and its callbacks, all or nothing. Jobs are counted in the transaction that settles them,
    /// and the one that ends the last of them puts the callback into its queue: once, whatever dies.
    ///
    /// A dead letter counts as ended. One that is retried counts no more until it ends again, unless
    /// its group has ended by then: that counts no more and calls nobody again. Results of members are kept
    /// at least until the group has ended, and for the broker's time to live from then on.
    ///
    /// # Errors
    /// [`BrokerError::GroupTaken`] and [`BrokerError::IdTaken`] when another one has an id of these;
    /// [`BrokerError::Refused`] when a job can't be kept, with the reason.
    async fn enqueue(&self, group: NewGroup) -> Result<(), BrokerError>;

    /// How far a group is; `None` when it is unknown or has expired.
    async fn find(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError>;

    /// The members of a group in their order, without those that left no result; none when it is unknown.
    async fn members(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError>;

    /// Waits until more than `beyond` members of a group have ended, or all, and returns how far it is then; `None`
    /// when it is unknown. Never polls.
    async fn wait(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError>;
}

/// Adds chains.
#[async_trait]
pub trait Chains: Send + Sync {
    /// Adds jobs that run one after the other, each with the result of the one before it (see [`super::flow`]). When
    /// one fails for good, those after it become dead letters, and live again when it is retried.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError>;
}

/// A group as its producer asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewGroup {
    /// The id to give it.
    pub id: GroupId,
    /// Its members, [`GROUP_LEN_MAX`] at the most; they run in any order, at the same time.
    pub jobs: Vec<NewJob>,
    /// Runs once, when all members have ended, well or not.
    pub on_done: Option<NewJob>,
    /// Runs once, as soon as the first member has failed for good; is gone if none does.
    pub on_failure: Option<NewJob>,
}

impl NewGroup {
    /// A group of these jobs with a fresh id and no callbacks.
    pub fn new(jobs: Vec<NewJob>) -> Self {
        NewGroup {
            id: GroupId::generate(),
            jobs,
            on_done: None,
            on_failure: None,
        }
    }
}

/// How far a group is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its id.
    pub id: GroupId,
    /// Members.
    pub total: u64,
    /// Members that ended well.
    pub finished: u64,
    /// Members that failed for good.
    pub failed: u64,
    /// When it was enqueued.
    pub created: Unix,
    /// When its last member ended; from then on its counts stay as they are.
    pub ended: Option<Unix>,
}

impl GroupView {
    /// Members that have ended.
    pub fn ended_jobs(&self) -> u64 {
        self.finished + self.failed
    }

    /// Whether its last member ended just now.
    pub(in crate::broker) fn is_complete(&self) -> bool {
        self.ended_jobs() >= self.total
    }

    /// What its callbacks get: an object with `group` (its id), `total`, `finished` and `failed`.
    pub(in crate::broker) fn summary(&self) -> Vec<u8> {
        let GroupView {
            id,
            total,
            finished,
            failed,
            ..
        } = self;
        serde_json::json!({ "group": id, "total": total, "finished": finished, "failed": failed })
            .to_string()
            .into_bytes()
    }
}
