//! What the source knows of one pool: what it wants, its channel, and the consumers on it.
//!
//! A consumer may hold so many messages as the pool had room for when it began; a server knows no other credit. So one whose
//! share has become much too small begins anew. Messages of several queues may come at once, and room may fall: what there
//! is no room for waits in the [`Surplus`]. If that lasts, consumers are canceled, so that no more comes.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::types::ShortString;

use super::calls::Started;
use super::surplus::{Surplus, Waiting};
use crate::broker::amqp::tags::Tags;
use crate::broker::parts::room::Room;
use crate::broker::parts::turns::Turns;
use crate::broker::source::Demand;
use crate::job::{Claimed, PoolName, QueueName};
use crate::time::Mono;

/// After so long without room nothing more is to come.
const FULL_MAX: Duration = Duration::from_secs(1);
/// A consumer begins anew when it falls short of the room by this share of what it may hold.
const SHORT: usize = 4;

/// One pool.
#[derive(Debug, Default)]
pub(super) struct Pool {
    demand: Option<Demand>,
    pub room: Room,
    pub channel: Way,
    pub consumers: Vec<Consuming>,
    /// Delivered by the server, and not to the pool yet.
    pub surplus: Surplus,
    /// A call about its consumers is on its way.
    pub is_calling: bool,
    /// There is no room, and nothing more is to come.
    is_recalled: bool,
    /// Since when there is no room for what may come, or much more waits here than the pool has in hand.
    full_since: Option<Mono>,
    /// The queue of its last job, after which the next one has its turn.
    last: Option<QueueName>,
    /// It wants to be told when a job could run, and was not.
    pub wake: bool,
    pub empty: Empty,
}

/// The way to the server.
#[derive(Debug, Default)]
pub(super) enum Way {
    #[default]
    None,
    Opening,
    Open(Open),
}

/// A channel.
#[derive(Debug)]
pub(super) struct Open {
    pub number: u64,
    pub channel: Channel,
    pub tags: Tags,
}

/// A consumer of a queue.
#[derive(Debug)]
pub(super) struct Consuming {
    pub number: u64,
    pub queue: QueueName,
    /// Messages that it may hold.
    pub limit: u16,
    /// Messages that it holds.
    pub unacked: usize,
    pub stream: lapin::Consumer,
    /// What came while somebody waited for it.
    ahead: Option<Came>,
    /// Nothing more is asked for by it.
    pub is_canceled: bool,
    /// Its queue goes with the last consumer, and all that waits in it.
    pub is_fleeting: bool,
}

/// What comes from a stream of deliveries; `None`: it has ended.
type Came = Option<lapin::Result<Delivery>>;

impl Consuming {
    pub fn new(number: u64, of: Started, is_fleeting: bool) -> Self {
        let Started { queue, limit, stream } = of;
        Consuming {
            number,
            queue,
            limit,
            unacked: 0,
            stream,
            ahead: None,
            is_canceled: false,
            is_fleeting,
        }
    }

    /// Ready when there is something to take.
    pub fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_none() {
            match self.stream.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(came) => self.ahead = Some(came),
            }
        }
        Poll::Ready(())
    }

    /// What there is to take now.
    pub fn take_now(&mut self) -> Option<Came> {
        self.ahead.take().or_else(|| self.stream.next().now_or_never())
    }

    /// Messages that may still come by it.
    fn free(&self) -> usize {
        match self.is_canceled {
            true => 0,
            false => usize::from(self.limit).saturating_sub(self.unacked),
        }
    }
}

/// What is known of its being empty.
#[derive(Debug, Default)]
pub(super) struct Empty {
    /// What was said last: deliveries and settlements.
    told: Option<(u64, u64)>,
    /// The server is asked.
    pub is_asked: bool,
    /// It was not empty then.
    pub not_before: Option<Mono>,
}

/// Consumers that are to end and to begin.
#[derive(Debug, PartialEq)]
pub(super) struct Arrangement {
    /// Their numbers.
    pub cancel: Vec<u64>,
    /// The same, of queues that go with their last consumer: they end once others have begun.
    pub cancel_last: Vec<u64>,
    /// A queue, and how many messages its consumer may hold.
    pub start: Vec<(QueueName, u16)>,
}

