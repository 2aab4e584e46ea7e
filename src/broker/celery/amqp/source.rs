//! The task that feeds a supervisor from a server that pushes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lapin::Event as Told;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use super::AmqpBroker;
use super::calls::{Answer, Kind};
use super::deliveries::Deliveries;
use super::outbox::{Batch, Outcomes};
use super::pool::{Pool, came};
use super::session::Server;
use crate::broker::parts::backoff::Backoff;
use crate::broker::parts::held::Held;
use crate::broker::parts::inbox::{self, Message};
use crate::broker::source::{Event, Events, Source, StopHow};
use crate::broker::{Broker, BrokerError};
use crate::job::{Begun, Claim, Claimed, Delivery, PoolName, Work};
use crate::time::{Mono, Unix};

/// How long after a task that is acknowledged early has begun this is said, unless an outcome is settled before: most have
/// ended by then.
const MOMENT: Duration = Duration::from_millis(100);

/// Starts it. Must be called inside a tokio runtime.
pub(super) fn start(broker: Arc<AmqpBroker>, events: Events) -> Box<dyn Source> {
    let feed = Feed::new(broker, events.clone());
    inbox::start(events, |inbox| feed.run(inbox))
}

/// The task.
pub(super) struct Feed {
    pub broker: Arc<AmqpBroker>,
    pub events: Events,
    pub pools: BTreeMap<PoolName, Pool>,
    /// What was delivered to the supervisor and has not ended.
    pub tokens: Held<Claim>,
    pub deliveries: Deliveries,
    /// Tasks on their way to where they wait at the server.
    pub delaying: usize,
    pub outcomes: Outcomes,
    /// Tasks that are acknowledged when they begin, and when this is said of each.
    begins: VecDeque<(Mono, i64)>,
    pub server: Server,
    pub calls: JoinSet<Answer>,
    backoffs: BTreeMap<Kind, Backoff>,
    last_number: u64,
    closing: Option<Closing>,
    pub rng: fastrand::Rng,
}

/// The end of it.
struct Closing {
    until: Mono,
    unsettled: oneshot::Sender<usize>,
}

/// What happened.
enum Turn {
    Said(Option<Message>),
    Answered(Result<Answer, JoinError>),
    Came,
    Told(Option<Told>),
    Revoked,
    Due,
}

impl Feed {
    fn new(broker: Arc<AmqpBroker>, events: Events) -> Self {
        Feed {
            broker,
            events,
            pools: BTreeMap::new(),
            tokens: Held::default(),
            deliveries: Deliveries::default(),
            delaying: 0,
            outcomes: Outcomes::default(),
            begins: VecDeque::new(),
            server: Server::Away,
            calls: JoinSet::new(),
            backoffs: BTreeMap::new(),
            last_number: 0,
            closing: None,
            rng: fastrand::Rng::new(),
        }
    }

    async fn run(mut self, mut inbox: UnboundedReceiver<Message>) {
        let consumer = Arc::clone(&self.broker.consumer);
        loop {
            let (chores, lost) = (consumer.chores.came(), consumer.lost.notified());
            tokio::pin!(chores, lost);
            chores.as_mut().enable();
            lost.as_mut().enable();
            let now = Mono::now();
            self.pump(now);
            if self.is_closed(now) {
                return self.finish().await;
            }
            let deadline = self.next_deadline(now);
            let Feed {
                pools,
                calls,
                server,
                closing,
                ..
            } = &mut self;
            let turn = tokio::select! {
                biased;
                message = inbox.recv(), if closing.is_none() => Turn::Said(message),
                Some(answer) = calls.join_next() => Turn::Answered(answer),
                () = came(pools) => Turn::Came,
                told = server.told() => Turn::Told(told),
                () = lost => Turn::Revoked,
                () = chores => Turn::Due,
                () = consumer.limits_changed.notified() => Turn::Due,
                () = sleep_until(deadline, now) => Turn::Due,
            };
            match turn {
                Turn::Said(Some(message)) => self.hear(message),
                // The supervisor is gone, and left no word: the server finds out by the connection.
                Turn::Said(None) => return,
                Turn::Answered(answer) => self.take(answer),
                Turn::Came | Turn::Due => {}
                Turn::Told(told) => self.told(told),
                Turn::Revoked => self.tell_revoked(),
            }
            while let Ok(message) = inbox.try_recv() {
                self.hear(message);
            }
            self.take_arrivals();
            while let Some(answer) = self.calls.try_join_next() {
                self.take(answer);
            }
        }
    }

