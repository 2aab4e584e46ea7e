//! Jobs in: how many are wanted, and who gets the next one.

use std::time::Duration;

use crate::config::{PoolConfig, Prefetch};
use crate::fleet::{Action, Execution};
use crate::job::{Delivery, Job};
use crate::policy::prefetch::{self, ServiceTimes};
use crate::policy::{recycle, retry};
use crate::wire::frame::{HEADER_LEN, PACKET_LEN_MAX, Run};

use super::hand::{Hand, Held};
use super::jobs::Next;
use super::life::State;
use super::worker::Worker;
use super::{Context, Pool};

/// Jobs kept at hand in the supervisor: what the pool finishes in this time.
const BUFFER_SPAN: Duration = Duration::from_millis(20);
/// Never more than so many, however short the jobs are.
const BUFFER_MAX: usize = 4096;

impl Pool {
    /// How many jobs to claim now; 0: none.
    pub fn wants(&self, running: bool) -> usize {
        if !self.serves(running) || self.jobs.is_full() {
            return 0;
        }
        let (mut workers, mut idle, mut room) = (0, 0, 0);
        let surplus = self.counted() > self.size.target() as usize;
        let nothing = prefetch::Held::NOTHING;
        let capacity = prefetch::room(self.config.prefetch, &nothing, self.measures.service().typical());
        let capacity = if surplus { 1 } else { capacity as usize };
        for worker in self.workers.values().filter(|worker| worker.takes_jobs()) {
            workers += 1;
            idle += usize::from(worker.state() == State::Idle);
            room += capacity.saturating_sub(worker.held());
        }
        // What went back for want of a free worker would go back again.
        if idle == 0 && self.jobs.went_back().is_some() {
            return 0;
        }
        let wanted = buffer_wanted(&self.config, self.measures.service(), workers);
        let (ready, missing) = (self.jobs.ready(), self.jobs.missing());
        // Half a buffer is enough as long as nobody stands idle: claims stay few and large.
        if missing == 0 && idle <= ready && ready > wanted / 2 {
            return 0;
        }
        (room + wanted + missing).saturating_sub(ready)
    }

    /// Jobs from the broker.
    pub fn delivered(&mut self, jobs: Vec<Delivery>, cx: &mut Context) {
        for Delivery {
            token,
            tells_begin,
            job,
        } in jobs
        {
            if retry::is_poison(&job, &cx.app.retry_rules(&job, &self.config)) {
                self.bury_poison(token, &job, cx);
                continue;
            }
            let rule = cx.app.batch_rule(&job);
            self.backlog.take(&job.queue, 1);
            self.looks.came();
            let execution = Execution {
                timeout: cx.app.timeout_of(&job, &self.config),
                attempt: 1 + job.failures + job.losses,
                holder: None,
                tells_begin,
                called_off: None,
                job,
            };
            self.jobs.delivered(token.0, execution, rule, cx.now.mono);
        }
        self.dispatch(cx);
    }

    /// Sends jobs and batches, in order, as far as workers may take them. Where no more jobs are to run, they go back
    /// to their queue.
    pub fn dispatch(&mut self, cx: &mut Context) {
        if !self.serves(cx.running) {
            self.give_back_waiting(cx);
            return;
        }
        let surplus = self.counted() > self.size.target() as usize;
        while let Some(next) = self.jobs.next() {
            let sent = match next {
                Next::Single(execution) => self.send_single(execution, surplus, cx),
                Next::Batch => self.send_batch(cx),
            };
            if !sent {
                break;
            }
        }
        self.look_if_left_waiting(cx);
    }

    fn held(&self, execution: u64) -> Held {
        let Execution { job, tells_begin, .. } = self.jobs.held(execution);
        Held {
            execution,
            tells_begin: *tells_begin,
            has_begun: false,
            was_looked_for: false,
            expected: self.measures.service().expected(&job.task),
            alone: fills_a_packet(job) || self.measures.is_printing(&job.task),
        }
    }

    /// Sends a job to an idle worker, else to the one that will be free first, if its backlog allows. Returns whether
    /// there was one.
    fn send_single(&mut self, execution: u64, surplus: bool, cx: &mut Context) -> bool {
        let held = self.held(execution);
        let Some(id) = self.choose(&held, surplus) else {
            return false;
        };
        let sent = self.jobs.send_single(id, cx.now.mono);
        assert_eq!(sent, execution, "the next one is sent");
        let was_idle = self.give(id, vec![held], cx);
        if !was_idle {
            let task = self.jobs.held(execution).job.task.clone();
            self.measures.tally_mut().tasks.at(&task).sent_ahead += 1;
        }
        cx.act(Action::Send {
            worker: id,
            execution,
        });
        self.wear_out(id, cx);
        true
    }

