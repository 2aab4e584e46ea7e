//! What `pulled.rs` needs of a broker that is asked for jobs.

use async_trait::async_trait;

use super::parts::turns::Turns;
use super::source::StopHow;
use super::{Broker, BrokerError, Maintained};
use crate::job::{Claim, Claimed, Progress, QueueName, Settlement};

/// A broker that is asked for jobs.
///
/// A claim is held under the lease of the handle that made it: one lease for all its claims, which
/// [`Pull::extend`], and each claim that takes something, renews. When the lease runs out (its supervisor died), any
/// other handle's [`Pull::maintain`] or [`Pull::claim`] gives those jobs back to the front of their queues.
#[async_trait]
pub trait Pull: Broker {
    /// The first thing that a source does.
    async fn begin(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Takes up to `limit` ready jobs, the oldest of a queue first; `turns` says which queue gives each of them.
    /// Scheduled jobs that are due count as ready. Returns fewer, or none, when there are no more. The jobs stand in
    /// the order in which they were taken.
    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError>;

    /// Takes up to `limit` pieces of after-work, and no job.
    async fn claim_after_work(
        &self,
        _queues: &[QueueName],
        _limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        Ok(Vec::new())
    }

    /// Whether after-work waits that no claim has handed out, or is tried again after a pause.
    fn has_after_work(&self) -> bool {
        false
    }

    /// Whether something is held under the lease besides what claims handed out and is not settled.
    fn holds_more(&self) -> bool {
        false
    }

    /// Renews the lease of every claim that this handle holds. To be called each third of the lease
    /// while anything is claimed.
    async fn extend(&self) -> Result<(), BrokerError>;

    /// Notes that these claims have begun, if the broker makes a difference: when its supervisor is no more, a job that
    /// had begun counts as lost.
    async fn note_begun(&self, _claims: Vec<Claim>) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Notes how far these claims of this handle are, where the broker has a place for it. For a claim that is no longer held
    /// nothing is done.
    async fn note_progress(&self, _news: Vec<(Claim, Progress)>) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Returns when somebody has called some of these claims off: canceled, deleted or stopped their jobs. With the place
    /// of each. Never polls; dropping the future is safe.
    async fn called_off(&self, _claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        std::future::pending().await
    }

    /// Whether jobs that have begun are stopped by [`Pull::called_off`] as well; else nobody asks it of them.
    fn stops_by_mark(&self) -> bool {
        false
    }

    /// Carries out verdicts, in order, in one transaction. Returns for each whether it took effect:
    /// `false` when the claim is no longer held by this handle (lease lost, job deleted), which is no error.
    /// A job that is given back, or is to run again at the front, returns to the place that it was claimed from: ahead of
    /// what waits, and jobs given back in any order stand in the order in which they were claimed.
    async fn settle(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError>;

    /// Returns when a claim on these queues may find something: at once if it would now, else when
    /// a producer enqueues, a scheduled job comes due or another handle's lease runs out. Never polls;
    /// may return without cause. Dropping the future is safe; keeping it is cheaper than asking anew.
    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError>;

    /// Housekeeping: takes back jobs whose lease ran out, deletes results past their time to live.
    /// Bounded work a call.
    async fn maintain(&self) -> Result<Maintained, BrokerError>;
}
