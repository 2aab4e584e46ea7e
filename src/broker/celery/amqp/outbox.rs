//! Outcomes that the server does not have yet.
//!
//! A result is stored before its message is acknowledged. What runs while its channel is lost is acknowledged by its copy.
//! What is given back by a pool without room waits until the pool's consumers are canceled: it would come again at once.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::broker::celery::ending::{End, Plan};
use crate::job::{JobId, Token};
use crate::time::Mono;

/// How long a copy is waited for once the server is back. Somebody else may have got it.
const COPY: Duration = Duration::from_secs(60);
/// Tasks that went back to their queue and are remembered.
const REQUEUED_MAX: usize = 10_000;
/// A message may come back so often without a reason that is known here: supervisors were restarted, connections lost. With
/// the 3 losses that a task has by default it ends before RabbitMQ 4 would drop it, after 20 returns.
const RETURNS_FREE: u32 = 12;

/// Outcomes of one call of the supervisor's.
#[derive(Debug)]
pub(super) struct Batch {
    pub plan: Plan,
    pub tokens: Vec<Token>,
    /// Whether each was ours.
    pub taken: Vec<bool>,
}

/// The outcome of what waits for its copy.
#[derive(Debug)]
pub(super) struct Pending {
    pub token: Token,
    pub end: End,
    pub since: Mono,
}

/// A task that went back to its queue, since its worker died or since it asked for that.
#[derive(Clone, Copy, Debug, Default)]
struct Requeued {
    /// Workers that died with it.
    losses: u32,
    times: u32,
}

/// Outcomes that the server does not have yet.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Their results are to be stored, the oldest first.
    storing: VecDeque<Batch>,
    /// Outcomes in the call that is on its way.
    in_call: Option<usize>,
    /// To go back when nothing comes any more.
    giving: VecDeque<Batch>,
    /// By the number of the message.
    pending: HashMap<i64, Pending>,
    /// Since when there is a server.
    back: Mono,
    /// Outcomes that the server has.
    settled: u64,
    /// What became of tasks that went back to their queue.
    requeued: HashMap<JobId, Requeued>,
}

impl Outcomes {
    pub fn settled(&self) -> u64 {
        self.settled
    }

    pub fn is_empty(&self) -> bool {
        self.unsettled() == 0
    }

    /// How many the server may not have.
    pub fn unsettled(&self) -> usize {
        let of = |batches: &VecDeque<Batch>| batches.iter().map(|batch| batch.tokens.len()).sum::<usize>();
        of(&self.storing) + of(&self.giving) + self.in_call.unwrap_or(0) + self.pending.len()
    }

    pub fn server_is_back(&mut self, now: Mono) {
        self.back = now;
    }

    /// So many more outcomes are at the server.
    pub fn arrived(&mut self, count: usize) {
        self.settled += count as u64;
    }

    /// A task goes back to its queue, after so many losses.
    pub fn requeues(&mut self, id: JobId, losses: u32) {
        if self.requeued.len() < REQUEUED_MAX || self.requeued.contains_key(&id) {
            let requeued = self.requeued.entry(id).or_default();
            *requeued = Requeued {
                losses,
                times: requeued.times + 1,
            };
        }
    }

    /// This one's result is to be stored.
    pub fn store(&mut self, batch: Batch) {
        self.storing.push_back(batch);
    }

    /// This one waits until its pools get nothing more.
    pub fn wait(&mut self, batch: Batch) {
        self.giving.push_back(batch);
    }

    /// Takes all that wait for that.
    pub fn take_waiting(&mut self) -> VecDeque<Batch> {
        std::mem::take(&mut self.giving)
    }

    /// The outcome of this message waits for its copy.
    pub fn wait_for_copy(&mut self, number: i64, pending: Pending) {
        self.pending.insert(number, pending);
    }

    /// The copy of this message came.
    pub fn copy_came(&mut self, number: i64) -> Option<Pending> {
        self.pending.remove(&number)
    }

    /// Takes those that have waited long enough for a copy.
    pub fn give_up_copies(&mut self, now: Mono) -> Vec<(i64, Pending)> {
        let back = self.back;
        let is_old = |_: &i64, pending: &mut Pending| pending.since.max(back) + COPY <= now;
        self.pending.extract_if(is_old).collect()
    }

    /// How many workers died with a task that came back to its queue so often. If its supervisors died with it, only the
    /// server knows: most returns that nobody here asked for count as deaths then.
    pub fn losses_of(&self, id: &str, returns: u32) -> u32 {
        let id = (!self.requeued.is_empty()).then(|| JobId::new(id).ok()).flatten();
        let known = id.and_then(|id| self.requeued.get(&id).copied());
        let Requeued { losses, times } = known.unwrap_or_default();
        losses.max(returns.saturating_sub(times).saturating_sub(RETURNS_FREE))
    }

    /// The results that are to be stored next, if no call is on its way.
    pub fn begin_to_store(&mut self) -> Option<Batch> {
        let batch = match self.in_call {
            None => self.storing.pop_front()?,
            Some(_) => return None,
        };
        self.in_call = Some(batch.tokens.len());
        Some(batch)
    }

    /// Messages of tasks that are acknowledged when they begin, and whose results nobody takes. They have run: to lose a result
    /// is no reason to run one once more.
    pub fn ended_early(&self) -> Vec<i64> {
        self.storing
            .iter()
            .flat_map(|batch| batch.plan.ended_early())
            .collect()
    }

    /// A call came back. Returns the outcomes if their results are stored; else that is tried again.
    pub fn stored(&mut self, batch: Batch, is_stored: bool) -> Option<Batch> {
        self.in_call = None;
        if is_stored {
            return Some(batch);
        }
        self.storing.push_front(batch);
        None
    }

    /// When the next one has waited long enough for a copy.
    pub fn deadline(&self) -> Option<Mono> {
        let sinces = self.pending.values().map(|pending| pending.since.max(self.back));
        sinces.min().map(|since| since + COPY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_without_a_reason_count_as_deaths_in_the_end() {
        let mut outcomes = Outcomes::default();
        assert_eq!(
            outcomes.losses_of("a", RETURNS_FREE),
            0,
            "supervisors may be restarted"
        );
        assert_eq!(outcomes.losses_of("a", RETURNS_FREE + 3), 3);
        // A task may ask to come again as often as it likes.
        let id = JobId::new("a").unwrap();
        (0..50).for_each(|_| outcomes.requeues(id.clone(), 0));
        assert_eq!(outcomes.losses_of("a", 50), 0);
        outcomes.requeues(id, 2);
        assert_eq!(outcomes.losses_of("a", 51), 2, "these died here");
    }
}
