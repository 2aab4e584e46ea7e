//! A newer generation takes over: from the first of its workers that is ready, no older worker gets another job.
//!
//! Until then the older ones go on. If the newer code loads, and then its workers do not start, the pool still works.

use crate::fleet::Action;

use super::fate::Expiry;
use super::life::State;
use super::worker::Worker;
use super::{Context, Pool};

impl Pool {
    /// A newer generation than this one's workers are of forks from now on.
    pub fn expire_older_than(&mut self, generation: u64, cx: &mut Context) {
        for worker in self.workers.values_mut() {
            if worker.generation() < generation {
                worker.expire(Expiry::Outdated);
            }
        }
        // Nobody comes in their place.
        if self.removed || self.size.target() == 0 {
            self.close_older_than(generation, cx);
        }
    }

    /// A worker of this generation is ready: the older ones leave, at once or after their job.
    pub(super) fn close_older_than(&mut self, generation: u64, cx: &mut Context) {
        let older = |(id, worker): (&u64, &Worker)| (worker.generation() < generation).then_some(*id);
        for id in self.workers.iter().filter_map(older).collect::<Vec<_>>() {
            self.close(id, Expiry::Outdated, cx);
            let worker = &self.workers[&id];
            match worker.state() {
                State::Starting | State::Idle => self.retire(id, Expiry::Outdated.as_str(), cx),
                State::Busy if worker.prefetched() > 0 => cx.act(Action::TakeBack { worker: id }),
                State::Busy | State::Retiring | State::Dying | State::Gone => {}
            }
        }
        self.let_go_if_renewed(generation.saturating_sub(1), cx);
    }

    /// Workers of a newer generation than this one do not start: its own stay.
    pub fn go_back_to(&mut self, generation: u64, cx: &mut Context) {
        let mut newer = Vec::new();
        for (id, worker) in &mut self.workers {
            if worker.generation() > generation {
                newer.push(*id);
            } else {
                worker.stay_if(Expiry::Outdated);
            }
        }
        for id in newer {
            self.close(id, Expiry::Outdated, cx);
            if self.workers[&id].state() == State::Starting {
                self.retire(id, Expiry::Outdated.as_str(), cx);
            }
        }
        self.starts.succeeded();
    }

    /// Jobs that a worker of this generation did not know line up again if there is a newer worker for them.
    pub(super) fn let_go_if_renewed(&mut self, generation: u64, cx: &mut Context) {
        let mut workers = self.workers.values();
        if workers.any(|worker| worker.generation() > generation && worker.takes_jobs()) {
            self.jobs.let_go(|job| cx.app.batch_rule(&job.job), cx.now.mono);
        }
    }

    /// Its workers do not start, however often it is tried, and none is there; why the last one did not.
    pub fn never_starts(&self) -> Option<&str> {
        let is_there = self.workers.values().any(|worker| worker.ready().is_some());
        let fails = self.starts.is_crash_loop() && !is_there;
        self.starts.error().filter(|_| fails)
    }

    /// No worker of an older generation can begin another job, and those of this one start.
    pub fn is_renewed(&self, generation: u64) -> bool {
        let needs_none = self.removed || self.size.target() == 0;
        let mut workers = self.workers.values();
        (needs_none || self.starts.error().is_none())
            && workers.all(|worker| worker.generation() >= generation || !worker.may_begin_another())
    }
}
