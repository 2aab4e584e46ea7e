//! Channels and consumers: what they bring, and whether anything is left.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;

use super::calls::{self, Answer, Change, Kind, Started};
use super::pool::{Arrangement, Consuming, Open, Way};
use super::session::{Look, Server};
use super::source::Feed;
use crate::broker::BrokerError;
use crate::broker::amqp::tags::Tags;
use crate::broker::source::Event;
use crate::job::{PoolName, QueueName};
use crate::time::Mono;

/// Deliveries that are taken from a consumer in one turn.
const TURN_MAX: usize = 256;
/// Before the server is asked again whether nothing is left.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Feed {
    pub(super) fn opened(&mut self, name: &PoolName, result: Result<lapin::Channel, BrokerError>, now: Mono) {
        let result = self.unless_server_is_lost(result);
        let opened = result.and_then(|result| self.check(Kind::Open, result, now));
        let number = self.number();
        let is_up = matches!(self.server, Server::Up(_));
        if let Some(pool) = self.pools.get_mut(name) {
            pool.channel = match opened.filter(|channel| is_up && channel.status().connected()) {
                None => Way::None,
                Some(channel) => Way::Open(Open {
                    number,
                    channel,
                    tags: Tags::default(),
                }),
            };
        }
    }

    pub(super) fn arranged(
        &mut self,
        name: &PoolName,
        channel: u64,
        result: Result<Vec<Started>, BrokerError>,
        now: Mono,
    ) {
        let result = self.unless_server_is_lost(result);
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        pool.is_calling = false;
        if !matches!(&pool.channel, Way::Open(open) if open.number == channel) {
            return; // it was lost meanwhile, and its consumers with it
        }
        let Some(started) = result.and_then(|result| self.check(Kind::Consume, result, now)) else {
            let mut why = None;
            if let Server::Up(session) = &mut self.server {
                // A queue may have been deleted: all are declared anew.
                session.declared.clear();
                why = session.look.as_ref().map(|look| look.reason.clone());
            }
            return self.lose_closed(channel, why.as_deref(), now);
        };
        for begun in started {
            let number = self.number();
            let is_fleeting = self.broker.declared(begun.queue.as_str()).auto_delete;
            if let Server::Up(session) = &mut self.server {
                session.declared.insert(begun.queue.clone());
            }
            if let Some(pool) = self.pools.get_mut(name) {
                pool.consumers.push(Consuming::new(number, begun, is_fleeting));
            }
        }
    }

    pub(super) fn counted(
        &mut self,
        name: &PoolName,
        at: (u64, u64),
        result: Result<u64, BrokerError>,
        now: Mono,
    ) {
        // What the server pushed before its answer comes first.
        self.take_arrivals();
        let result = self.unless_server_is_lost(result);
        let waiting = result.and_then(|result| self.check(Kind::Count, result, now));
        let settled = self.outcomes.settled();
        let is_busy =
            !self.outcomes.is_empty() || self.delaying > 0 || self.broker.consumer.chores.holds_any();
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        pool.empty.is_asked = false;
        let is_same = (pool.room.delivered(), settled) == at && pool.surplus.is_empty() && !is_busy;
        if waiting != Some(0) {
            pool.empty.not_before = Some(now + ASK_AGAIN);
        } else if is_same && pool.is_empty_now(settled) {
            self.events.send(Event::Empty {
                pool: name.clone(),
                seen: pool.room.delivered(),
                settled,
            });
        }
    }

    /// Takes what consumers have.
    pub(super) fn take_arrivals(&mut self) {
        let mut arrived: Vec<(PoolName, u64, QueueName, Delivery)> = Vec::new();
        let (mut deleted, mut broken) = (Vec::new(), None);
        for (name, pool) in &mut self.pools {
            pool.consumers.retain_mut(|consumer| {
                for _ in 0..TURN_MAX {
                    match consumer.take_now() {
                        Some(Some(Ok(delivery))) => {
                            let queue = consumer.queue.clone();
                            arrived.push((name.clone(), consumer.number, queue, delivery));
                        }
                        Some(Some(Err(error))) => broken = Some(error),
                        Some(None) => {
                            if !consumer.is_canceled && broken.is_none() {
                                deleted.push(consumer.queue.clone());
                            }
                            return false;
                        }
                        None => return true,
                    }
                }
                true
            });
        }
        for (pool, consumer, queue, delivery) in arrived {
            self.arrive(&pool, consumer, &queue, delivery);
        }
        if let Server::Up(session) = &mut self.server {
            for queue in deleted {
                tracing::warn!(%queue, "the server ended the consumer of a queue: it was deleted or has moved; it is declared anew");
                session.declared.remove(&queue);
            }
            if let Some(error) = broken {
                session
                    .look
                    .get_or_insert_with(|| Look::after(&error, Mono::now()));
            }
        }
    }

    /// Opens a channel, ends and begins consumers.
    pub(super) fn arrange(&mut self, name: &PoolName, now: Mono) {
        let may_take = !self.holds_all_etas_it_may();
        if !self.may_try(Kind::Open, now) || !self.may_try(Kind::Consume, now) {
            return;
        }
        let Server::Up(session) = &self.server else { return };
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let connection = Arc::clone(&session.connection);
        let broker = Arc::clone(&self.broker);
        let name = name.clone();
        if pool.wants_channel() && may_take {
            pool.channel = Way::Opening;
            self.calls.spawn(async move {
                let opened = connection.create_channel().await;
                let result = opened.map_err(|error| broker.link.error(&error));
                Answer::Opened { pool: name, result }
            });
            return;
        }
        let Some(Arrangement {
            cancel,
            cancel_last,
            start,
        }) = pool.arrangement(may_take)
        else {
            return;
        };
        let Way::Open(open) = &pool.channel else { return };
        let (channel, number) = (open.channel.clone(), open.number);
        let cancel = pool.cancel(&cancel);
        let cancel_last = pool.cancel(&cancel_last);
        pool.is_calling = true;
        let start = start.into_iter().map(|(queue, limit)| {
            let is_declared = !session.declared.contains(&queue);
            (queue, limit, is_declared)
        });
        let change = Change {
            connection,
            channel,
            cancel,
            cancel_last,
            start: start.collect(),
        };
        self.calls.spawn(async move {
            let result = calls::arrange(&broker, change).await;
            Answer::Arranged {
                pool: name,
                channel: number,
                result,
            }
        });
    }

    pub(super) fn ask_if_empty(&mut self, name: &PoolName, now: Mono) {
        let settled = self.outcomes.settled();
        let is_busy =
            !self.outcomes.is_empty() || self.delaying > 0 || self.broker.consumer.chores.holds_any();
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        if is_busy || !pool.asks_if_empty(settled, now) {
            return;
        }
        let Way::Open(open) = &pool.channel else { return };
        let (channel, queues) = (open.channel.clone(), pool.queues());
        let at = (pool.room.delivered(), settled);
        (pool.empty.is_asked, pool.empty.not_before) = (true, None);
        let (broker, pool) = (Arc::clone(&self.broker), name.clone());
        self.calls.spawn(async move {
            let result = calls::count(&broker, &channel, &queues).await;
            Answer::Counted { pool, at, result }
        });
    }

    pub(super) fn note_drained(&self) {
        let mut drained = self.broker.drained();
        drained.clear();
        for pool in self.pools.values() {
            let of_pool = pool.queues();
            let of_pool = of_pool.iter().filter(|queue| pool.is_drained(queue));
            drained.extend(of_pool.cloned());
        }
    }
}
