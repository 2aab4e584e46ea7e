//! A broker that pushes: a model of AMQP, in memory, for tests alone.
//!
//! The server hands messages to consumers as long as they hold fewer unacknowledged ones than their prefetch allows. A
//! message is acknowledged when its job has ended (or when it begins, if acknowledgements are early), or is rejected back to
//! the front of its queue. When a channel closes, what was not acknowledged on it is delivered anew, to whoever consumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pool::broker::BrokerError;
use pool::broker::parts::held::Held;
use pool::broker::parts::room::Room;
use pool::broker::source::{Demand, Event, Events, Late, Source, StopHow};
use pool::job::{
    self, Begun, Delivery, JobError, Loss, PoolName, QueueName, QueueOrder, Settlement, Token, Verdict, Work,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

#[path = "push_broker.rs"]
mod broker;
#[path = "push_server.rs"]
mod server;

use broker::{PushBroker, away};
pub use server::Server;
use server::{Channel, Message, Pushed, State};

/// Starts a source.
fn feed(server: &Server, events: Events) -> Box<dyn Source> {
    let (sender, inbox) = unbounded_channel();
    let (push, pushed) = unbounded_channel();
    server.state().sources.push(push.clone());
    let task = Task {
        server: server.clone(),
        events,
        push,
        is_in_trouble: false,
        pools: BTreeMap::new(),
        held: BTreeMap::new(),
        tokens: Held::default(),
        settled: 0,
    };
    tokio::spawn(task.run(inbox, pushed));
    Box::new(Inbox(sender))
}

#[derive(Debug)]
enum Said {
    Demand(Demand),
    Began(Vec<Begun>),
    Settle(Vec<Settlement>),
    Close(oneshot::Sender<usize>),
}

#[derive(Debug)]
struct Inbox(UnboundedSender<Said>);

impl Source for Inbox {
    fn demand(&mut self, demand: Demand) {
        let _ = self.0.send(Said::Demand(demand));
    }

    fn began(&mut self, begun: Vec<Begun>) {
        let _ = self.0.send(Said::Began(begun));
    }

    fn settle(&mut self, outcomes: Vec<Settlement>) {
        let _ = self.0.send(Said::Settle(outcomes));
    }

    fn close(self: Box<Self>, _within: Duration) -> BoxFuture<'static, usize> {
        let (answer, unsettled) = oneshot::channel();
        let _ = self.0.send(Said::Close(answer));
        Box::pin(async { unsettled.await.unwrap_or(0) })
    }
}

/// A pool and its channel.
#[derive(Debug, Default)]
struct Fed {
    room: Room,
    queues: Arc<[QueueName]>,
    order: Option<QueueOrder>,
    channel: u64,
    /// Deliveries of this channel that are not settled.
    held: usize,
    wake: bool,
    told_empty: Option<(u64, u64)>,
}

impl Fed {
    /// Consumes what the pool wants, on a new channel if it has none that is open. The error: no server is there.
    fn consume(&mut self, state: &mut State, push: &UnboundedSender<Pushed>) -> Result<(), BrokerError> {
        if state.is_away {
            return Err(away());
        }
        state.call("consume");
        if !state.channels.contains_key(&self.channel) {
            state.last_channel += 1;
            (self.channel, self.held) = (state.last_channel, 0);
            let channel = Channel {
                queues: Arc::default(),
                order: QueueOrder::Strict,
                last: None,
                prefetch: 0,
                unacked: BTreeMap::new(),
                last_tag: 0,
                tells_what_waits: false,
                push: push.clone(),
            };
            state.channels.insert(self.channel, channel);
        }
        if let Some(channel) = state.channels.get_mut(&self.channel) {
            channel.queues = self.queues.clone();
            channel.order = self.order.unwrap_or(channel.order);
            channel.prefetch = channel.unacked.len() + self.room.jobs();
            channel.tells_what_waits |= self.wake;
        }
        state.push();
        Ok(())
    }
}

