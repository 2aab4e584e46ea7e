//! The jobs that a pool holds under its lease: which wait for a worker, and who has the others.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::fleet::app::Rule;
use crate::fleet::{BUFFER_LIMIT, CallOff, Execution};
use crate::job::{Job, JobId, Outcome, RunStamp, Work};
use crate::time::{Mono, Unix};

use super::gather::{self, Batches};

/// What goes to a worker next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This execution.
    Single(u64),
    /// A batch.
    Batch,
}

/// Most jobs that wait for code that knows them; above it no more are claimed.
const HELD_BACK_MAX: usize = 1000;

/// A job that its worker's code does not know, while newer code loads.
#[derive(Debug)]
pub(super) struct HeldBack {
    pub execution: u64,
    /// Of the worker that does not know it.
    pub generation: u64,
    /// What becomes of it if no newer code comes.
    pub outcome: Outcome,
    pub run: RunStamp,
}

/// All executions of a pool that are not settled. Each waits here, or one worker has it.
#[derive(Debug)]
pub(super) struct Jobs {
    executions: HashMap<u64, Execution>,
    /// Those that wait to be sent one by one, the next one first.
    buffer: VecDeque<u64>,
    /// When one last left the buffer.
    moved: Mono,
    /// The buffer went back, and no worker has been sent a job since: from when on the oldest of them could have run.
    went_back: Option<Unix>,
    /// Those of batch tasks that wait to be sent.
    batches: Batches,
    /// Those that wait for newer code.
    held_back: Vec<HeldBack>,
}

impl Jobs {
    pub fn new(now: Mono) -> Self {
        Jobs {
            executions: HashMap::new(),
            buffer: VecDeque::new(),
            moved: now,
            went_back: None,
            batches: Batches::default(),
            held_back: Vec::new(),
        }
    }

    // ---- what others ask ----

    pub fn get(&self, execution: u64) -> Option<&Execution> {
        self.executions.get(&execution)
    }

    /// An execution that is known to be in hand.
    pub fn held(&self, execution: u64) -> &Execution {
        self.executions
            .get(&execution)
            .expect("a settled execution is gone")
    }

    /// The newest execution of this job.
    pub fn find(&self, job: &JobId) -> Option<u64> {
        let of_it = self
            .executions
            .iter()
            .filter(|(_, execution)| execution.job.id == *job);
        of_it.map(|(number, _)| *number).max()
    }

    /// All in hand.
    pub fn len(&self) -> usize {
        self.executions.len()
    }

    /// The jobs among them; after-work is none.
    pub fn in_hand(&self) -> impl Iterator<Item = &Job> {
        let jobs = self.executions.values().map(|execution| &execution.job);
        jobs.filter(|job| job.work == Work::Job)
    }

    /// Whether there is a job among them; after-work is none.
    pub fn has_jobs(&self) -> bool {
        let mut all = self.executions.values();
        all.any(|execution| execution.job.work == Work::Job)
    }

