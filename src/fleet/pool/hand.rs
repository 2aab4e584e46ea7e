//! What a worker holds: the job that it runs, or a batch, and what it was sent ahead.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fleet::{LOOK_INTERVAL, Unread};
use crate::policy::prefetch;
use crate::time::Mono;

/// A job that a worker holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    /// The execution.
    pub execution: u64,
    /// How long it is expected to take; `None`: its task is not known yet.
    pub expected: Option<Duration>,
    /// Nothing is sent behind it: it fills more than one packet, or its task prints, and then its lines
    /// must not be taken for those of the next job.
    pub alone: bool,
    /// Somebody wants to know when it begins, and was not told.
    pub tells_begin: bool,
    /// It is known to have begun, on this worker.
    pub has_begun: bool,
    /// It lay on its worker's socket when it was looked last what is unread there.
    pub was_looked_for: bool,
}

/// How far it is known that a worker reads the job that it is thought to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Nobody looked.
    Unchecked,
    /// It was looked once.
    Checked,
    /// What it had not read was taken back, and its running job has not ended since: nothing more is sent.
    Stalled,
}

/// Jobs that run as one.
#[derive(Clone, Debug)]
struct Batch {
    /// How many were sent.
    size: usize,
    /// Those that failed together; what becomes of them is decided when all were answered for.
    failed_together: Vec<u64>,
}

/// Everything that a worker holds; never nothing.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    /// The first one runs, or with it all of its batch.
    held: VecDeque<Held>,
    /// When the first one began, as far as known.
    since: Mono,
    batch: Option<Batch>,
    reading: Reading,
    /// It was asked whether it has the job that it should be running.
    asked: bool,
    /// When it was looked last whether they have begun.
    looked: Mono,
}

impl Hand {
    /// The first jobs of a worker that was idle.
    pub fn new(jobs: Vec<Held>, now: Mono) -> Self {
        assert!(!jobs.is_empty(), "a hand holds something");
        let batch = (jobs.len() > 1).then(|| Batch {
            size: jobs.len(),
            failed_together: Vec::new(),
        });
        Hand {
            held: jobs.into(),
            since: now,
            batch,
            reading: Reading::Unchecked,
            asked: false,
            looked: now,
        }
    }

    /// One more job behind the others.
    pub fn add(&mut self, job: Held) {
        assert!(
            self.takes_more() && !job.alone,
            "nothing follows {:?}",
            self.held.back()
        );
        self.held.push_back(job);
    }

    /// Whether a job may be sent behind what is held.
    pub fn takes_more(&self) -> bool {
        let alone = self.held.iter().any(|held| held.alone);
        self.reading != Reading::Stalled && self.batch.is_none() && !alone
    }

    /// The job that runs.
    pub fn front(&self) -> &Held {
        self.held.front().expect("a hand holds something")
    }

    /// When it began, as far as known.
    pub fn since(&self) -> Mono {
        self.since
    }

    /// All executions, in order.
    pub fn executions(&self) -> impl Iterator<Item = u64> {
        self.held.iter().map(|held| held.execution)
    }

    /// Those that run now.
    pub fn running(&self) -> impl Iterator<Item = u64> {
        let run = if self.batch.is_some() { self.held.len() } else { 1 };
        self.executions().take(run)
    }

    /// What should end before this one; `None`: it is not held, or all run as one and another one is first.
    pub fn ahead_of(&self, execution: u64) -> Option<Vec<u64>> {
        let at = self.executions().position(|held| held == execution)?;
        (at == 0 || self.batch.is_none()).then(|| self.executions().take(at).collect())
    }

    /// The first job is another one than was thought, and may have begun now.
    pub fn begin_anew(&mut self, now: Mono) {
        self.since = now;
        self.reading = Reading::Unchecked;
        self.asked = false;
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Jobs beyond what runs.
    pub fn prefetched(&self) -> usize {
        if self.batch.is_some() {
            0
        } else {
            self.held.len() - 1
        }
    }

    /// What is held, for the prefetch rule.
    pub fn load(&self) -> prefetch::Held {
        let nothing = prefetch::Held::NOTHING;
        self.held
            .iter()
            .fold(nothing, |load, held| load.with(held.expected))
    }

    /// Jobs of the batch that runs as one; 0: jobs run one at a time.
    pub fn batch(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.size)
    }

    /// This job of the batch failed with the whole of it.
    pub fn fails_together(&mut self, execution: u64) {
        let batch = self.batch.as_mut().expect("a job fails together with a batch");
        batch.failed_together.push(execution);
    }