/// A delivery that is not settled.
#[derive(Debug)]
struct Unacked {
    /// Its channel, until that is lost: then it waits for its copy.
    channel: Option<u64>,
    tag: u64,
    message: Message,
    has_begun: bool,
    /// It was acknowledged when it began.
    is_acked: bool,
    /// How it ended, before its copy came.
    verdict: Option<Verdict>,
}

/// The source.
struct Task {
    server: Server,
    events: Events,
    push: UnboundedSender<Pushed>,
    /// The server is away, and this was said.
    is_in_trouble: bool,
    pools: BTreeMap<PoolName, Fed>,
    held: BTreeMap<Token, Unacked>,
    tokens: Held<()>,
    settled: u64,
}

impl Task {
    async fn run(mut self, mut inbox: UnboundedReceiver<Said>, mut pushed: UnboundedReceiver<Pushed>) {
        loop {
            tokio::select! {
                biased;
                said = inbox.recv() => match said {
                    Some(Said::Demand(demand)) => self.demand(demand),
                    Some(Said::Began(begun)) => self.began(begun),
                    Some(Said::Settle(outcomes)) => self.settle(outcomes),
                    Some(Said::Close(answer)) => {
                        self.leave();
                        let _ = answer.send(0);
                        return;
                    }
                    None => return self.leave(),
                },
                Some(pushed) = pushed.recv() => self.take(pushed),
            }
            self.tell_empty();
        }
    }

    fn demand(&mut self, demand: Demand) {
        let mut state = self.server.state();
        let fed = self.pools.entry(demand.pool.clone()).or_default();
        fed.room.say(demand.seen, demand.credit, demand.jobs);
        fed.wake = demand.wake;
        (fed.queues, fed.order) = (demand.queues, Some(demand.order));
        let consumed = fed.consume(&mut state, &self.push);
        drop(state);
        self.note(consumed);
    }

    /// Says when the server goes away, and when it is back.
    fn note(&mut self, done: Result<(), BrokerError>) {
        let doing = "consume";
        match done {
            Ok(()) if self.is_in_trouble => self.events.send(Event::Well { doing }),
            Err(error) if !self.is_in_trouble => {
                let error = Arc::new(error);
                self.events.send(Event::Trouble { doing, error });
                self.is_in_trouble = true;
                return;
            }
            Err(_) => return,
            Ok(()) => {}
        }
        self.is_in_trouble = false;
    }

    /// Consumes again, for the pools that this concerns.
    fn consume_again(&mut self, concerns: impl Fn(&Fed) -> bool) {
        let mut state = self.server.state();
        let mut pools = self.pools.values_mut().filter(|fed| concerns(fed));
        let consumed = pools.try_for_each(|fed| fed.consume(&mut state, &self.push));
        drop(state);
        self.note(consumed);
    }

