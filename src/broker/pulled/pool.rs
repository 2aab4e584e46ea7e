//! What a source knows of one pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::broker::parts::room::Room;
use crate::broker::parts::turns::Turns;
use crate::broker::source::Demand;
use crate::job::QueueName;
use crate::time::Mono;

/// One pool.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// What it said last.
    demand: Option<Demand>,
    pub room: Room,
    /// A claim is on its way.
    pub claim: Option<AbortHandle>,
    /// What that claim will say may be out of date.
    doubtful: bool,
    /// The last claim found less than it wanted: the next one waits for the broker's word.
    empty: bool,
    /// Asks the broker for that word, since then.
    pub wait: Option<(AbortHandle, Mono)>,
    /// It wants to be told when a job could run, and was not.
    wake: bool,
    /// The queue of its last job, after which the next one has its turn.
    last: Option<QueueName>,
    /// What was said last of its being empty.
    told_empty: Option<(u64, u64)>,
}

impl Pool {
    /// It says what it wants.
    pub fn want(&mut self, demand: Demand) {
        let moved = self
            .demand
            .as_ref()
            .is_none_or(|before| before.queues != demand.queues);
        self.room.say(demand.seen, demand.credit, demand.jobs);
        if demand.queues.is_empty() {
            self.room.release();
        }
        self.wake = demand.wake;
        let must_look = demand.tell_empty && !self.must_look_again();
        self.demand = Some(demand);
        if moved {
            self.stop_waiting();
        }
        if moved || must_look {
            self.look_again();
        }
    }

    /// Nobody wants to hear of its queues any more.
    pub fn stop_waiting(&mut self) {
        if let Some((wait, _)) = self.wait.take() {
            wait.abort();
        }
    }

    /// There may be jobs by now: claims look again, without waiting for the broker's word.
    pub fn look_again(&mut self) {
        self.empty = false;
        self.doubtful = self.claim.is_some();
    }

    /// It wants to know for certain when there is nothing left, whatever the broker says.
    pub fn must_look_again(&self) -> bool {
        let spent = |demand: &Demand| demand.jobs == 0 && demand.credit > 0;
        self.demand
            .as_ref()
            .is_some_and(|demand| demand.tell_empty || spent(demand))
    }

    /// A claim came back: `short` if it found less than it wanted; `last`: the queue of its last job.
    pub fn claimed(&mut self, short: bool, last: Option<&QueueName>) {
        self.claim = None;
        if last.is_some() {
            self.last = last.cloned();
        }
        let doubtful = std::mem::take(&mut self.doubtful);
        self.empty = short && !doubtful;
    }

    /// The broker's word `came`, or can't be had. Returns whether the pool is to be told.
    pub fn ready(&mut self, came: bool) -> bool {
        self.wait = None;
        self.empty = false;
        // A pool with room is told by the job itself.
        let was_told = came && self.told_empty.take().is_some() && self.room.all() == 0;
        came && std::mem::take(&mut self.wake) || was_told
    }

    pub fn wants_to_claim(&self) -> bool {
        !self.has_left() && self.claim.is_none() && !self.empty && self.room.all() > 0
    }

    /// The queues to look into, which of them gives each job, and how many to take.
    pub fn begin_claim(&mut self, most: usize) -> (Arc<[QueueName]>, Turns, usize) {
        let Some(demand) = &self.demand else {
            return (Arc::default(), Turns::Strict, 0);
        };
        let queues = demand.queues.clone();
        let turns = Turns::new(demand.order, &queues, self.last.as_ref());
        let room = match self.room.jobs() {
            0 => self.room.all(),
            jobs => jobs,
        };
        let wanted = room.min(most);
        self.room.reserve(wanted);
        (queues, turns, wanted)
    }

    pub fn wants_to_wait(&self) -> bool {
        let waits = self.empty && self.room.jobs() > 0 || self.wake;
        !self.has_left() && self.claim.is_none() && self.wait.is_none() && waits
    }

    /// Its queues.
    pub fn queues(&self) -> Arc<[QueueName]> {
        let queues = self.demand.as_ref().map(|demand| demand.queues.clone());
        queues.unwrap_or_default()
    }

    /// When its wait will have stood for so long.
    pub fn stands_at(&self, long: Duration) -> Option<Mono> {
        self.wait.as_ref().map(|(_, since)| *since + long)
    }

    /// Whether it is empty, and this was not said yet.
    pub fn is_empty_news(&mut self, settled: u64) -> bool {
        let now = Some((self.room.delivered(), settled));
        let is_news = !self.has_left() && self.empty && self.claim.is_none() && self.told_empty != now;
        if is_news {
            self.told_empty = now;
        }
        is_news
    }

    /// It serves no queue any more.
    fn has_left(&self) -> bool {
        self.demand.as_ref().is_none_or(|demand| demand.queues.is_empty())
    }
}
