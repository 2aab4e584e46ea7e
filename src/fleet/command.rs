//! What people ask of the fleet.

use crate::job::{JobId, PoolName, QueueName, Token};
use crate::policy::shutdown;

use super::{Action, CallOff, Command, Fleet, Now};

impl Fleet {
    /// Does what somebody asks; the answer is for them to read.
    pub fn command(&mut self, command: Command, now: Now, out: &mut Vec<Action>) -> Result<String, String> {
        let answer = match command {
            Command::Scale { pool, min, max } => self.scale(&pool, (min, max), now, out),
            Command::AddQueue { pool, queue } => self.change_queues(&pool, |queues| {
                if !queues.contains(&queue) {
                    queues.push(queue);
                }
            }),
            Command::DropQueue { pool, queue } => {
                self.change_queues(&pool, |queues| queues.retain(|served| *served != queue))
            }
            Command::Pause { pool } => self.pause(pool.as_ref(), true, now, out),
            Command::Resume { pool } => self.pause(pool.as_ref(), false, now, out),
            Command::StopJob { job } => self.end_job(&job, CallOff::Stopped, now, out),
            Command::CancelJob { job } => self.end_job(&job, CallOff::Canceled, now, out),
            Command::ReplaceWorker { worker } => self
                .at_home(worker, now, out, |pool, cx| pool.replace_worker(worker, cx))
                .map(|()| format!("replacing worker {worker}"))
                .ok_or_else(|| format!("there is no worker {worker}")),
            Command::KillWorker { worker } => self
                .at_home(worker, now, out, |pool, cx| pool.kill_busy(worker, cx))
                .filter(|killed| *killed)
                .map(|_| format!("killing worker {worker}"))
                .ok_or_else(|| format!("worker {worker} runs no job that could be killed")),
            Command::Drain { patient } => {
                let event = match patient {
                    true => shutdown::Event::Drain,
                    false => shutdown::Event::Stop,
                };
                self.stopping(event, now, out);
                Ok("draining: running jobs may finish, the rest goes back to its queue".into())
            }
            Command::Stop => {
                self.stopping(shutdown::Event::Now, now, out);
                Ok("stopping: running jobs not yet acknowledged go back to their queue".into())
            }
        };
        self.leave_if_empty(now, out);
        answer
    }

    fn end_job(
        &mut self,
        job: &JobId,
        how: CallOff,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let Some(execution) = self.pools.values().find_map(|pool| pool.execution_of(job)) else {
            return Err(format!("job {job} does not run here"));
        };
        self.called_off(Token(execution), how, now, out);
        let doing = if how == CallOff::Canceled {
            "canceling"
        } else {
            "stopping"
        };
        Ok(format!("{doing} job {job}"))
    }

    fn pause(
        &mut self,
        name: Option<&PoolName>,
        paused: bool,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let asked = |pool: &PoolName| name.is_none_or(|name| name == pool);
        let names: Vec<PoolName> = self.pools.keys().filter(|pool| asked(pool)).cloned().collect();
        if let (true, Some(name)) = (names.is_empty(), name) {
            return Err(self.no_such_pool(name));
        }
        for name in &names {
            self.at(name, now, out, |pool, cx| pool.pause(paused, cx));
        }
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let done = if paused { "paused" } else { "resumed" };
        Ok(format!("{done}: {}", names.join(", ")))
    }

    /// Other limits for a pool, until the next reload; in force at once.
    fn scale(
        &mut self,
        name: &PoolName,
        (min, max): (Option<u32>, Option<u32>),
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let Some(pool) = self.pools.get_mut(name) else {
            return Err(self.no_such_pool(name));
        };
        let (old_min, old_max) = pool.limits();
        let (min, max) = (min.unwrap_or(old_min), max.unwrap_or(old_max));
        self.check_limits(name, (min, max))?;
        self.at(name, now, out, |pool, _| pool.set_limits((min, max)));
        self.decide_limits(name, now, out);
        self.give_way(now, out);
        self.balance_all(now, out);
        Ok(format!("pool {name}: min {min}, max {max}"))
    }

    /// Other queues for a pool, until the next reload: its demand tells the broker.
    fn change_queues(
        &mut self,
        name: &PoolName,
        change: impl FnOnce(&mut Vec<QueueName>),
    ) -> Result<String, String> {
        let Some(pool) = self.pools.get_mut(name) else {
            return Err(self.no_such_pool(name));
        };
        pool.change_queues(change);
        let queues: Vec<&str> = pool.config().queues.iter().map(QueueName::as_str).collect();
        Ok(format!("pool {name}: queues {}", queues.join(", ")))
    }

    /// Names the pools that there are.
    fn no_such_pool(&self, asked: &PoolName) -> String {
        let known: Vec<String> = self.pools.keys().map(ToString::to_string).collect();
        format!("there is no pool `{asked}` (pools: {})", known.join(", "))
    }
}
