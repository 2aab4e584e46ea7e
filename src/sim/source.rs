//! How jobs come from the pretended broker: a [`Source`] whose verbs leave messages, and the broker that reads them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::{BoxFuture, ready};

use super::broker::{Ledger, Place};
use crate::broker::parts::room::Room;
use crate::broker::parts::turns::Turns;
use crate::broker::source::{Demand, Event, Source};
use crate::job::{Begun, PoolName, QueueName, Settlement, Verdict};
use crate::time::Unix;

/// What a source was told, in order.
type Inbox = Arc<Mutex<VecDeque<Message>>>;

/// What a source is told.
#[derive(Debug)]
enum Message {
    Demand(Demand),
    Began(Vec<Begun>),
    Settle(Vec<Settlement>),
    Close,
}

/// The supervisor's end.
#[derive(Debug)]
struct SimSource(Inbox);

impl SimSource {
    fn leave(&self, message: Message) {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.push_back(message);
    }
}

impl Source for SimSource {
    fn demand(&mut self, demand: Demand) {
        self.leave(Message::Demand(demand));
    }

    fn began(&mut self, begun: Vec<Begun>) {
        self.leave(Message::Began(begun));
    }

    fn settle(&mut self, outcomes: Vec<Settlement>) {
        self.leave(Message::Settle(outcomes));
    }

    fn close(self: Box<Self>, _within: Duration) -> BoxFuture<'static, usize> {
        self.leave(Message::Close);
        Box::pin(ready(0))
    }
}

/// What one pool wants.
#[derive(Debug)]
struct Consumer {
    demand: Demand,
    room: Room,
    /// That a job waits was said of this demand.
    woken: bool,
    /// The queue of its last job.
    last: Option<QueueName>,
}

/// The broker's end: its jobs, and what the pools of the one supervisor want of them.
#[derive(Debug)]
pub struct Supply {
    /// Where the jobs are.
    pub(super) ledger: Ledger,
    /// It can't be reached: what it is told waits.
    pub(super) is_away: bool,
    /// It is going to look at its messages and its jobs.
    pub(super) is_called: bool,
    inbox: Inbox,
    consumers: BTreeMap<PoolName, Consumer>,
    /// On the way to the supervisor, in order.
    outbox: VecDeque<Event>,
    /// To draw the order of queues.
    rng: Rng,
}

impl Supply {
    pub(super) fn new(seed: u64, tells_begin: bool) -> Self {
        Supply {
            ledger: Ledger::new(tells_begin),
            is_away: false,
            is_called: false,
            inbox: Inbox::default(),
            consumers: BTreeMap::new(),
            outbox: VecDeque::new(),
            rng: Rng::with_seed(seed),
        }
    }

    /// Where the jobs are.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Jobs on their way to the supervisor.
    pub fn delivering(&self) -> usize {
        let jobs = |event: &Event| match event {
            Event::Delivered { jobs, .. } => jobs.len(),
            _ => 0,
        };
        self.outbox.iter().map(jobs).sum()
    }

    /// Outcomes that it has, and that the supervisor does not know yet to be settled.
    pub fn settled_unheard(&self) -> usize {
        let settled = |event: &Event| match event {
            Event::Settled { count, .. } => *count,
            _ => 0,
        };
        self.outbox.iter().map(settled).sum()
    }

    /// Nothing is on its way, in either direction.
    pub fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && !self.has_messages()
    }

    pub(super) fn has_messages(&self) -> bool {
        !self
            .inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// A supervisor starts. What was told before, or not heard yet, was another's.
    pub(super) fn connect(&mut self) -> Box<dyn Source> {
        self.inbox = Inbox::default();
        self.consumers.clear();
        self.outbox.clear();
        self.ledger.lease_ends();
        Box::new(SimSource(Arc::clone(&self.inbox)))
    }

    /// Reads what it was told, and delivers what there is room for. Returns when jobs are due that were just settled.
    pub(super) fn act(&mut self, now: Unix) -> Vec<Unix> {
        if self.is_away {
            return Vec::new();
        }
        let told = std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        let mut due = Vec::new();
        for message in told {
            match message {
                Message::Demand(demand) => self.take_demand(demand),
                Message::Began(begun) => begun.iter().for_each(|begun| self.ledger.began(begun.token)),
                Message::Settle(outcomes) => due.extend(self.settle(outcomes)),
                Message::Close => self.close(),
            }
        }
        self.deliver(now);
        due
    }

    /// What the supervisor hears now.
    pub(super) fn hear(&mut self) -> Option<Event> {
        self.outbox.pop_front()
    }

    fn take_demand(&mut self, demand: Demand) {
        let consumer = self
            .consumers
            .entry(demand.pool.clone())
            .or_insert_with(|| Consumer {
                demand: demand.clone(),
                room: Room::default(),
                woken: false,
                last: None,
            });
        consumer.room.say(demand.seen, demand.credit, demand.jobs);
        consumer.woken = false;
        consumer.demand = demand;
    }

    fn settle(&mut self, outcomes: Vec<Settlement>) -> Vec<Unix> {
        let due = |settlement: &Settlement| match settlement.verdict {
            Verdict::Again { due, .. } => due,
            _ => None,
        };
        let due = outcomes.iter().filter_map(due).collect();
        let (count, late) = (outcomes.len(), Vec::new());
        outcomes
            .into_iter()
            .for_each(|outcome| self.ledger.settle(outcome));
        self.outbox.push_back(Event::Settled { count, late });
        due
    }

    fn deliver(&mut self, now: Unix) {
        for (pool, consumer) in &mut self.consumers {
            let demand = &consumer.demand;
            let room = consumer.room.jobs();
            if room == 0 && demand.wake && !consumer.woken {
                consumer.woken = self.ledger.backlog(&demand.queues, now).waiting() > 0;
                let waiting = consumer.woken.then(|| Event::Waiting { pool: pool.clone() });
                self.outbox.extend(waiting);
            }
            if room == 0 {
                continue;
            }
            let turns = Turns::new(demand.order, &demand.queues, consumer.last.as_ref());
            let jobs = self.ledger.claim(&demand.queues, turns, room, now, &mut self.rng);
            if let Some(last) = jobs.last() {
                consumer.last = Some(last.job.queue.clone());
            }
            jobs.iter().for_each(|job| consumer.room.deliver(job.job.work));
            if !jobs.is_empty() {
                let pool = pool.clone();
                self.outbox.push_back(Event::Delivered { pool, jobs });
            }
        }
    }

    /// The supervisor has left: what was on its way to it goes back.
    fn close(&mut self) {
        self.consumers.clear();
        let held = self.ledger.count(Place::Running);
        assert_eq!(held, self.delivering(), "jobs that a leaving supervisor keeps");
        self.outbox.clear();
        self.ledger.lease_ends();
    }
}
