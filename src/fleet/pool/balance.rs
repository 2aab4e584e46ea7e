//! A pool becomes what it should be: its size, its replacements, its spares.

use super::fate::Expiry;
use super::life::State;
use super::worker::Worker;
use super::{Context, Pool};

impl Pool {
    /// Makes the pool what it should be. Only idle workers leave.
    pub fn balance(&mut self, cx: &mut Context) {
        if !cx.running {
            return;
        }
        let target = if self.removed {
            0
        } else {
            self.size.target() as usize
        };
        let mut have = self.counted();
        while have < target && (self.promote(cx) || self.fork(false, cx)) {
            have += 1;
        }
        while have > target
            && let Some(id) = self.superfluous()
        {
            self.retire(id, "scaled down", cx);
            have -= 1;
        }
        cx.permits.lacks(&self.name, have < target, cx.register);
        self.replace(cx);
        self.keep_spares(cx);
        if self.removed {
            self.give_back_waiting(cx);
        }
    }

    /// The idle worker that leaves first: one that would be replaced anyway, else the youngest.
    fn superfluous(&self) -> Option<u64> {
        let idle = |(_, worker): &(&u64, &Worker)| worker.counted() && worker.state() != State::Busy;
        let idle = self.workers.iter().filter(idle);
        idle.max_by_key(|(id, worker)| (worker.expiry().is_some(), worker.state() == State::Starting, **id))
            .map(|(id, _)| *id)
    }

    /// A spare becomes a worker that runs jobs.
    fn promote(&mut self, cx: &mut Context) -> bool {
        let spares = self.workers.iter_mut();
        let spares = spares.filter(|(_, worker)| worker.is_good_spare());
        let next = spares.min_by_key(|(id, worker)| (worker.state() == State::Starting, **id));
        let Some((id, worker)) = next else { return false };
        let Some(ordinal) = cx.register.take_ordinal() else {
            return false;
        };
        worker.promote(ordinal);
        if worker.state() == State::Idle {
            self.measures.meter_mut().worker_alive(*id, cx.now.mono);
        }
        cx.register.workers_changed();
        self.dispatch(cx);
        true
    }

    /// Workers that come to their end give way to spares that are ready: an idle one leaves at once,
    /// a busy one takes no further job. Where no permits are left for a spare, they leave first: idle ones one by one.
    fn replace(&mut self, cx: &mut Context) {
        let ready = |worker: &&Worker| worker.is_good_spare() && worker.state() == State::Idle;
        let mut ready = self.workers.values().filter(ready).count();
        let leaving = |(id, worker): (&u64, &Worker)| {
            let why = worker
                .expiry()
                .filter(|_| worker.counted() && worker.state() != State::Starting)?;
            Some((worker.state() == State::Busy, *id, why))
        };
        let mut leaving: Vec<(bool, u64, Expiry)> = self.workers.iter().filter_map(leaving).collect();
        if leaving.is_empty() {
            return;
        }
        leaving.sort_unstable_by_key(|(busy, id, _)| (*busy, *id));
        let has_room = cx.permits.are_free(&self.name, cx.register);
        for (busy, id, why) in leaving {
            if ready == 0 && (has_room || !busy && self.is_changing()) {
                continue; // it waits for a spare, or for those that leave before it
            }
            ready = ready.saturating_sub(1);
            if busy {
                self.close(id, why, cx);
            } else {
                self.retire(id, why.as_str(), cx);
                self.promote(cx);
            }
        }
    }

    /// A process comes or goes.
    fn is_changing(&self) -> bool {
        let stays = |worker: &Worker| matches!(worker.state(), State::Idle | State::Busy);
        !self.workers.values().all(stays)
    }

    /// Forks ahead what will be needed: one for each worker that comes to its end, within limits.
    fn keep_spares(&mut self, cx: &mut Context) {
        let expiring = |worker: &&Worker| worker.counted() && worker.expiry().is_some();
        let expiring = self.workers.values().filter(expiring).count();
        let limit = self.config.spare_workers.max(1) as usize;
        let is_unwanted = self.removed || self.size.target() == 0 || cx.permits.are_wanted_beside(&self.name);
        let wanted = match (is_unwanted, cx.app.one_job_a_worker()) {
            (true, _) => 0,
            (false, true) => limit,
            (false, false) => expiring.min(limit),
        };
        let spares = |(id, worker): (&u64, &Worker)| {
            let comes = matches!(worker.state(), State::Idle | State::Starting);
            (worker.is_spare() && comes).then(|| (*id, worker.is_good_spare()))
        };
        let spares: Vec<(u64, bool)> = self.workers.iter().filter_map(spares).collect();
        let (good, stale): (Vec<_>, Vec<_>) = spares.into_iter().partition(|(_, is_good)| *is_good);
        for (id, _) in stale.iter().chain(good.iter().skip(wanted)) {
            self.retire(*id, "spare not needed", cx);
        }
        for _ in good.len()..wanted {
            if !self.fork(true, cx) {
                break;
            }
        }
    }
}
