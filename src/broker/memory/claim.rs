//! Claims, and the leases under which they are held.

use std::sync::Arc;
use std::time::Duration;

use super::store::{Place, Store};
use crate::broker::parts::turns::Turns;
use crate::job::{Claim, Claimed, Loss, QueueName, Work};
use crate::time::Unix;

impl Store {
    pub(super) fn claim(
        &mut self,
        session: u64,
        queues: &[QueueName],
        (turns, limit): (Turns, usize),
        (lease, result_ttl): (Duration, Duration),
        now: Unix,
    ) -> Vec<Claimed> {
        self.promote(now);
        self.recover(session, result_ttl, now);
        self.expire(result_ttl, now);
        let (mut claimed, mut turns) = (Vec::new(), turns);
        while claimed.len() < limit {
            let (jobs, blocked) = self.claim_in_turn(session, queues, turns, limit - claimed.len());
            claimed.extend(jobs);
            if blocked == 0 {
                break;
            }
            turns = turns.after(queues, claimed.last().map(|job: &Claimed| &job.job.queue));
        }
        if !claimed.is_empty() {
            self.leases.insert(session, now + lease);
        }
        claimed
    }

    /// The jobs, and how many others were blocked.
    fn claim_in_turn(
        &mut self,
        session: u64,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> (Vec<Claimed>, usize) {
        let has = |name| self.queues.get(name).map_or(0, |queue| queue.waiting.len());
        let has: Vec<usize> = queues.iter().map(has).collect();
        let plan = turns.share(&has, limit, &mut fastrand::Rng::new());
        let (mut of_queues, mut all_blocked) = (Vec::new(), 0);
        for (at, name) in queues.iter().enumerate() {
            let share = plan.iter().filter(|queue| **queue == at).count();
            let (jobs, blocked) = self.claim_from(session, name, share);
            of_queues.push(jobs.into_iter());
            all_blocked += blocked;
        }
        let jobs = plan.into_iter().filter_map(|at| of_queues[at].next());
        (jobs.collect(), all_blocked)
    }

    fn claim_from(&mut self, session: u64, name: &QueueName, limit: usize) -> (Vec<Claimed>, usize) {
        let (mut claimed, mut blocked) = (Vec::new(), 0);
        while claimed.len() < limit {
            let queue = self.queues.get_mut(name);
            let Some((_, handle)) = queue.and_then(|queue| queue.waiting.pop_first()) else {
                break;
            };
            match self.jobs[&handle].place {
                Place::Waiting(slot) if self.is_over_limit(handle) => {
                    self.put(handle, Place::Blocked(slot));
                    blocked += 1;
                }
                _ => claimed.extend(self.start(handle, session)),
            }
        }
        (claimed, blocked)
    }

    fn is_over_limit(&self, handle: i64) -> bool {
        let limit = self.jobs[&handle].new.limit.as_ref();
        limit.is_some_and(|limit| self.limits.is_over(limit))
    }

    fn start(&mut self, handle: i64, session: u64) -> Option<Claimed> {
        let job = self.jobs.get_mut(&handle)?;
        let Place::Waiting(slot) = job.place else {
            return None;
        };
        job.place = Place::Running {
            session,
            slot,
            begun: false,
            stop: None,
            progress: None,
        };
        if let Some(limit) = &job.new.limit {
            self.limits.begin(limit);
        }
        job.epoch += 1;
        let claim = Claim {
            job: job.new.id.clone(),
            handle,
            epoch: job.epoch,
        };
        let job = crate::job::Job {
            id: job.new.id.clone(),
            queue: job.new.queue.clone(),
            task: Arc::clone(&job.new.task),
            payload: Arc::clone(&job.payload),
            timeout: job.new.timeout,
            retries: job.new.retries,
            retry_after: None,
            loss: Loss::RunsAgain,
            work: Work::Job,
            kind: 0,
            batches: true,
            failures: job.failures,
            losses: job.losses,
            ready: slot.since,
        };
        Some(Claimed { claim, job })
    }

    pub(super) fn extend(&mut self, session: u64, lease: Duration, now: Unix) {
        if let Some(expires) = self.leases.get_mut(&session) {
            *expires = now + lease;
        }
    }

    /// Gives up a lease: what was claimed under it goes back.
    pub(super) fn give_up(&mut self, session: u64, result_ttl: Duration, now: Unix) {
        self.leases.remove(&session);
        self.give_back(|holder| holder == session, false, result_ttl, now);
    }

    /// Gives back what is held under leases that ended; `session` itself is spared.
    pub(super) fn recover(&mut self, session: u64, result_ttl: Duration, now: Unix) -> u64 {
        let ended: Vec<u64> = self
            .leases
            .iter()
            .filter(|&(&holder, &ends)| holder != session && ends <= now)
            .map(|(&holder, _)| holder)
            .collect();
        if ended.is_empty() {
            return 0;
        }
        self.leases.retain(|holder, _| !ended.contains(holder));
        self.give_back(|holder| ended.contains(&holder), true, result_ttl, now)
    }
}