    /// Asks the server something; its answer comes in a later turn.
    pub(super) fn call(&mut self, asks: impl Future<Output = Answer> + Send + 'static) {
        self.calls.spawn(asks);
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Demand(demand) => self.pools.entry(demand.pool.clone()).or_default().want(demand),
            Message::Began(begun) => self.began(&begun),
            // Celery's tasks have `update_state` for that.
            Message::Progress(..) => {}
            Message::Settle(outcomes) => self.settle(outcomes),
            Message::Close { within, unsettled } => {
                let until = Mono::now() + within;
                self.closing = Some(Closing { until, unsettled });
            }
        }
    }

    fn began(&mut self, begun: &[Begun]) {
        let at = Mono::now() + MOMENT;
        let claims: Vec<Claim> = begun
            .iter()
            .filter_map(|begun| self.tokens.get(begun.token).cloned())
            .collect();
        self.broker.consumer.have_begun(&claims);
        for Begun { token, .. } in begun {
            let number = self.tokens.get(*token).map(|claim| claim.handle);
            let number = number.unwrap_or_else(|| panic!("delivery {token} begins after its end"));
            let taken = self.deliveries.get_mut(number);
            taken
                .unwrap_or_else(|| panic!("delivery {token} begins and is not kept"))
                .has_begun = true;
            let hand = self.broker.consumer.hand();
            if hand
                .message(number)
                .is_some_and(|held| held.acks_early && !held.may_be_early)
            {
                self.begins.push_back((at, number));
            }
        }
    }

    fn take(&mut self, answer: Result<Answer, JoinError>) {
        let now = Mono::now();
        match answer {
            Ok(Answer::Connected(result)) => self.connected(result, now),
            Ok(Answer::Opened { pool, result }) => self.opened(&pool, result, now),
            Ok(Answer::Arranged {
                pool,
                channel,
                result,
            }) => self.arranged(&pool, channel, result, now),
            Ok(Answer::Counted { pool, at, result }) => self.counted(&pool, at, result, now),
            Ok(Answer::Delayed {
                number,
                arrival,
                result,
            }) => self.delayed(number, *arrival, result),
            Ok(Answer::Stored { batch, result }) => {
                let is_stored = self.check(Kind::Store, result, now).is_some();
                self.stored(batch, is_stored);
            }
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    /// Tasks that were revoked and have not begun do not run.
    fn tell_revoked(&mut self) {
        let hand = self.broker.consumer.hand();
        let is_revoked = |number| hand.message(number).is_some_and(|held| held.is_revoked);
        for token in self.deliveries.tell_stopped(is_revoked) {
            let how = StopHow::IfNotBegun;
            self.events.send(Event::Stop { token, how });
        }
    }

    /// Takes note of the health of what was asked. Returns what was said, if all was well.
    pub(super) fn check<T>(&mut self, kind: Kind, result: Result<T, BrokerError>, now: Mono) -> Option<T> {
        let jitter = self.rng.f64();
        let backoff = self.backoffs.entry(kind).or_default();
        let doing = kind.doing();
        match result {
            Ok(value) => {
                if backoff.worked() {
                    self.events.send(Event::Well { doing });
                }
                Some(value)
            }
            Err(error) => {
                backoff.failed(now, jitter);
                let error = Arc::new(error);
                self.events.send(Event::Trouble { doing, error });
                None
            }
        }
    }

    pub(super) fn may_try(&mut self, kind: Kind, now: Mono) -> bool {
        self.backoffs.entry(kind).or_default().may_try(now)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.server, Server::Up(_))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Starts what can be started now.
    fn pump(&mut self, now: Mono) {
        self.look_at_channels(now);
        self.reach_server(now);
        self.acknowledge_begun(Some(now));
        self.carry_out_given();
        self.give_up_copies(now);
        self.send_results(now);
        if self.closing.is_some() {
            return;
        }
        let names: Vec<PoolName> = self.pools.keys().cloned().collect();
        for name in &names {
            self.come_due(name);
            self.put_back_unwanted(name, now);
            self.deliver(name);
            if let Some(pool) = self.pools.get_mut(name) {
                pool.note_fullness(now);
            }
            self.arrange(name, now);
            self.ask_if_empty(name, now);
        }
        self.note_drained();
    }

    /// Says of tasks that are acknowledged when they begin that they have begun: of those for which it is time, or of all.
    pub(super) fn acknowledge_begun(&mut self, now: Option<Mono>) {
        let is_time = |(at, _): &&(Mono, i64)| now.is_none_or(|now| *at <= now);
        let count = self.begins.iter().take_while(is_time).count();
        let numbers: Vec<i64> = self.begins.drain(..count).map(|(_, number)| number).collect();
        if !numbers.is_empty() {
            self.acknowledge_early(&numbers);
        }
    }

    fn send_results(&mut self, now: Mono) {
        if !self.may_try(Kind::Store, now) {
            return;
        }
        if let Some(mut batch) = self.outcomes.begin_to_store() {
            let consumer = Arc::clone(&self.broker.consumer);
            self.calls.spawn(async move {
                let result = consumer.store_elsewhere(&mut batch.plan).await;
                Answer::Stored { batch, result }
            });
        }
    }

    /// Results are stored, or that is tried again.
    pub(super) fn stored(&mut self, batch: Batch, is_stored: bool) {
        if let Some(batch) = self.outcomes.stored(batch, is_stored) {
            self.give(batch);
        } else {
            self.acknowledge_early(&self.outcomes.ended_early());
        }
    }

    /// What waits in vain, or in a queue that is not served any more, goes back.
    fn put_back_unwanted(&mut self, name: &PoolName, now: Mono) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let served = self.broker.consumer.with_left(&pool.queues());
        for Claimed { claim, .. } in pool.take_unwanted(&served, now).into_iter().rev() {
            self.put_back(claim.handle);
        }
    }

    /// The next instant at which something is due.
    fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let backoffs = self.backoffs.values().filter_map(|backoff| backoff.next(now));
        let pools = self.pools.values().filter_map(Pool::deadline);
        let look = match &self.server {
            Server::Up(session) => session.look.as_ref().map(|look| look.at),
            Server::Away | Server::Connecting => None,
        };
        let has_room = |pool: &&Pool| pool.room.jobs() > pool.surplus.len();
        let etas = self.pools.values().filter(has_room).filter_map(|pool| {
            let served = self.broker.consumer.with_left(&pool.queues());
            let hand = self.broker.consumer.hand();
            let within = hand.next_due(&served, Unix::now(), now)?;
            Some(now + within)
        });
        backoffs
            .chain(pools)
            .chain(etas)
            .chain(look)
            .chain(self.begins.front().map(|(at, _)| *at))
            .chain(self.outcomes.deadline())
            .chain(self.closing.as_ref().map(|closing| closing.until))
            .min()
    }

    /// All is handed over, or the time for it is up.
    fn is_closed(&self, now: Mono) -> bool {
        let closing = self.closing.as_ref();
        closing.is_some_and(|closing| self.outcomes.is_empty() && self.delaying == 0 || now >= closing.until)
    }

    async fn finish(mut self) {
        self.calls.shutdown().await;
        let unsettled = self.outcomes.unsettled();
        if let Err(error) = self.broker.close().await {
            tracing::warn!(%error, "cannot close the broker");
        }
        if let Some(closing) = self.closing {
            let _ = closing.unsettled.send(unsettled);
        }
    }

    /// Hands over what there is room for: chores first.
    fn deliver(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let mut jobs = Vec::new();
        if pool.room.all() > 0 {
            for Claimed { claim, job } in self.broker.consumer.hand_out_chores(pool.room.all()) {
                pool.room.deliver(Work::After);
                let token = self.tokens.add(claim);
                jobs.push(Delivery {
                    token,
                    tells_begin: false,
                    job,
                });
            }
        }
        if pool.wake && !pool.surplus.is_empty() && pool.room.jobs() == 0 {
            pool.wake = false;
            self.events.send(Event::Waiting { pool: name.clone() });
        }
        for job in pool.take_surplus(&mut self.rng) {
            jobs.extend(self.hand_out(name, job));
        }
        if !jobs.is_empty() {
            let pool = name.clone();
            self.events.send(Event::Delivered { pool, jobs });
        }
    }

    /// What a pool is given; `None`: it ends without a run.
    fn hand_out(&mut self, name: &PoolName, Claimed { claim, job }: Claimed) -> Option<Delivery> {
        let number = claim.handle;
        let taken = self.deliveries.get_mut(number)?;
        if self.broker.consumer.ends_unbegun(number, taken.expires) {
            taken.has_begun = true;
            return None;
        }
        self.pools.get_mut(name)?.room.deliver(Work::Job);
        let token = self.tokens.add(claim);
        (taken.token, taken.job) = (Some(token), Some(job.clone()));
        Some(Delivery {
            token,
            tells_begin: true,
            job,
        })
    }
}

async fn sleep_until(at: Option<Mono>, now: Mono) {
    match at {
        Some(at) => tokio::time::sleep(at.since(now)).await,
        None => std::future::pending().await,
    }
}