    /// The first job ended at this time, and the next one runs. Returns the rest; if there is none, the jobs that failed
    /// together.
    pub fn finish(mut self, execution: u64, ended: Mono) -> Result<Hand, Vec<u64>> {
        let first = self.held.pop_front();
        assert_eq!(
            first.map(|held| held.execution),
            Some(execution),
            "the first one ends"
        );
        self.since = ended;
        self.reading = Reading::Unchecked;
        self.asked = false;
        if self.held.is_empty() {
            return Err(self.batch.map_or_else(Vec::new, |batch| batch.failed_together));
        }
        Ok(self)
    }

    /// When it is looked whether jobs have begun of which somebody wants to know.
    pub fn begin_deadline(&self) -> Option<Mono> {
        let run = self.running().count();
        let is_awaited = self.held.iter().take(run).any(|held| held.tells_begin);
        is_awaited.then(|| self.since.max(self.looked) + LOOK_INTERVAL)
    }

    /// It is looked now whether they have begun.
    pub fn look_for_begin(&mut self, now: Mono) {
        self.looked = now;
        for held in &mut self.held {
            held.was_looked_for = true;
        }
    }

    /// This lies unread: all before it have begun, of a batch all or none. Returns those of which somebody wants to know.
    pub fn begin(&mut self, unread: &Unread) -> Vec<u64> {
        // What was sent since that look is not part of what it saw.
        let is_read = |held: &&Held| held.was_looked_for && !unread.executions.contains(&held.execution);
        let mut begun = self.held.iter().take_while(is_read).count();
        // What is torn travels alone.
        if unread.torn || self.batch.is_some() && begun < self.held.len() {
            begun = 0;
        }
        let tell = |held: &mut Held| {
            held.has_begun = true;
            std::mem::take(&mut held.tells_begin).then_some(held.execution)
        };
        self.held.iter_mut().take(begun).filter_map(tell).collect()
    }

    /// These lay unread.
    ///
    /// # Panics
    /// If one of them is known to have begun.
    pub fn assert_unbegun(&self, executions: &[u64]) {
        let is_meant = |held: &&Held| executions.contains(&held.execution);
        let has_begun = self.held.iter().filter(is_meant).any(|held| held.has_begun);
        assert!(
            !has_begun,
            "what has begun can't come back unread: {executions:?}"
        );
    }

    /// These were not read and are taken out. Returns the rest, if there is any.
    pub fn take_out(mut self, executions: &[u64]) -> Option<Hand> {
        self.held.retain(|held| !executions.contains(&held.execution));
        (!self.held.is_empty()).then_some(self)
    }

    /// When it is looked whether jobs lie unread: behind a job that takes too long, and once if the worker might not
    /// read at all.
    pub fn unread_deadline(&self, auto: bool, pickup_limit: Duration) -> Option<Mono> {
        match self.reading {
            Reading::Stalled => None,
            Reading::Unchecked | Reading::Checked if auto && self.prefetched() > 0 => {
                Some(prefetch::stalled_at(self.since, self.front().expected))
            }
            Reading::Unchecked => Some(self.since + pickup_limit),
            Reading::Checked => None,
        }
    }

    /// It is looked now.
    pub fn look(&mut self) {
        self.reading = if self.prefetched() > 0 {
            Reading::Stalled
        } else {
            Reading::Checked
        };
    }

    /// When it is asked whether it has the job that it should be running: once, after it was looked whether that lies
    /// unread. A job that reads the job socket takes frames from its worker, which then waits for ever.
    pub fn ping_deadline(&self, pickup_limit: Duration) -> Option<Mono> {
        let looked = self.reading != Reading::Unchecked;
        (looked && !self.asked).then(|| self.since + pickup_limit)
    }

    /// It is asked now. Returns which job it should be running.
    pub fn ask(&mut self) -> u64 {
        self.asked = true;
        self.front().execution
    }

    /// The worker is dead: what it had not begun, and what it had, with those that had failed together. All jobs of
    /// a batch begin together. `torn`: nothing had begun.
    pub fn part(self, torn: bool, unread: &[u64]) -> Parted {
        self.assert_unbegun(unread);
        let is_batch = self.batch.is_some();
        let lies_unread = |execution: &u64| torn || unread.contains(execution);
        let none_began = is_batch && self.executions().any(|execution| lies_unread(&execution));
        let (unbegun, begun) = self
            .executions()
            .partition(|execution| none_began || lies_unread(execution));
        Parted {
            unbegun,
            begun,
            is_batch,
            failed_together: self.batch.map_or_else(Vec::new, |batch| batch.failed_together),
        }
    }
}

/// What a dead worker held.
pub(super) struct Parted {
    pub unbegun: Vec<u64>,
    pub begun: Vec<u64>,
    pub is_batch: bool,
    pub failed_together: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand(jobs: &[u64]) -> Hand {
        let held = |execution: &u64| Held {
            execution: *execution,
            expected: None,
            alone: jobs.len() > 1,
            tells_begin: true,
            has_begun: false,
            was_looked_for: false,
        };
        Hand::new(jobs.iter().map(held).collect(), Mono(0))
    }

