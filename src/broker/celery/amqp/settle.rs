//! Carrying out what became of deliveries.

use futures_util::FutureExt;
use lapin::options::{BasicAckOptions, BasicRejectOptions};

use super::calls::Kind;
use super::deliveries::{Ended, Place};
use super::outbox::{Batch, Pending};
use super::pool::{Pool, Way};
use super::source::Feed;
use super::surplus::Waiting;
use crate::broker::amqp::tags::Ack;
use crate::broker::celery::ending::{After, End, Plan};
use crate::broker::celery::envelope::Message;
use crate::broker::celery::held::Held;
use crate::broker::source::{Event, Late};
use crate::job::{Claim, Claimed, PoolName, QueueName, Settlement, Token};
use crate::time::{Mono, Unix};

impl Feed {
    pub(super) fn settle(&mut self, outcomes: Vec<Settlement>) {
        let tokens = outcomes.iter().map(|outcome| outcome.of).collect();
        let of_claims = outcomes
            .into_iter()
            .map(|Settlement { of, verdict, run }| Settlement {
                of: self.tokens.end(of),
                verdict,
                run,
            });
        let of_claims = of_claims.collect();
        let (plan, taken) = self.broker.consumer.plan(of_claims);
        let batch = Batch { plan, tokens, taken };
        match batch.plan.has_results() {
            true => {
                if !self.may_try(Kind::Store, Mono::now()) {
                    self.acknowledge_early(&batch.plan.ended_early());
                }
                self.outcomes.store(batch);
            }
            false => self.give(batch),
        }
        self.acknowledge_begun(None);
    }

    /// Carries outcomes out, unless what goes back would come again at once.
    pub(super) fn give(&mut self, batch: Batch) {
        for name in self.given_back_by(&batch.plan) {
            if let Some(pool) = self.pools.get_mut(&name) {
                pool.recall();
            }
        }
        match self.comes_again(&batch.plan) {
            true => self.outcomes.wait(batch),
            false => self.carry_out(batch),
        }
    }

    /// Carries out what has waited for consumers to be canceled.
    pub(super) fn carry_out_given(&mut self) {
        for batch in self.outcomes.take_waiting() {
            match self.closing_or_quiet(&batch.plan) {
                true => self.carry_out(batch),
                false => self.outcomes.wait(batch),
            }
        }
    }

    /// Pools that give messages back to the server.
    fn given_back_by(&self, plan: &Plan) -> Vec<PoolName> {
        let back = plan.ends.iter().filter(|(number, held, end, _)| {
            matches!(end, End::GiveBack) && !self.may_wait_here(*number, &held.queue)
        });
        let taken = back.filter_map(|(number, ..)| self.deliveries.get(*number));
        let mut pools: Vec<PoolName> = taken
            .filter(|taken| taken.place.is_some())
            .map(|taken| taken.pool.clone())
            .collect();
        pools.sort();
        pools.dedup();
        pools
    }

    fn comes_again(&self, plan: &Plan) -> bool {
        let gets_more = |pool: &Pool| pool.room.jobs() == 0 && (pool.may_get_more() || pool.is_calling);
        let pools = self.given_back_by(plan);
        let mut pools = pools.iter().filter_map(|name| self.pools.get(name));
        pools.any(gets_more)
    }

    fn closing_or_quiet(&self, plan: &Plan) -> bool {
        self.is_closing() || !self.comes_again(plan)
    }

    fn carry_out(&mut self, mut batch: Batch) {
        let mut acks = Vec::new();
        let mut told = vec![true; batch.tokens.len()];
        for (number, held, end, at) in std::mem::take(&mut batch.plan.ends) {
            if self.deliveries.get(number).is_some_and(|taken| taken.is_orphan) && !matches!(end, End::Chore)
            {
                if matches!(end, End::Acknowledge(_) | End::Reject(_)) {
                    told[at] = false;
                    let (token, since) = (batch.tokens[at], Mono::now());
                    self.outcomes.wait_for_copy(number, Pending { token, end, since });
                    continue;
                }
                if let End::Requeue(losses) = end {
                    self.outcomes.requeues(held.job.clone(), losses);
                }
            } else if let Some(kept) = self.end(number, &held, end, &mut acks) {
                batch.plan.after.extend(kept);
                continue;
            }
            self.deliveries.remove(number);
            batch.plan.after.push(After::Forget(number));
        }
        self.acknowledge_at(&acks);
        self.broker.consumer.perform(batch.plan);
        self.tell(&batch.tokens, &batch.taken, &told);
    }