impl Pool {
    /// It says what it wants.
    pub fn want(&mut self, demand: Demand) {
        let sum = |demand: &Demand| demand.seen + u64::from(demand.jobs.min(demand.credit));
        let fell = self
            .demand
            .as_ref()
            .is_some_and(|before| sum(&demand) < sum(before));
        self.room.say(demand.seen, demand.credit, demand.jobs);
        self.wake = demand.wake && (self.wake || !self.demand.as_ref().is_some_and(|before| before.wake));
        self.demand = Some(demand);
        if self.room.jobs() > self.surplus.len() {
            (self.is_recalled, self.full_since) = (false, None);
        } else if fell || !self.runs() {
            self.recall();
        }
    }

    /// Whether it runs jobs: what comes without room for it may wait.
    pub fn runs(&self) -> bool {
        self.demand.as_ref().is_some_and(|demand| demand.runs)
    }

    /// Keeps what was delivered to it and did not begin, if it may wait.
    pub fn takes_back(&self, queue: &QueueName) -> bool {
        self.runs() && self.is_open() && self.queues().contains(queue)
    }

    /// Its queues.
    pub fn queues(&self) -> Arc<[QueueName]> {
        let queues = self.demand.as_ref().map(|demand| demand.queues.clone());
        queues.unwrap_or_default()
    }

    pub fn is_open(&self) -> bool {
        matches!(self.channel, Way::Open(_))
    }

    /// Whether it has use for a channel.
    pub fn wants_channel(&self) -> bool {
        matches!(self.channel, Way::None) && !self.queues().is_empty() && (self.room.jobs() > 0 || self.wake)
    }

    /// Whether messages may still come that nobody asks for now.
    pub fn may_get_more(&self) -> bool {
        self.consumers.iter().any(|consumer| !consumer.is_canceled)
    }

    /// Nothing more is to come: what goes back would come again.
    pub fn recall(&mut self) {
        self.is_recalled = self.room.jobs() == 0;
    }

    /// A queue in which nothing waits: what comes is pushed at once.
    pub fn is_drained(&self, queue: &QueueName) -> bool {
        let of_it = |consumer: &&Consuming| consumer.queue == *queue;
        self.consumers
            .iter()
            .filter(of_it)
            .any(|consumer| consumer.free() > 0)
    }

    /// Takes what there is room for, each queue in its turn.
    pub fn take_surplus(&mut self, rng: &mut fastrand::Rng) -> Vec<Claimed> {
        let room = self.room.jobs().min(self.surplus.len());
        let Some(demand) = self.demand.as_ref().filter(|_| room > 0) else {
            return Vec::new();
        };
        let turns = Turns::new(demand.order, &demand.queues, self.last.as_ref());
        let in_order = self.surplus.take(room, &demand.queues, turns, rng);
        if let Some(last) = in_order.last() {
            self.last = Some(last.job.queue.clone());
        }
        in_order
    }

    /// What waits here and can't stay: of queues that are not `served`, if it runs none now, or since it has waited
    /// for long.
    pub fn take_unwanted(&mut self, served: &[QueueName], now: Mono) -> Vec<Claimed> {
        let may_go = self.is_recalled && !self.may_get_more() && !self.is_calling;
        let runs = self.runs();
        self.surplus.extract(|waiting: &Waiting| {
            let is_unwanted = !runs || Surplus::is_overdue(waiting, now);
            !served.contains(&waiting.job.job.queue) || may_go && is_unwanted
        })
    }

    /// Notes since when too much waits here, or may come, for the room that there is.
    pub fn note_fullness(&mut self, now: Mono) {
        let in_hand: usize = self.consumers.iter().map(|consumer| consumer.unacked).sum();
        let in_hand = in_hand.saturating_sub(self.surplus.len());
        // Each queue may bring as much as there is room for.
        let is_over = self.surplus.len() > in_hand.max(1) * self.queues().len();
        let may_bring = self.room.jobs() == 0 && self.consumers.iter().any(|consumer| consumer.free() > 0);
        if !(is_over || may_bring) || self.wake {
            self.full_since = None;
        } else if now.since(*self.full_since.get_or_insert(now)) >= FULL_MAX {
            self.is_recalled = true;
        }
        if self.surplus.patience_ends().is_some_and(|at| at <= now) {
            self.is_recalled = true;
        }
    }