    #[test]
    fn a_batch_runs_as_one() {
        let batch = hand(&[1, 2, 3]);
        assert_eq!(
            (batch.running().count(), batch.prefetched(), batch.batch()),
            (3, 0, 3)
        );
        assert!(!batch.takes_more());
    }

    #[test]
    fn jobs_that_failed_together_are_told_with_the_last_answer() {
        let mut batch = hand(&[1, 2]);
        batch.fails_together(1);
        let mut batch = batch.finish(1, Mono(5)).expect("one is left");
        assert_eq!((batch.since(), batch.front().execution), (Mono(5), 2));
        batch.fails_together(2);
        assert_eq!(batch.finish(2, Mono(6)).expect_err("none is left"), [1, 2]);
    }

    #[test]
    fn a_batch_has_begun_as_a_whole_or_not_at_all() {
        let parted = hand(&[1, 2, 3]).part(false, &[3]);
        assert_eq!((parted.unbegun, parted.begun), (vec![1, 2, 3], vec![]));
        let parted = hand(&[1, 2, 3]).part(false, &[]);
        assert_eq!((parted.unbegun, parted.begun), (vec![], vec![1, 2, 3]));
    }

    #[test]
    fn of_a_job_that_is_torn_nothing_has_begun() {
        let parted = hand(&[1]).part(true, &[]);
        assert_eq!((parted.unbegun, parted.begun), (vec![1], vec![]));
    }

    #[test]
    fn what_stands_before_the_first_unread_job_has_begun_and_is_told_once() {
        let mut single = hand(&[1]);
        assert_eq!(single.begin_deadline(), Some(Mono(0) + LOOK_INTERVAL));
        single.look_for_begin(Mono(5));
        assert_eq!(single.begin_deadline(), Some(Mono(5) + LOOK_INTERVAL));
        assert_eq!(single.begin(&vec![1].into()), [] as [u64; 0]);
        assert_eq!(single.begin(&vec![2].into()), [1]);
        assert_eq!(single.begin_deadline(), None);
        assert_eq!(single.begin(&Unread::default()), [] as [u64; 0]);
        let torn = Unread {
            executions: Vec::new(),
            torn: true,
        };
        assert_eq!(hand(&[1]).begin(&torn), [] as [u64; 0]);
    }

    #[test]
    fn what_was_sent_after_a_look_is_not_known_to_have_begun() {
        let mut single = hand(&[1]);
        assert_eq!(single.begin(&Unread::default()), [] as [u64; 0], "nobody looked");
        single.assert_unbegun(&[1]);
    }

    #[test]
    fn a_batch_begins_when_all_of_it_is_read() {
        let mut batch = hand(&[1, 2]);
        batch.look_for_begin(Mono(5));
        assert_eq!(batch.begin(&vec![2].into()), [] as [u64; 0]);
        assert_eq!(batch.begin(&Unread::default()), [1, 2]);
    }

    #[test]
    #[should_panic(expected = "can't come back unread")]
    fn what_has_begun_does_not_come_back_unread() {
        let mut single = hand(&[1]);
        single.look_for_begin(Mono(5));
        single.begin(&Unread::default());
        single.assert_unbegun(&[1]);
    }

    #[test]
    fn it_is_looked_once_whether_a_job_is_read() {
        let mut single = hand(&[1]);
        let limit = Duration::from_secs(2);
        assert_eq!(single.unread_deadline(true, limit), Some(Mono(0) + limit));
        single.look();
        assert_eq!(single.unread_deadline(true, limit), None);
    }

    #[test]
    fn what_is_ahead_of_a_job_ends_before_it() {
        let mut hand = hand(&[1]);
        hand.add(Held {
            execution: 2,
            expected: None,
            alone: false,
            tells_begin: false,
            has_begun: false,
            was_looked_for: false,
        });
        assert_eq!(hand.ahead_of(1), Some(vec![]));
        assert_eq!(hand.ahead_of(2), Some(vec![1]));
        assert_eq!(hand.ahead_of(3), None);
    }

    #[test]
    fn jobs_of_a_batch_end_in_their_order() {
        assert_eq!(hand(&[1, 2]).ahead_of(1), Some(vec![]));
        assert_eq!(hand(&[1, 2]).ahead_of(2), None);
    }

    #[test]
    fn a_worker_is_asked_once_a_job_and_only_after_a_look() {
        let mut hand = hand(&[1]);
        let limit = Duration::from_secs(2);
        assert_eq!(hand.ping_deadline(limit), None);
        hand.look();
        assert_eq!(hand.ping_deadline(limit), Some(Mono(0) + limit));
        assert_eq!(hand.ask(), 1);
        assert_eq!(hand.ping_deadline(limit), None);
    }
}
