//! What a pool has done since the start, in numbers that only grow: what metrics show beside the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::job::{Outcome, QueueName};
use crate::policy::scaling::wish::Reason;

use super::histogram::Histogram;

/// Names that are told apart. They come with jobs, so their number is bounded; the rest is counted together.
pub const NAMES_MAX: usize = 64;
/// The name under which the rest is counted.
pub const REST: &str = "(other)";

/// What is known by name, for a bounded number of names.
///
/// Asked several times a job: jobs of one task mostly come in a row, so the last name is looked at first.
#[derive(Clone, Debug)]
pub struct ByName<K, T> {
    /// In the order of their names.
    known: Vec<(K, T)>,
    /// Where the last one that was asked for is.
    last: usize,
    rest: Option<T>,
}

impl<K, T> Default for ByName<K, T> {
    fn default() -> Self {
        ByName {
            known: Vec::new(),
            last: 0,
            rest: None,
        }
    }
}

impl<K: Clone + Ord, T: Default> ByName<K, T> {
    /// What is known of this one; of the rest, when there are too many.
    pub fn at(&mut self, name: &K) -> &mut T {
        let is_last = self.known.get(self.last).is_some_and(|(known, _)| known == name);
        if !is_last {
            match self.known.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => self.last = at,
                Err(at) if self.known.len() < NAMES_MAX => {
                    self.known.insert(at, (name.clone(), T::default()));
                    self.last = at;
                }
                Err(_) => return self.rest.get_or_insert_with(T::default),
            }
        }
        &mut self.known[self.last].1
    }
}

impl<K, T> ByName<K, T> {
    /// All by name; the rest, if there is one, last and without.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&K>, &T)> {
        let known = self.known.iter().map(|(name, of)| (Some(name), of));
        known.chain(self.rest.iter().map(|rest| (None, rest)))
    }
}

/// Counts by reason; a reason is a word of ours.
pub type Reasons = BTreeMap<&'static str, u64>;

/// Counts that are shown from the start: a counter that appears with its first event hides that one from `rate()`.
fn from_zero(reasons: &[&'static str]) -> Reasons {
    reasons.iter().map(|reason| (*reason, 0)).collect()
}

/// Everything that one pool counts.
#[derive(Clone, Debug)]
pub struct Tally {
    /// By task.
    pub tasks: ByName<Arc<str>, TaskTally>,
    /// By queue: how long jobs waited for their first run, from when they could run until they began.
    pub waits: ByName<QueueName, Wait>,
    /// Executions that did not end by themselves: `lost`, `timeout`, `stopped`, `given back`.
    pub cut_short: Reasons,
    /// Jobs taken back unread from a worker: `stalled`, `unread`, `stolen`, `pause`, `stop`, `death`.
    pub taken_back: Reasons,
    /// Scaling decisions: direction (`up`, `down`, `hold`) and reason.
    pub decisions: BTreeMap<(&'static str, &'static str), u64>,
    /// Workers that became ready.
    pub started: u64,
    /// Workers that did not come to work.
    pub start_failures: u64,
    /// Workers that left as asked.
    pub retired: Reasons,
    /// Workers that died or were killed.
    pub deaths: Reasons,
    /// Batches that failed as a whole and ran again in halves.
    pub splits: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let decisions = [
            ("up", Reason::Utilization),
            ("down", Reason::Utilization),
            ("hold", Reason::Steady),
        ];
        Tally {
            tasks: ByName::default(),
            waits: ByName::default(),
            cut_short: from_zero(&["lost", "timeout", "stopped", "given back"]),
            taken_back: from_zero(&["stalled", "unread", "stolen", "pause", "stop", "death"]),
            decisions: decisions
                .map(|(direction, reason)| ((direction, reason.as_str()), 0))
                .into(),
            started: 0,
            start_failures: 0,
            retired: from_zero(&["scaled down", "reload", "stopping"]),
            deaths: from_zero(&["exit", "signal kill", "out of memory", "timeout"]),
            splits: 0,
        }
    }
}

/// How long jobs of one queue waited.
#[derive(Clone, Debug)]
pub struct Wait(pub Histogram);

impl Default for Wait {
    fn default() -> Self {
        Wait(Histogram::of_seconds())
    }
}

/// What is counted of one task.
#[derive(Clone, Debug)]
pub struct TaskTally {
    /// Jobs that finished.
    pub done: u64,
    /// Jobs that were dead-lettered.
    pub failed: u64,
    /// Executions that failed and are run again.
    pub retried: u64,
    /// Jobs sent to a worker while it still ran another one.
    pub sent_ahead: u64,
    /// How long executions took, by their worker's own stamps.
    pub durations: Histogram,
    /// Jobs of each batch that was sent.
    pub batches: Histogram,
}