    /// Whether jobs wait to be sent one by one.
    pub fn is_behind(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Jobs that could be sent now.
    pub fn ready(&self) -> usize {
        self.buffer.len() + self.batches.ready_jobs().count()
    }

    /// The same, one by one.
    pub fn ready_jobs(&self) -> impl Iterator<Item = &Job> {
        let numbers = self.buffer.iter().copied().chain(self.batches.ready_jobs());
        numbers.map(|number| &self.held(number).job)
    }

    /// Jobs that would fill the batches that are waited for.
    pub fn missing(&self) -> usize {
        self.batches.missing()
    }

    /// Jobs of batch tasks that wait.
    pub fn gathering(&self) -> usize {
        self.batches.jobs()
    }

    /// All that wait.
    pub fn waiting(&self) -> usize {
        self.buffer.len() + self.batches.jobs() + self.held_back.len()
    }

    /// So many wait for newer code that no more may be claimed.
    pub fn is_full(&self) -> bool {
        self.held_back.len() >= HELD_BACK_MAX
    }

    /// Workers were too busy for what was at hand, and no job has been sent since: from when on the oldest of those that
    /// went back could have run.
    pub fn went_back(&self) -> Option<Unix> {
        self.went_back
    }

    /// When jobs that wait go back, or a batch goes out.
    pub fn deadline(&self) -> Option<Mono> {
        let give_back = (!self.buffer.is_empty()).then(|| self.moved + BUFFER_LIMIT);
        give_back.into_iter().chain(self.batches.deadline()).min()
    }

    /// What is to be sent next. Numbers grow with each delivery: the smaller one has waited longer.
    pub fn next(&self) -> Option<Next> {
        match (self.buffer.front(), self.batches.next()) {
            (Some(single), Some(batch)) if batch < *single => Some(Next::Batch),
            (Some(single), _) => Some(Next::Single(*single)),
            (None, batch) => batch.map(|_| Next::Batch),
        }
    }

    // ---- their way ----

    /// A job came. With a rule it waits for its batch, `alone` for no other.
    pub fn delivered(&mut self, number: u64, execution: Execution, rule: Option<Rule>, now: Mono) {
        assert!(execution.holder.is_none(), "nobody has what has just come");
        let known = self.executions.insert(number, execution);
        assert!(known.is_none(), "execution {number} is new");
        self.line_up(number, rule, now);
    }

    fn line_up(&mut self, number: u64, rule: Option<Rule>, now: Mono) {
        let job = &self.held(number).job;
        let (task, failed_before) = (job.task.clone(), job.failures + job.losses > 0);
        match rule {
            None => {
                if self.buffer.is_empty() {
                    self.moved = now;
                }
                self.buffer.push_back(number);
            }
            // It was found to be at fault: alone, it costs no other job another run.
            Some(rule) if rule.split && failed_before => self.batches.put_back(vec![number]),
            Some(rule) => self.batches.gather(&task, rule, number, now),
        }
    }

    /// The next single one goes to this worker.
    pub fn send_single(&mut self, worker: u64, now: Mono) -> u64 {
        let execution = self.buffer.pop_front().expect("one is next");
        self.moved = now;
        self.hand_over(execution, worker);
        execution
    }

    /// The next batch goes to this worker, of `most` jobs at the most. They share one deadline.
    pub fn send_batch(
        &mut self,
        worker: u64,
        most: usize,
        timeout: impl Fn(&Execution) -> Option<Duration>,
        now: Mono,
    ) -> Vec<u64> {
        let batch = self.batches.take(most, now);
        let mut longest = Some(Duration::ZERO);
        for execution in &batch {
            let timeout = timeout(self.held(*execution));
            longest = longest.zip(timeout).map(|(a, b)| a.max(b));
        }
        for execution in &batch {
            self.hand_over(*execution, worker);
            self.of(*execution).timeout = longest;
        }
        batch
    }

    fn of(&mut self, execution: u64) -> &mut Execution {
        let held = self.executions.get_mut(&execution);
        held.expect("a settled execution is gone")
    }

    fn hand_over(&mut self, execution: u64, worker: u64) {
        self.went_back = None;
        let before = self.of(execution).holder.replace(worker);
        assert_eq!(
            before, None,
            "execution {execution} is held by one worker at most"
        );
    }

    fn take_from(&mut self, executions: &[u64]) {
        for execution in executions {
            let before = self.of(*execution).holder.take();
            assert!(before.is_some(), "no worker had execution {execution}");
        }
    }

    /// Jobs that their worker did not read go first again; those of a batch, together. Takes out those that were called
    /// off meanwhile.
    #[must_use]
    pub fn put_back(&mut self, executions: &[u64], as_batch: bool, now: Mono) -> Vec<(u64, Execution)> {
        self.take_from(executions);
        let is_off = |execution: &u64| self.held(*execution).called_off.is_some();
        let (off, on): (Vec<u64>, Vec<u64>) = executions.iter().partition(|execution| is_off(execution));
        if as_batch {
            self.batches.put_back(on);
        } else {
            on.iter()
                .rev()
                .for_each(|execution| self.buffer.push_front(*execution));
            self.moved = now;
        }
        let taken = self.forget(&off);
        off.into_iter().zip(taken).collect()
    }

    /// This execution has begun, and whoever wanted to know was told.
    pub fn begin(&mut self, execution: u64) {
        self.of(execution).tells_begin = false;
    }

    /// This execution is not to begin. Of what its worker may have begun already, only this is noted.
    pub fn call_off(&mut self, execution: u64, how: CallOff) {
        let called_off = &mut self.of(execution).called_off;
        // What somebody asked for holds, wherever its message is.
        if how != CallOff::Recalled || called_off.is_none() {
            *called_off = Some(how);
        }
    }

    /// It has begun although it was called off: nobody calls it off any more. Returns how it was.
    pub fn runs_on(&mut self, execution: u64) -> Option<CallOff> {
        self.of(execution).called_off.take()
    }

    /// Takes out one that waits.
    pub fn take_out(&mut self, execution: u64) -> Execution {
        self.buffer.retain(|waits| *waits != execution);
        self.batches.take_out(execution);
        self.held_back.retain(|held| held.execution != execution);
        let mut taken = self.forget(&[execution]);
        taken.pop().expect("it was in hand")
    }

    /// Jobs of one batch failed together: they run again in two halves.
    pub fn split(&mut self, executions: Vec<u64>) {
        self.take_from(&executions);
        let (first, second) = gather::halves(executions);
        self.batches.put_back(second);
        self.batches.put_back(first);
    }

    /// A job waits for newer code than its worker's.
    pub fn hold_back(&mut self, job: HeldBack) {
        self.take_from(&[job.execution]);
        self.held_back.push(job);
    }

    /// Newer code is there: what waited for it lines up again, by these rules.
    pub fn let_go(&mut self, rule: impl Fn(&Execution) -> Option<Rule>, now: Mono) {
        for job in std::mem::take(&mut self.held_back) {
            let rule = rule(self.held(job.execution));
            self.line_up(job.execution, rule, now);
        }
    }

    /// No newer code comes for those of some generations: takes them out.
    pub fn take_hopeless(&mut self, is_hopeless: impl Fn(u64) -> bool) -> Vec<(Execution, HeldBack)> {
        let hopeless = self.held_back.extract_if(.., |job| is_hopeless(job.generation));
        let hopeless: Vec<HeldBack> = hopeless.collect();
        let numbers: Vec<u64> = hopeless.iter().map(|job| job.execution).collect();
        let taken = self.forget(&numbers);
        taken.into_iter().zip(hopeless).collect()
    }

    /// Forgets an execution that a worker had: it is settled.
    pub fn settle(&mut self, execution: u64) -> Execution {
        let settled = self.executions.remove(&execution);
        let settled = settled.expect("an execution is settled once");
        assert!(
            settled.holder.is_some(),
            "execution {execution} waits and is settled"
        );
        settled
    }

    /// Takes out all that wait, in order.
    pub fn take_waiting(&mut self) -> Vec<u64> {
        let mut waiting: Vec<u64> = std::mem::take(&mut self.buffer).into();
        waiting.extend(self.batches.clear());
        waiting.extend(self.held_back.drain(..).map(|job| job.execution));
        waiting.sort_unstable();
        self.forget(&waiting);
        waiting
    }

    /// Time has passed: batches may go out. Takes out those that nobody took for too long, in order.
    pub fn take_stale(&mut self, now: Mono) -> Vec<u64> {
        let mut stale = self.batches.tick(now);
        if !self.buffer.is_empty() && self.moved + BUFFER_LIMIT <= now {
            let ready = self.buffer.iter().map(|number| self.held(*number).job.ready);
            self.went_back = ready.min();
            stale.extend(std::mem::take(&mut self.buffer));
        }
        stale.sort_unstable();
        self.forget(&stale);
        stale
    }

    fn forget(&mut self, executions: &[u64]) -> Vec<Execution> {
        let forget = |execution| self.executions.remove(execution).expect("it waited here");
        let forgotten: Vec<Execution> = executions.iter().map(forget).collect();
        let free = forgotten.iter().all(|execution| execution.holder.is_none());
        assert!(free, "what waits, nobody has");
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An execution that a worker has.
    fn given_to_a_worker(jobs: &mut Jobs) -> u64 {
        let execution = Execution {
            job: Job::sample("a"),
            timeout: None,
            attempt: 1,
            tells_begin: false,
            called_off: None,
            holder: None,
        };
        jobs.delivered(1, execution, None, Mono(0));
        jobs.send_single(1, Mono(0))
    }

    #[test]
    fn what_somebody_asked_for_holds_although_the_source_wants_it_back() {
        let asked = [CallOff::Canceled, CallOff::Stopped, CallOff::Recalled];
        for how in asked {
            let mut jobs = Jobs::new(Mono(0));
            let execution = given_to_a_worker(&mut jobs);
            jobs.call_off(execution, how);
            jobs.call_off(execution, CallOff::Recalled);
            assert_eq!(jobs.runs_on(execution), Some(how));
        }
        let mut jobs = Jobs::new(Mono(0));
        let execution = given_to_a_worker(&mut jobs);
        jobs.call_off(execution, CallOff::Recalled);
        jobs.call_off(execution, CallOff::Stopped);
        assert_eq!(
            jobs.runs_on(execution),
            Some(CallOff::Stopped),
            "whichever came first"
        );
    }
}