    /// Does at the server what an outcome asks for; acknowledgements are gathered. Returns what is kept of the message, if it
    /// has not ended.
    fn end(&mut self, number: i64, held: &Held, end: End, acks: &mut Vec<Place>) -> Option<Option<After>> {
        match end {
            End::Chore => {
                if let Some(taken) = self.deliveries.get_mut(number) {
                    taken.has_begun = true;
                }
                return Some(None);
            }
            End::Hold(eta) => {
                self.broker.waiting().insert(number, later(held));
                self.deliveries.given_back(number);
                if let Some(taken) = self.deliveries.get_mut(number) {
                    taken.has_begun = false;
                }
                return Some(Some(After::Hold(number, held.queue.clone(), eta)));
            }
            End::Acknowledge(_) => acks.extend(self.deliveries.end(number, Ended::Acknowledged)),
            End::Reject(_) => self.reject(number),
            End::GiveBack | End::Requeue(_) if held.is_acked => {
                let job = &held.job;
                tracing::warn!(%job, "this task was interrupted; it was acknowledged when it began and does not run again");
            }
            End::GiveBack if self.may_wait_here(number, &held.queue) => {
                self.wait_again(number);
                return Some(None);
            }
            End::GiveBack => self.requeue(number),
            End::Requeue(losses) => {
                self.outcomes.requeues(held.job.clone(), losses);
                self.requeue(number);
            }
        }
        None
    }

    /// Whether what a pool gives back waits here until it has room again.
    fn may_wait_here(&self, number: i64, queue: &QueueName) -> bool {
        let Some(taken) = self.deliveries.get(number) else {
            return false;
        };
        let pool = self.pools.get(&taken.pool);
        let may_run = !taken.has_begun && taken.place.is_some() && taken.job.is_some();
        may_run && !self.is_closing() && pool.is_some_and(|pool| pool.takes_back(queue))
    }

    /// It came before all that wait here.
    fn wait_again(&mut self, number: i64) {
        let job = self.deliveries.given_back(number);
        let Some(taken) = self.deliveries.get(number) else {
            return;
        };
        let (returns, since) = (taken.returns, taken.since);
        if let (Some(job), Some(pool)) = (job, self.pools.get_mut(&taken.pool)) {
            let claim = Claim {
                job: job.id.clone(),
                handle: number,
                epoch: 0,
            };
            let job = Claimed { claim, job };
            pool.surplus.push_front(Waiting { job, since, returns });
        }
    }

    /// Tells the supervisor of outcomes that the server has.
    fn tell(&mut self, tokens: &[Token], taken: &[bool], told: &[bool]) {
        let of = tokens.iter().zip(taken).zip(told).filter(|(_, told)| **told);
        let of: Vec<_> = of.map(|((token, taken), _)| (*token, *taken)).collect();
        if of.is_empty() {
            return;
        }
        self.outcomes.arrived(of.len());
        let late = of.iter().filter(|(_, taken)| !taken);
        let late = late.map(|(token, _)| (*token, Late::LeaseLost)).collect();
        let count = of.len();
        self.events.send(Event::Settled { count, late });
    }

    /// The copy of what runs came, or of what has ended meanwhile.
    pub(super) fn copy_came(&mut self, number: i64) {
        let Some(pending) = self.outcomes.copy_came(number) else {
            let hand = self.broker.consumer.hand();
            let is_early = hand
                .message(number)
                .is_some_and(|held| held.acks_early && !held.may_be_early);
            drop(hand);
            // Of one that nobody said to have begun, a worker may still say so, or it is given back.
            if is_early && self.deliveries.get(number).is_some_and(|taken| taken.has_begun) {
                self.acknowledge_early(&[number]);
            }
            return;
        };
        match pending.end {
            End::Reject(_) => self.reject(number),
            _ => {
                let place = self.deliveries.end(number, Ended::Acknowledged);
                self.acknowledge_at(place.as_slice());
            }
        }
        self.forget(number);
        self.tell(&[pending.token], &[true], &[true]);
    }