    /// When it has been full for long enough, or something has waited for long enough.
    pub fn deadline(&self) -> Option<Mono> {
        let full = self.full_since.map(|since| since + FULL_MAX);
        let patience = self.surplus.patience_ends();
        let recall = full.into_iter().chain(patience).filter(|_| !self.is_recalled);
        recall.chain(self.empty.not_before).min()
    }

    /// What its consumers are to be. `may_take`: messages may be taken at all. A queue that goes with its last consumer has
    /// one for as long as it is served, as a stock worker's has.
    pub fn arrangement(&mut self, may_take: bool) -> Option<Arrangement> {
        // Who asks whether it is empty says a limit of its own meanwhile.
        if self.is_calling || self.empty.is_asked || !self.is_open() {
            return None;
        }
        let served = self.queues();
        let room = self.room.jobs().saturating_sub(self.surplus.len());
        // To notice that something waits, a message is enough.
        let wanted = if room == 0 && self.wake && self.surplus.is_empty() {
            1
        } else {
            room
        };
        let mut arrangement = Arrangement {
            cancel: Vec::new(),
            cancel_last: Vec::new(),
            start: Vec::new(),
        };
        let mut stand: Vec<&QueueName> = Vec::new();
        for consumer in self.consumers.iter().filter(|consumer| !consumer.is_canceled) {
            let (free, limit) = (consumer.free(), usize::from(consumer.limit));
            let is_short = wanted > free
                && (wanted - free) * SHORT >= limit.max(wanted)
                && limit < usize::from(u16::MAX);
            let may_end = is_short || self.is_recalled && wanted == 0 || !may_take;
            if !served.contains(&consumer.queue) || may_end && !consumer.is_fleeting {
                arrangement.cancel.push(consumer.number);
            } else if is_short && may_take {
                arrangement.cancel_last.push(consumer.number);
            } else {
                stand.push(&consumer.queue);
            }
        }
        let takes = |queue: &&QueueName| may_take && wanted > 0 && !stand.contains(queue);
        for queue in served.iter().filter(takes) {
            let limit = u16::try_from(wanted).unwrap_or(u16::MAX);
            arrangement.start.push((queue.clone(), limit));
        }
        let Arrangement {
            cancel,
            cancel_last,
            start,
        } = &arrangement;
        let is_needed = !(cancel.is_empty() && cancel_last.is_empty() && start.is_empty());
        is_needed.then_some(arrangement)
    }

    /// These consumers end. Returns their names at the server.
    pub fn cancel(&mut self, numbers: &[u64]) -> Vec<ShortString> {
        let ends = self.consumers.iter_mut();
        let ends = ends.filter(|consumer| numbers.contains(&consumer.number));
        ends.map(|consumer| {
            consumer.is_canceled = true;
            consumer.stream.tag()
        })
        .collect()
    }

    /// Whether the server is to be asked if nothing is left; `settled`: settlements by now.
    pub fn asks_if_empty(&self, settled: u64, now: Mono) -> bool {
        let demand = self.demand.as_ref();
        demand.is_some_and(|demand| demand.tell_empty && !demand.queues.is_empty())
            && self.is_open()
            && !self.empty.is_asked
            && !self.is_calling
            && self.surplus.is_empty()
            && self.empty.told != Some((self.room.delivered(), settled))
            && self.empty.not_before.is_none_or(|at| at <= now)
    }

    /// It is empty. Returns whether that is news.
    pub fn is_empty_now(&mut self, settled: u64) -> bool {
        let now = Some((self.room.delivered(), settled));
        std::mem::replace(&mut self.empty.told, now) != now
    }

    /// Its channel is lost, with all consumers.
    pub fn lose_channel(&mut self) {
        self.channel = Way::None;
        self.consumers.clear();
        self.surplus.clear();
        (self.full_since, self.is_recalled) = (None, false);
    }
}

/// Returns when a consumer has something.
pub(super) async fn came(pools: &mut BTreeMap<PoolName, Pool>) {
    poll_fn(|context| {
        for consumer in pools.values_mut().flat_map(|pool| &mut pool.consumers) {
            if consumer.poll_ahead(context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}
