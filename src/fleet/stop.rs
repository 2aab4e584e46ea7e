//! Pause, drain, stop: how work ends without losing a job.

use std::time::Duration;

use crate::job::{JobId, PoolName};
use crate::policy::shutdown::{Event, Step, Stop};

use super::death::KillReason;
use super::pool::worker::{Expiry, Held, State, Worker};
use super::{Action, Command, Fleet, Now};

/// However long a job takes, nobody waits longer than a year.
const PATIENCE: Duration = Duration::from_secs(365 * 86_400);

impl Fleet {
    /// Does what somebody asks; the answer is for them to read.
    pub fn command(&mut self, command: Command, now: Now, out: &mut Vec<Action>) -> Result<String, String> {
        let answer = match command {
            Command::Scale { pool, min, max } => self.scale(&pool, min, max, now, out),
            Command::Pause { pool } => self.pause(pool.as_ref(), true, now, out),
            Command::Resume { pool } => self.pause(pool.as_ref(), false, now, out),
            Command::StopJob { job } => self.stop_job(&job, now, out),
            Command::ReplaceWorker { worker } => self.replace_worker(worker, now, out),
            Command::KillWorker { worker } if !self.is_busy(worker) => {
                Err(format!("worker {worker} runs no job that could be killed"))
            }
            Command::KillWorker { worker } => {
                self.kill(worker, KillReason::Asked, now, out);
                Ok(format!("killing worker {worker}"))
            }
            Command::Drain { patient } => {
                self.patient |= patient;
                self.stopping(Event::Drain, now, out);
                Ok("draining: running jobs may finish, the rest goes back to its queue".into())
            }
            Command::Stop => {
                self.stopping(Event::Now, now, out);
                Ok("stopping: running jobs go back to their queue".into())
            }
        };
        self.leave_if_empty(now, out);
        answer
    }

    fn is_busy(&self, id: u64) -> bool {
        self.workers
            .get(&id)
            .is_some_and(|worker| worker.state == State::Busy)
    }

    fn stop_job(&mut self, job: &JobId, now: Now, out: &mut Vec<Action>) -> Result<String, String> {
        let is_it = |held: &&Held| {
            let execution = self.executions.get(&held.execution);
            execution.is_some_and(|execution| execution.claimed.claim.job == *job)
        };
        let runs = |worker: &Worker| {
            // What it holds behind a job that is no part of a batch has not begun.
            let running = worker.held.iter().take(worker.batch.max(1));
            running.clone().find(is_it).map(|held| held.execution)
        };
        let running = self
            .workers
            .iter()
            .find_map(|(id, worker)| Some((*id, runs(worker)?)));
        let Some((id, execution)) = running else {
            return Err(format!("job {job} does not run here"));
        };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.stopped = Some(execution);
        }
        self.kill(id, KillReason::JobStopped, now, out);
        Ok(format!("stopping job {job}"))
    }

    fn replace_worker(&mut self, id: u64, now: Now, out: &mut Vec<Action>) -> Result<String, String> {
        let Some(worker) = self.workers.get_mut(&id) else {
            return Err(format!("there is no worker {id}"));
        };
        worker.expiring = Some(Expiry::Asked);
        worker.closing = true;
        let name = worker.pool.clone();
        self.fell_idle(id, now, out);
        self.balance(&name, now, out);
        Ok(format!("replacing worker {id}"))
    }

    /// Names the pools that there are.
    pub(super) fn no_such_pool(&self, asked: &PoolName) -> String {
        let known: Vec<String> = self.pools.keys().map(ToString::to_string).collect();
        format!("there is no pool `{asked}` (pools: {})", known.join(", "))
    }

    fn pause(
        &mut self,
        name: Option<&PoolName>,
        paused: bool,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let names: Vec<PoolName> = self
            .pools
            .keys()
            .filter(|pool| name.is_none_or(|name| name == *pool))
            .cloned()
            .collect();
        if let (true, Some(name)) = (names.is_empty(), name) {
            return Err(self.no_such_pool(name));
        }
        for name in &names {
            if let Some(pool) = self.pools.get_mut(name) {
                pool.paused = paused;
            }
            if paused {
                self.give_back_buffer(name, out);
                self.take_back_held(|pool| pool == name, out);
            }
            self.balance(name, now, out);
        }
        let names = names
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        Ok(format!("{}: {names}", if paused { "paused" } else { "resumed" }))
    }

    /// A step of the shutdown, and what it asks for.
    pub(super) fn stopping(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        let timeouts = self.pools.values().map(|pool| pool.config.stop_timeout);
        let timeout = if self.patient {
            PATIENCE
        } else {
            timeouts.max().unwrap_or_default()
        };
        let again = matches!(event, Event::Drain | Event::Now);
        if self.stop == Stop::Leaving && again {
            // Whoever asks once more while the templates take their time does not want to wait.
            self.templates.stop_at_once(now, out);
        }
        let (stop, step) = self.stop.step(event, timeout, now.mono);
        self.stop = stop;
        match step {
            Some(Step::Drain) => self.drain(now, out),
            Some(Step::Kill) => {
                self.drain(now, out);
                self.interrupt(now, out);
            }
            Some(Step::Leave) => self.templates.stop(now, out),
            None => {}
        }
    }

    /// Gives back what does not run and lets the idle go.
    fn drain(&mut self, now: Now, out: &mut Vec<Action>) {
        self.templates.start_no_more();
        for name in self.pool_names() {
            self.give_back_buffer(&name, out);
        }
        self.take_back_held(|_| true, out);
        let idle: Vec<u64> = self
            .workers
            .iter()
            .filter(|(_, worker)| matches!(worker.state, State::Starting | State::Idle))
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.retire(id, "stopping", now, out);
        }
    }

    /// Kills what still runs; its jobs go back to the front of their queues.
    fn interrupt(&mut self, now: Now, out: &mut Vec<Action>) {
        let alive: Vec<u64> = self.workers.keys().copied().collect();
        for id in alive {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.interrupted = true;
            }
            self.kill(id, KillReason::Stopping, now, out);
        }
    }

    fn take_back_held(&mut self, pool: impl Fn(&PoolName) -> bool, out: &mut Vec<Action>) {
        for (id, worker) in &self.workers {
            if pool(&worker.pool) && worker.state == State::Busy && worker.prefetched() > 0 {
                out.push(Action::TakeBack { worker: *id });
            }
        }
    }

    /// The last process is gone: leave.
    pub(super) fn leave_if_empty(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.stop.is_stopping() && self.workers.is_empty() {
            self.stopping(Event::Idle, now, out);
        }
        let leaving = self.stop == Stop::Leaving;
        if leaving && self.templates.is_empty() && !self.left {
            self.left = true;
            out.push(Action::Leave);
        }
    }
}
