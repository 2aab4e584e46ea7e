//! Jobs of batch tasks on their way to a worker: they gather until their batch is full or has lingered long enough.
//!
//! A gathered job is held under the lease like every other one; nothing here is the only place that knows it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::time::Mono;

use crate::fleet::BUFFER_LIMIT;
use crate::fleet::app::Rule;

/// The jobs of one task that came and were not sent.
#[derive(Debug)]
struct Gathering {
    rule: Rule,
    /// Executions and when each came, the oldest first.
    jobs: VecDeque<(u64, Mono)>,
    /// Since when there is a batch to send.
    ready: Option<Mono>,
}

impl Gathering {
    fn look(&mut self, now: Mono) {
        let lingered = |(_, came): &(u64, Mono)| *came + self.rule.linger <= now;
        let is_ready = self.jobs.len() >= self.rule.size || self.jobs.front().is_some_and(lingered);
        self.ready = is_ready.then(|| self.ready.unwrap_or(now));
    }

    fn oldest(&self) -> Option<u64> {
        self.jobs.front().map(|(execution, _)| *execution)
    }

    fn deadline(&self) -> Option<Mono> {
        let (_, came) = self.jobs.front()?;
        Some(
            self.ready
                .map_or(*came + self.rule.linger, |ready| ready + BUFFER_LIMIT),
        )
    }
}

/// All batches of one pool that wait for a worker.
#[derive(Debug, Default)]
pub(super) struct Batches {
    gatherings: BTreeMap<Arc<str>, Gathering>,
    /// Batches that are made up already: halves of one that failed, and what a worker did not read.
    made_up: VecDeque<Vec<u64>>,
}

/// Where the next batch is.
#[derive(Clone, Debug)]
enum Source {
    MadeUp(usize),
    Gathered(Arc<str>),
}

impl Batches {
    /// A job came.
    pub fn gather(&mut self, task: &Arc<str>, rule: Rule, execution: u64, now: Mono) {
        let gathering = self.gatherings.entry(task.clone()).or_insert_with(|| Gathering {
            rule,
            jobs: VecDeque::new(),
            ready: None,
        });
        gathering.rule = rule;
        gathering.jobs.push_back((execution, now));
        gathering.look(now);
    }

    /// Jobs that are to go together, ahead of what gathers.
    pub fn put_back(&mut self, executions: Vec<u64>) {
        if !executions.is_empty() {
            self.made_up.push_front(executions);
        }
    }

    /// The oldest job of the batch that goes next, if one is to be sent by now.
    pub fn next(&self) -> Option<u64> {
        self.source().map(|(oldest, _)| oldest)
    }

    fn source(&self) -> Option<(u64, Source)> {
        let made_up = self.made_up.iter().enumerate();
        let made_up = made_up.filter_map(|(at, jobs)| Some((*jobs.first()?, Source::MadeUp(at))));
        let gathered = self
            .gatherings
            .iter()
            .filter(|(_, gathering)| gathering.ready.is_some())
            .filter_map(|(task, gathering)| Some((gathering.oldest()?, Source::Gathered(task.clone()))));
        made_up.chain(gathered).min_by_key(|(oldest, _)| *oldest)
    }

    /// Takes the next batch, of `most` jobs at the most; what is left of it stays.
    pub fn take(&mut self, most: usize, now: Mono) -> Vec<u64> {
        match self.source() {
            None => Vec::new(),
            Some((_, Source::MadeUp(at))) => {
                let Some(mut jobs) = self.made_up.remove(at) else {
                    return Vec::new();
                };
                let rest = jobs.split_off(most.min(jobs.len()));
                self.put_back(rest);
                jobs
            }
            Some((_, Source::Gathered(task))) => {
                let Some(gathering) = self.gatherings.get_mut(&task) else {
                    return Vec::new();
                };
                let count = gathering.rule.size.min(most).min(gathering.jobs.len());
                let jobs = gathering
                    .jobs
                    .drain(..count)
                    .map(|(execution, _)| execution)
                    .collect();
                gathering.ready = None;
                gathering.look(now);
                self.forget_empty();
                jobs
            }
        }
    }

    /// Jobs that could be sent now.
    pub fn ready_jobs(&self) -> impl Iterator<Item = u64> {
        let gatherings = self.gatherings.values();
        let gathered = gatherings.filter(|gathering| gathering.ready.is_some());
        let gathered = gathered.flat_map(|gathering| gathering.jobs.iter().map(|(job, _)| *job));
        gathered.chain(self.made_up.iter().flatten().copied())
    }

    /// Jobs that would fill the batches that are waited for.
    pub fn missing(&self) -> usize {
        let waiting = self
            .gatherings
            .values()
            .filter(|gathering| gathering.ready.is_none());
        waiting
            .map(|gathering| gathering.rule.size - gathering.jobs.len())
            .sum()
    }

    /// Jobs that are held here.
    pub fn jobs(&self) -> usize {
        let gathered: usize = self
            .gatherings
            .values()
            .map(|gathering| gathering.jobs.len())
            .sum();
        gathered + self.made_up.iter().map(Vec::len).sum::<usize>()
    }