    fn choose(&self, held: &Held, surplus: bool) -> Option<u64> {
        if let Some(idle) = self.idle_worker() {
            return Some(idle);
        }
        if surplus || held.alone || self.config.prefetch == Prefetch::Fixed(0) {
            return None;
        }
        let has_room = |hand: &Hand| {
            hand.takes_more() && prefetch::room(self.config.prefetch, &hand.load(), held.expected) > 0
        };
        let busy = self.workers.iter();
        busy.filter(|(_, worker)| worker.takes_jobs() && !worker.is_suspect())
            .filter(|(_, worker)| worker.hand().is_some_and(has_room))
            .map(|(id, worker)| (worker.held(), *id))
            .min()
            .map(|(_, id)| id)
    }

    /// The idle worker that is next.
    fn idle_worker(&self) -> Option<u64> {
        let idle = |(_, worker): &(&u64, &Worker)| worker.takes_jobs() && worker.state() == State::Idle;
        let idle = self.workers.iter().filter(idle);
        idle.min_by_key(|(id, worker)| (worker.is_suspect(), **id))
            .map(|(id, _)| *id)
    }

    /// Sends the next batch to an idle worker. Returns false when there is none.
    fn send_batch(&mut self, cx: &mut Context) -> bool {
        let Some(id) = self.idle_worker() else {
            return false;
        };
        let rules = cx.app.recycle_rules(&self.config);
        let left = recycle::jobs_left(&rules, self.workers[&id].assigned());
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let timeout = |execution: &Execution| cx.app.timeout_of(&execution.job, &self.config);
        let batch = self.jobs.send_batch(id, most, timeout, cx.now.mono);
        assert!(!batch.is_empty(), "worker {id} takes jobs, and may take none");
        let held = |execution: &u64| Held {
            alone: true,
            ..self.held(*execution)
        };
        let held: Vec<Held> = batch.iter().map(held).collect();
        let was_idle = self.give(id, held, cx);
        assert!(was_idle, "a batch travels alone");
        let task = self.jobs.held(batch[0]).job.task.clone();
        self.measures
            .tally_mut()
            .tasks
            .at(&task)
            .batches
            .record(batch.len() as f64);
        cx.act(Action::SendBatch {
            worker: id,
            executions: batch,
        });
        self.wear_out(id, cx);
        true
    }

    /// A worker holds these too from now on. Returns whether it was idle.
    fn give(&mut self, id: u64, jobs: Vec<Held>, cx: &mut Context) -> bool {
        let worker = self.workers.get_mut(&id).expect("it was just chosen");
        let was_idle = worker.give(jobs, cx.now.mono);
        if was_idle {
            self.measures.meter_mut().job_started(id, cx.now.mono);
            cx.register.jobs_changed();
            self.tell_begin(id, cx);
        }
        was_idle
    }

    /// Jobs of one task that a worker may hold at once, the running one included.
    pub(super) fn depth(&self, task: &str, app: &crate::fleet::app::App) -> u32 {
        if let Some(size) = app.batch_size(task) {
            return size;
        }
        if app.one_job_a_worker() || self.measures.is_printing(task) {
            return 1;
        }
        let expected = self.measures.service().expected(task);
        prefetch::room(self.config.prefetch, &prefetch::Held::NOTHING, expected)
    }
}

/// Jobs to keep at hand beside so many workers.
fn buffer_wanted(config: &PoolConfig, service: &ServiceTimes, workers: usize) -> usize {
    match (config.prefetch, service.typical()) {
        // Every job is handed over one at a time: nothing to keep at hand.
        (Prefetch::Fixed(0), _) | (_, None) => 0,
        (Prefetch::Fixed(_) | Prefetch::Auto, Some(typical)) => {
            let span_ns = BUFFER_SPAN.as_nanos() * workers as u128;
            let jobs = span_ns / typical.as_nanos().max(1_000);
            usize::try_from(jobs).unwrap_or(BUFFER_MAX).min(BUFFER_MAX)
        }
    }
}

fn fills_a_packet(job: &Job) -> bool {
    let run = Run {
        execution: 0,
        timeout_ms: 0,
        attempt: 0,
        ordinal: 0,
        job_kind: 0,
        id: job.id.as_str(),
        queue: job.queue.as_str(),
        task: &job.task,
        payload: &job.payload,
    };
    HEADER_LEN + run.body_len() > PACKET_LEN_MAX
}

#[cfg(test)]
mod tests;