    /// Copies that did not come are not waited for any longer.
    pub(super) fn give_up_copies(&mut self, now: Mono) {
        if self.outcomes.deadline().is_none_or(|at| at > now) || !self.is_up() {
            return;
        }
        let old = self.outcomes.give_up_copies(now);
        for (number, Pending { token, .. }) in old {
            self.forget(number);
            self.tell(&[token], &[false], &[true]);
        }
    }

    fn forget(&mut self, number: i64) {
        self.deliveries.remove(number);
        self.broker.consumer.hand().all.remove(&number);
    }

    /// These have begun.
    pub(super) fn acknowledge_early(&mut self, numbers: &[i64]) {
        let mut places = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(place) = self.deliveries.end(*number, Ended::Acknowledged) {
                places.push(place);
                if let Some(held) = self.broker.consumer.hand().message_mut(*number) {
                    held.is_acked = true;
                }
            }
        }
        self.acknowledge_at(&places);
    }

    /// A message that the supervisor never had goes back.
    pub(super) fn put_back(&mut self, number: i64) {
        self.requeue(number);
        self.forget(number);
    }

    fn reject(&mut self, number: i64) {
        if let Some(place) = self.deliveries.end(number, Ended::Rejected) {
            self.reject_of(number, place, false);
        }
    }

    fn requeue(&mut self, number: i64) {
        let taken = self.deliveries.get_mut(number);
        if let Some(place) = taken.and_then(|taken| taken.place.take()) {
            self.reject_of(number, place, true);
        }
    }

    fn reject_of(&mut self, number: i64, place: Place, requeue: bool) {
        if let Some(pool) = self.deliveries.get(number).map(|taken| taken.pool.clone()) {
            self.reject_at(&pool, place, requeue);
        }
    }

    /// Says so at the server. It has no answer: what it did not hear comes again.
    pub(super) fn reject_at(&mut self, pool: &PoolName, place: Place, requeue: bool) {
        let Some(pool) = self.pools.get_mut(pool) else {
            return;
        };
        if let Way::Open(open) = &mut pool.channel
            && open.number == place.channel
        {
            open.tags.rejected(place.tag);
            let options = BasicRejectOptions { requeue };
            let _ = open.channel.basic_reject(place.tag, options).now_or_never();
            release(pool, place.consumer);
        }
    }

    /// The same, of messages that have ended.
    pub(super) fn acknowledge_at(&mut self, places: &[Place]) {
        if places.is_empty() {
            return;
        }
        for pool in self.pools.values_mut() {
            let Way::Open(open) = &mut pool.channel else {
                continue;
            };
            let of_it = |place: &&Place| place.channel == open.number;
            let tags: Vec<u64> = places.iter().filter(of_it).map(|place| place.tag).collect();
            for Ack { tag, multiple } in open.tags.acknowledge(&tags) {
                let options = BasicAckOptions { multiple };
                let _ = open.channel.basic_ack(tag, options).now_or_never();
            }
            let number = open.number;
            for place in places.iter().filter(|place| place.channel == number) {
                release(pool, place.consumer);
            }
        }
    }
}

/// A consumer may hold one more.
fn release(pool: &mut Pool, consumer: u64) {
    if let Some(consumer) = pool.consumers.iter_mut().find(|of| of.number == consumer) {
        consumer.unacked = consumer.unacked.saturating_sub(1);
    }
}

/// A message of which only its body could tell that it is not due yet.
fn later(held: &Held) -> Message {
    Message {
        id: Some(held.job.to_string()),
        task: Some(held.task.to_string()),
        is_odd: true,
        eta: Some(Unix::default()),
        expires: None,
        time_limit: held.timeout.map(|limit| limit.as_secs_f64()),
        retries: 0,
        losses: held.losses,
        payload: held.payload.clone(),
    }
}