    /// When a batch has lingered long enough, or has waited for a worker for too long.
    pub fn deadline(&self) -> Option<Mono> {
        self.gatherings.values().filter_map(Gathering::deadline).min()
    }

    /// Time has passed. Returns jobs that waited for a worker for too long, in their order: they go back to their queue.
    pub fn tick(&mut self, now: Mono) -> Vec<u64> {
        let mut stale = Vec::new();
        for gathering in self.gatherings.values_mut() {
            gathering.look(now);
            if gathering.ready.is_some_and(|ready| ready + BUFFER_LIMIT <= now) {
                stale.extend(gathering.jobs.drain(..).map(|(execution, _)| execution));
            }
        }
        self.forget_empty();
        stale.sort_unstable();
        stale
    }

    /// Takes out one job, if it is here.
    pub fn take_out(&mut self, execution: u64) {
        for gathering in self.gatherings.values_mut() {
            gathering.jobs.retain(|(waits, _)| *waits != execution);
        }
        for jobs in &mut self.made_up {
            jobs.retain(|waits| *waits != execution);
        }
        self.made_up.retain(|jobs| !jobs.is_empty());
        self.forget_empty();
    }

    /// Takes out everything, in order.
    pub fn clear(&mut self) -> Vec<u64> {
        let gathered = std::mem::take(&mut self.gatherings).into_values();
        let gathered = gathered
            .flat_map(|gathering| gathering.jobs)
            .map(|(execution, _)| execution);
        let mut all: Vec<u64> = self.made_up.drain(..).flatten().chain(gathered).collect();
        all.sort_unstable();
        all
    }

    fn forget_empty(&mut self) {
        self.gatherings.retain(|_, gathering| !gathering.jobs.is_empty());
    }
}

/// A batch that failed as a whole, in two: the fault is in one of them.
pub(super) fn halves(mut jobs: Vec<u64>) -> (Vec<u64>, Vec<u64>) {
    let second = jobs.split_off(jobs.len() / 2);
    (jobs, second)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NONE: [u64; 0] = [];
    const RULE: Rule = Rule {
        size: 3,
        linger: Duration::from_millis(50),
        split: false,
    };

    fn gathered(jobs: &[(u64, u64)]) -> Batches {
        let mut batches = Batches::default();
        for (execution, ms) in jobs {
            batches.gather(&"insert".into(), RULE, *execution, at(*ms));
        }
        batches
    }

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_batch_goes_when_it_is_full() {
        let mut batches = gathered(&[(1, 0), (2, 0)]);
        assert_eq!((batches.next(), batches.missing()), (None, 1));
        batches.gather(&"insert".into(), RULE, 3, at(1));
        batches.gather(&"insert".into(), RULE, 4, at(1));
        assert_eq!((batches.next(), batches.ready_jobs().count()), (Some(1), 4));
        assert_eq!(batches.take(100, at(1)), [1, 2, 3]);
        assert_eq!((batches.next(), batches.missing(), batches.jobs()), (None, 2, 1));
    }

    #[test]
    fn what_came_within_its_linger_goes_when_that_is_over() {
        let mut batches = gathered(&[(1, 0), (2, 30)]);
        assert_eq!(batches.deadline(), Some(at(50)));
        assert_eq!(batches.tick(at(49)), NONE);
        assert_eq!(batches.next(), None);
        assert_eq!(batches.tick(at(50)), NONE);
        assert_eq!(batches.take(100, at(50)), [1, 2]);
        assert_eq!((batches.deadline(), batches.jobs()), (None, 0));
    }

    #[test]
    fn a_batch_without_a_worker_goes_back_to_its_queue() {
        let mut batches = gathered(&[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(batches.deadline(), Some(at(0) + BUFFER_LIMIT));
        assert_eq!(batches.tick(at(999)), NONE);
        assert_eq!(batches.tick(at(0) + BUFFER_LIMIT), [1, 2, 3]);
        assert_eq!(batches.jobs(), 0);
    }

    #[test]
    fn what_a_worker_may_not_take_stays() {
        let mut batches = gathered(&[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(batches.take(2, at(0)), [1, 2]);
        batches.put_back(vec![1, 2]);
        assert_eq!(batches.take(1, at(0)), [1]);
        assert_eq!(batches.take(9, at(0)), [2]);
    }

    #[test]
    fn the_oldest_batch_goes_first() {
        let mut batches = gathered(&[(4, 0), (5, 0), (6, 0)]);
        batches.put_back(vec![8, 9]);
        batches.put_back(vec![2, 3]);
        assert_eq!(batches.take(9, at(0)), [2, 3]);
        assert_eq!(batches.take(9, at(0)), [4, 5, 6]);
        assert_eq!(batches.take(9, at(0)), [8, 9]);
        assert_eq!(batches.take(9, at(0)), NONE);
    }

    #[test]
    fn a_half_is_never_empty() {
        assert_eq!(halves(vec![1, 2]), (vec![1], vec![2]));
        assert_eq!(halves(vec![1, 2, 3]), (vec![1], vec![2, 3]));
    }
}