impl Default for TaskTally {
    fn default() -> Self {
        TaskTally {
            done: 0,
            failed: 0,
            retried: 0,
            sent_ahead: 0,
            durations: Histogram::of_seconds(),
            batches: Histogram::of_jobs(),
        }
    }
}

impl Tally {
    /// A job of `task` was run and took so long; `waited`: for how long before, if it was its first run.
    pub fn ran(&mut self, task: &Arc<str>, took: Duration, queue: &QueueName, waited: Option<Duration>) {
        self.tasks.at(task).durations.record_time(took);
        if let Some(waited) = waited {
            self.waits.at(queue).0.record_time(waited);
        }
    }

    /// An execution ended like this.
    pub fn ended(&mut self, outcome: &Outcome) {
        let reason = match outcome {
            Outcome::Lost { .. } => "lost",
            Outcome::TimedOut { .. } => "timeout",
            Outcome::Stopped => "stopped",
            Outcome::GivenBack => "given back",
            Outcome::Success(_) | Outcome::Failure { .. } | Outcome::Retry { .. } | Outcome::Settled => {
                return;
            }
        };
        *self.cut_short.entry(reason).or_default() += 1;
    }

    /// A scaling decision was made; in a dry run it is only told.
    pub fn decided(&mut self, (from, to): (u32, u32), reason: Reason, dry_run: bool) {
        let direction = match (to.cmp(&from), dry_run) {
            (std::cmp::Ordering::Greater, false) => "up",
            (std::cmp::Ordering::Less, false) => "down",
            (std::cmp::Ordering::Greater, true) => "would_up",
            (std::cmp::Ordering::Less, true) => "would_down",
            (std::cmp::Ordering::Equal, _) => "hold",
        };
        *self.decisions.entry((direction, reason.as_str())).or_default() += 1;
    }

    /// Jobs came back unread.
    pub fn took_back(&mut self, jobs: usize, reason: &'static str) {
        *self.taken_back.entry(reason).or_default() += jobs as u64;
    }

    /// Executions that ended with their worker's death.
    pub fn lost(&self) -> u64 {
        self.cut_short.get("lost").copied().unwrap_or(0)
    }

    /// Executions that have ended, however they did.
    pub fn executions(&self) -> u64 {
        let by_task = self.sum(|task| task.done + task.failed + task.retried);
        by_task + self.cut_short.values().sum::<u64>()
    }

    /// Of all tasks together.
    pub fn sum(&self, of: impl Fn(&TaskTally) -> u64) -> u64 {
        self.tasks.iter().map(|(_, task)| of(task)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let mut tasks: ByName<Arc<str>, u64> = ByName::default();
        for round in 1..=2 {
            for task in 0..NAMES_MAX + 10 {
                *tasks.at(&format!("{task:03}").into()) += round;
            }
        }
        let all: Vec<(Option<&str>, u64)> = tasks
            .iter()
            .map(|(name, count)| (name.map(|name| &**name), *count))
            .collect();
        assert_eq!(all.len(), NAMES_MAX + 1);
        assert_eq!(all[0], (Some("000"), 3));
        assert_eq!(all[NAMES_MAX], (None, 30));
    }

    #[test]
    fn only_what_does_not_end_by_itself_is_cut_short() {
        let mut tally = Tally::default();
        let lost = || Outcome::Lost {
            how: "killed".into(),
            death: Box::default(),
        };
        [Outcome::Success(Vec::new()), lost(), Outcome::GivenBack, lost()]
            .iter()
            .for_each(|outcome| tally.ended(outcome));
        assert_eq!(tally.lost(), 2);
        assert_eq!(tally.cut_short.values().sum::<u64>(), 3);
    }

    #[test]
    fn a_decision_counts_by_its_direction_and_reason() {
        let mut tally = Tally::default();
        for (from, to, reason) in [
            (2, 3, Reason::Utilization),
            (3, 3, Reason::MemoryBudget),
            (3, 2, Reason::AboveMaximum),
            (2, 3, Reason::Utilization),
        ] {
            tally.decided((from, to), reason, false);
        }
        tally.decided((3, 9), Reason::JobsWaiting, true);
        assert_eq!(tally.decisions[&("would_up", "jobs waiting")], 1);
        assert_eq!(tally.decisions[&("up", "utilization")], 2);
        assert_eq!(tally.decisions[&("hold", "memory budget")], 1);
        assert_eq!(tally.decisions[&("down", "above maximum")], 1);
    }
}