    fn take(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Delivery {
                channel,
                tag,
                message,
            } => self.deliver(channel, tag, message),
            Pushed::Revoked { job } => {
                for (token, _) in self.held.iter().filter(|(_, held)| held.message.job.id == job) {
                    self.events.send(Event::Stop {
                        token: *token,
                        how: StopHow::IfNotBegun,
                    });
                }
            }
            Pushed::Closed { channel } => self.closed(channel),
            Pushed::Back => self.consume_again(|_| true),
            Pushed::Waits { channel } => {
                if let Some((pool, fed)) = self.pools.iter_mut().find(|(_, fed)| fed.channel == channel) {
                    fed.told_empty = None;
                    fed.wake = false;
                    self.events.send(Event::Waiting { pool: pool.clone() });
                }
            }
        }
    }

    /// A channel is lost: what was delivered waits for its copy, and what has not begun is recalled. What was acknowledged
    /// comes no more.
    fn closed(&mut self, channel: u64) {
        let of_it = |(_, held): &(&Token, &Unacked)| held.channel == Some(channel) && !held.is_acked;
        let lost: Vec<Token> = self.held.iter().filter(of_it).map(|(token, _)| *token).collect();
        for token in lost {
            let held = self.held.get_mut(&token).unwrap();
            held.channel = None;
            if !held.has_begun {
                self.events.send(Event::Recall { token });
            }
        }
        self.consume_again(|fed| fed.channel == channel);
    }

    fn deliver(&mut self, channel: u64, tag: u64, message: Message) {
        if let Some(reason) = message.odd {
            return self.fail_unreadable(channel, tag, reason);
        }
        if self.is_copy(channel, tag, &message) {
            return;
        }
        let mut of_it = self.pools.iter_mut();
        let fed = of_it.find(|(_, fed)| fed.channel == channel && fed.room.has(Work::Job));
        let Some((pool, fed)) = fed else {
            // It was on its way when the room fell.
            return self.reject(channel, tag);
        };
        fed.room.deliver(Work::Job);
        fed.held += 1;
        let token = self.tokens.add(());
        let new = message.job.clone();
        let job = job::Job {
            id: new.id,
            queue: new.queue,
            task: new.task,
            kind: 0,
            payload: new.payload.into(),
            timeout: new.timeout,
            retries: new.retries,
            retry_after: None,
            loss: Loss::RunsAgain,
            work: Work::Job,
            batches: true,
            failures: message.failures,
            losses: message.losses,
            ready: message.since,
        };
        let unacked = Unacked {
            channel: Some(channel),
            tag,
            message,
            has_begun: false,
            is_acked: false,
            verdict: None,
        };
        self.held.insert(token, unacked);
        let delivery = Delivery {
            token,
            tells_begin: true,
            job,
        };
        self.events.send(Event::Delivered {
            pool: pool.clone(),
            jobs: vec![delivery],
        });
    }

    /// It takes no room.
    fn fail_unreadable(&mut self, channel: u64, tag: u64, reason: &str) {
        let mut state = self.server.state();
        if let Some(message) = state.settle(channel, tag) {
            let verdict = Verdict::Bury {
                error: JobError::new("unreadable", reason),
                failures: 1,
                losses: 0,
            };
            state.end(message.job.id, verdict);
            state.push();
        }
    }

    fn reject(&mut self, channel: u64, tag: u64) {
        let mut state = self.server.state();
        if let Some(open) = state.channels.get_mut(&channel) {
            open.prefetch = open.prefetch.saturating_sub(1);
        }
        if let Some(message) = state.settle(channel, tag) {
            state.put_back(message);
            state.push();
        }
    }

    /// The copy of what is in hand takes its place: what became of that becomes of it.
    fn is_copy(&mut self, channel: u64, tag: u64, message: &Message) -> bool {
        let waits = |held: &Unacked| held.channel.is_none() && !held.is_acked;
        let mut held = self.held.iter_mut();
        let Some((token, held)) = held.find(|(_, held)| waits(held) && held.message.job.id == message.job.id)
        else {
            return false;
        };
        (held.channel, held.tag) = (Some(channel), tag);
        let token = *token;
        let verdict = held.verdict.take();
        for fed in self.pools.values_mut().filter(|fed| fed.channel == channel) {
            fed.held += 1;
        }
        // It takes no room.
        let mut state = self.server.state();
        if let Some(open) = state.channels.get_mut(&channel) {
            open.prefetch += 1;
        }
        state.push();
        drop(state);
        if let Some(verdict) = verdict {
            let held = self.held.remove(&token).unwrap();
            let late = match self.carry_out(&held, verdict) {
                true => Vec::new(),
                false => vec![(token, Late::LeaseLost)],
            };
            self.settled += 1;
            self.events.send(Event::Settled { count: 1, late });
            self.server.state().push();
        }
        true
    }

    fn began(&mut self, begun: Vec<Begun>) {
        let mut state = self.server.state();
        for Begun { token, .. } in begun {
            let Some(held) = self.held.get_mut(&token) else {
                continue;
            };
            assert!(!held.has_begun, "each begins once");
            held.has_begun = true;
            if state.acks_early
                && let Some(channel) = held.channel
                && state.settle(channel, held.tag).is_some()
            {
                held.is_acked = true;
                state.acked_early.insert(held.message.job.id.clone());
                for fed in self.pools.values_mut().filter(|fed| fed.channel == channel) {
                    fed.held -= 1;
                }
                if let Some(open) = state.channels.get_mut(&channel) {
                    open.prefetch = open.prefetch.saturating_sub(1);
                }
            }
        }
    }

    /// Acknowledges, or puts the message back. Returns false when its channel was lost meanwhile.
    fn carry_out(&mut self, held: &Unacked, verdict: Verdict) -> bool {
        let mut state = self.server.state();
        state.call("settle");
        let mut message = held.message.clone();
        if !held.is_acked {
            let Some(channel) = held.channel else { return false };
            if state.settle(channel, held.tag).is_none() {
                return false;
            }
            for fed in self.pools.values_mut().filter(|fed| fed.channel == channel) {
                fed.held -= 1;
            }
            // Its place is free, but the room is not: that is said by the next demand.
            if let Some(open) = state.channels.get_mut(&channel) {
                open.prefetch = open.prefetch.saturating_sub(1);
            }
        }
        match verdict {
            Verdict::GiveBack => state.put_back(message),
            // What was acknowledged and is lost with its worker is lost, by contract; but it may ask for another run.
            Verdict::Again { failures, losses, .. } if !held.is_acked || losses == message.losses => {
                (message.failures, message.losses) = (failures, losses);
                state.put_back(message);
            }
            ended => state.end(message.job.id, ended),
        }
        true
    }

    fn settle(&mut self, mut outcomes: Vec<Settlement>) {
        let mut count = outcomes.len();
        // Those that go back stand in their old order: the youngest goes first.
        outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.of));
        let mut late = Vec::new();
        for Settlement { of, verdict, .. } in outcomes {
            self.tokens.end(of);
            let Some(mut held) = self.held.remove(&of) else {
                late.push((of, Late::Gone));
                continue;
            };
            let is_lost = held.channel.is_none_or(|channel| !self.server.is_open(channel));
            if is_lost && matches!(verdict, Verdict::GiveBack) {
                // Its copy is for anybody.
            } else if is_lost && !held.is_acked {
                // It is settled when its copy comes, which is not to run.
                (held.channel, held.verdict) = (None, Some(verdict));
                self.held.insert(of, held);
                count -= 1;
            } else if !self.carry_out(&held, verdict) {
                late.push((of, Late::LeaseLost));
            }
        }
        self.settled += count as u64;
        if count > 0 {
            self.events.send(Event::Settled { count, late });
        }
        self.server.state().push();
    }

    fn tell_empty(&mut self) {
        let mut state = self.server.state();
        for (pool, fed) in &mut self.pools {
            let now = (fed.room.delivered(), self.settled);
            let Some(channel) = state.channels.get(&fed.channel) else {
                continue;
            };
            let waits = |queue| state.queues.get(queue).is_some_and(|queue| !queue.is_empty());
            let on_its_way = channel.unacked.len() != fed.held;
            let is_empty = !channel.queues.is_empty() && !channel.queues.iter().any(waits) && !on_its_way;
            if is_empty && fed.told_empty != Some(now) {
                fed.told_empty = Some(now);
                self.events.send(Event::Empty {
                    pool: pool.clone(),
                    seen: now.0,
                    settled: now.1,
                });
                if let Some(channel) = state.channels.get_mut(&fed.channel) {
                    channel.tells_what_waits = true;
                }
            }
        }
    }

    fn leave(&mut self) {
        let mut state = self.server.state();
        for fed in self.pools.values() {
            state.close_channel(fed.channel);
        }
    }
}
