//! Deliveries as they come: most are jobs. Others wait for their time, have expired, are copies of what runs, or can't be read.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;

use super::calls::{Answer, Arrival};
use super::chain::OF_POOL;
use super::deliveries::{CopyOf, Ended, Identity, Place, Taken};
use super::message;
use super::pool::Way;
use super::source::Feed;
use super::surplus::Waiting;
use crate::broker::BrokerError;
use crate::broker::celery::held::{Came, Due};
use crate::job::{Claimed, JobId, PoolName, QueueName};
use crate::time::{Mono, Unix};

/// Tasks that wait for their time and are held at most where the application sets no limit.
const ETAS_MAX: usize = 100_000;

/// A task that is due within so long is held.
const HOLD_MAX: Duration = Duration::from_secs(60);

impl Taken {
    fn new(arrival: &Arrival) -> Self {
        Taken {
            pool: arrival.pool.clone(),
            identity: arrival.identity.clone(),
            returns: arrival.returns,
            expires: arrival.task.expires,
            since: Mono::now(),
            job: None,
            place: Some(arrival.place),
            token: None,
            has_begun: false,
            is_orphan: false,
            was_stopped: false,
            is_recalled: false,
        }
    }
}

impl Feed {
    /// A delivery of one of a pool's consumers, which may have ended since.
    pub(super) fn arrive(&mut self, name: &PoolName, consumer: u64, queue: &QueueName, delivery: Delivery) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        if let Some(of_it) = pool.consumers.iter_mut().find(|of| of.number == consumer) {
            of_it.unacked += 1;
        }
        let Way::Open(open) = &mut pool.channel else {
            return; // it is lost: what came on it comes again
        };
        let place = Place {
            channel: open.number,
            tag: delivery.delivery_tag,
            consumer,
        };
        open.tags.delivered(place.tag);
        let returns = message::returns(&delivery);
        let id = delivery.properties.correlation_id().as_ref();
        let losses = id.map_or(0, |id| self.outcomes.losses_of(id.as_str(), returns));
        match message::read(&delivery, losses) {
            Ok(task) => {
                let id = task.id.as_deref().and_then(|id| JobId::new(id).ok());
                let identity = Identity {
                    id: id.unwrap_or_else(JobId::generate),
                    retries: task.retries,
                    was_delayed: OF_POOL.has(delivery.exchange.as_str()),
                };
                if delivery.redelivered && self.is_copy(name, &identity, place, returns) {
                    return;
                }
                let arrival = Arrival {
                    pool: name.clone(),
                    queue: queue.clone(),
                    task,
                    identity,
                    place,
                    returns,
                };
                if let Some(arrival) = self.delay(arrival, delivery) {
                    self.admit(arrival);
                }
            }
            Err(reason) => {
                // Source: `celery/worker/strategy.py`, of an eta that is no time: `req.reject(requeue=False)`.
                tracing::error!(%queue, %reason, "a message can't be read: it is rejected, to the dead letters of its queue if there are any");
                self.reject_at(name, place, false);
            }
        }
    }

    /// Whether it is a copy of what runs, or of what has just ended. That decides what becomes of it.
    fn is_copy(&mut self, pool: &PoolName, identity: &Identity, place: Place, returns: u32) -> bool {
        match self.deliveries.copy_of(identity, Mono::now()) {
            CopyOf::Nothing => return false,
            CopyOf::Waiting(number) => {
                tracing::debug!(job = %identity.id, "it came again while a pool has it: this copy waits for its outcome");
                self.deliveries.adopt(number, pool, place, returns);
                self.copy_came(number);
            }
            CopyOf::Ended(how) => {
                tracing::debug!(job = %identity.id, "it came again after its end");
                self.deliveries.note_end(place, identity.clone(), how);
                match how {
                    Ended::Acknowledged => self.acknowledge_at(&[place]),
                    Ended::Rejected => self.reject_at(pool, place, false),
                }
            }
        }
        true
    }

    /// Sends a task that is due much later into the chain. Gives it back if it is due sooner.
    fn delay(&mut self, arrival: Arrival, delivery: Delivery) -> Option<Arrival> {
        let now = Unix::now();
        let Some(due) = arrival.task.eta.filter(|due| due.since(now) > HOLD_MAX) else {
            return Some(arrival);
        };
        self.delaying += 1;
        let number = self.broker.consumer.hand().numbers(1);
        let taken = Taken {
            has_begun: true,
            ..Taken::new(&arrival)
        };
        self.deliveries.add(number, taken);
        let broker = Arc::clone(&self.broker);
        self.call(async move {
            let result = broker.delay(&arrival.queue, due, &delivery).await;
            Answer::Delayed {
                number,
                arrival: Box::new(arrival),
                result,
            }
        });
        None
    }

    /// The chain has it, or it is held. A copy that comes from then on has ended.
    pub(super) fn delayed(&mut self, number: i64, arrival: Arrival, result: Result<(), BrokerError>) {
        self.delaying -= 1;
        let Err(error) = result else {
            let place = self
                .deliveries
                .end_unheard(number, Ended::Acknowledged, Mono::now());
            return self.acknowledge_at(place.as_slice());
        };
        let taken = self.deliveries.remove(number);
        let Some((pool, place)) = taken.and_then(|taken| Some((taken.pool, taken.place?))) else {
            return; // its channel is lost: it comes again
        };
        let (queue, job) = (&arrival.queue, &arrival.identity.id);
        tracing::warn!(%queue, %job, %error, "a task that is due much later can't be put aside: it is held");
        self.admit(Arrival {
            pool,
            place,
            ..arrival
        });
    }

    fn admit(&mut self, arrival: Arrival) {
        let taken = Taken::new(&arrival);
        let Arrival {
            queue,
            mut task,
            identity,
            ..
        } = arrival;
        task.id.get_or_insert_with(|| identity.id.to_string());
        let consumer = &self.broker.consumer;
        let number = consumer.hand().numbers(1);
        let kept = task.clone();
        let claimed = consumer.admit(number, &queue, task, Came::New);
        // What is no job and in hand came too late, or was revoked: a chore ends it.
        let has_begun = claimed.is_none() && consumer.hand().message(number).is_some();
        consumer.hand().etas.take_fresh(); // the server knows nothing of times
        self.deliveries.add(number, Taken { has_begun, ..taken });
        match claimed {
            Some(job) => self.wait_for_room(job),
            None if has_begun => {}
            None => drop(self.broker.waiting().insert(number, kept)),
        }
    }

    fn wait_for_room(&mut self, job: Claimed) {
        let since = Mono::now();
        let Some(taken) = self.deliveries.get_mut(job.claim.handle) else {
            return;
        };
        taken.since = since;
        let returns = taken.returns;
        if let Some(pool) = self.pools.get_mut(&taken.pool) {
            pool.surplus.push(Waiting { job, since, returns });
        }
    }

    /// Takes those that need not wait any more, as far as there is room.
    pub(super) fn come_due(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let room = pool.room.jobs().saturating_sub(pool.surplus.len());
        if room == 0 || self.broker.waiting().is_empty() {
            return;
        }
        let consumer = Arc::clone(&self.broker.consumer);
        let served = consumer.with_left(&pool.queues());
        let due = consumer.hand().take_due(&served, Unix::now(), Mono::now(), room);
        for Due { number, queue, came } in due {
            let Some(task) = self.broker.waiting().remove(&number) else {
                continue;
            };
            let task = if matches!(came, Came::Due(_)) {
                task.come_due()
            } else {
                task
            };
            let kept = task.clone();
            match consumer.admit(number, &queue, task, came) {
                Some(job) => self.wait_for_room(job),
                None if consumer.hand().message(number).is_some() => {
                    if let Some(taken) = self.deliveries.get_mut(number) {
                        taken.has_begun = true;
                    }
                }
                // It was due, and too many of its task began.
                None => drop(self.broker.waiting().insert(number, kept)),
            }
        }
    }

    /// Whether nothing may be taken that might have to wait, too.
    pub(super) fn holds_all_etas_it_may(&self) -> bool {
        let most = self.broker.consumer.app.etas_max.unwrap_or(ETAS_MAX);
        self.broker.waiting().len() >= most
    }
}
