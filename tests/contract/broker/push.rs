//! A broker that pushes: a model of AMQP, in memory, for tests alone.
//!
//! The server hands messages to consumers as long as they hold fewer unacknowledged ones than their prefetch allows. A
//! message is acknowledged when its job has ended, or is rejected back to the front of its queue. When a channel closes,
//! what was not acknowledged on it is delivered anew, to whoever consumes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use pool::broker::parts::held::Held;
use pool::broker::parts::room::Room;
use pool::broker::source::{Demand, Event, Events, Late, Source};
use pool::broker::{Backlog, Broker, BrokerError, Enqueued, NotHere, Producer, Queues};
use pool::job::{self, Delivery, JobId, Loss, NewJob, PoolName, QueueName, Settlement, Verdict, Work};
use pool::time::Unix;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// A job on its way, as the server keeps it.
#[derive(Clone, Debug)]
struct Message {
    job: NewJob,
    failures: u32,
    losses: u32,
    since: Unix,
}

/// What the server says on a channel.
#[derive(Debug)]
enum Pushed {
    Delivery {
        channel: u64,
        tag: u64,
        message: Message,
    },
    /// The channel was closed by the server.
    Closed { channel: u64 },
    /// A message came to a queue of this channel's and stays there, after it was asked to tell.
    Waits { channel: u64 },
}

#[derive(Debug)]
struct Channel {
    queues: Arc<[QueueName]>,
    prefetch: usize,
    unacked: BTreeMap<u64, Message>,
    last_tag: u64,
    tells_what_waits: bool,
    push: UnboundedSender<Pushed>,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<QueueName, VecDeque<Message>>,
    channels: BTreeMap<u64, Channel>,
    last_channel: u64,
    ended: HashMap<JobId, Verdict>,
}

/// The server.
#[derive(Clone, Debug, Default)]
pub struct Server(Arc<Mutex<State>>);

impl State {
    /// Hands out what may be handed out.
    fn push(&mut self) {
        for (number, channel) in &mut self.channels {
            for name in &*channel.queues {
                let queue = self.queues.entry(name.clone()).or_default();
                while channel.unacked.len() < channel.prefetch
                    && let Some(message) = queue.pop_front()
                {
                    channel.last_tag += 1;
                    channel.unacked.insert(channel.last_tag, message.clone());
                    let (channel_number, tag) = (*number, channel.last_tag);
                    let _ = channel.push.send(Pushed::Delivery {
                        channel: channel_number,
                        tag,
                        message,
                    });
                }
                if !queue.is_empty() && std::mem::take(&mut channel.tells_what_waits) {
                    let _ = channel.push.send(Pushed::Waits { channel: *number });
                }
            }
        }
    }

    /// Takes a message that is not acknowledged yet; `None`: its channel was closed.
    fn settle(&mut self, channel: u64, tag: u64) -> Option<Message> {
        self.channels.get_mut(&channel)?.unacked.remove(&tag)
    }

    fn put_back(&mut self, message: Message) {
        let queue = self.queues.entry(message.job.queue.clone()).or_default();
        queue.push_front(message);
    }

    fn close_channel(&mut self, number: u64) {
        if let Some(channel) = self.channels.remove(&number) {
            let _ = channel.push.send(Pushed::Closed { channel: number });
            channel
                .unacked
                .into_values()
                .rev()
                .for_each(|message| self.put_back(message));
            self.push();
        }
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle, as a program has.
    pub fn handle(&self) -> Arc<dyn Broker> {
        Arc::new(PushBroker(self.clone()))
    }

    /// Closes all channels, as a server does that was told to.
    pub fn close_channels(&self) {
        let mut state = self.state();
        let open: Vec<u64> = state.channels.keys().copied().collect();
        open.into_iter().for_each(|channel| state.close_channel(channel));
    }

    /// What became of this job at last.
    pub fn ended(&self, job: &str) -> Option<Verdict> {
        self.state().ended.get(&JobId::new(job).unwrap()).cloned()
    }

    /// Messages that wait, and those that are delivered and not acknowledged.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (
            state.queues.values().map(VecDeque::len).sum(),
            state.channels.values().map(|channel| channel.unacked.len()).sum(),
        )
    }
}

/// One handle on a server.
#[derive(Debug)]
struct PushBroker(Server);

#[async_trait]
impl Broker for PushBroker {
    fn url(&self) -> &str {
        "push:"
    }

    fn queues(&self) -> &dyn Queues {
        self
    }

    fn producer(&self) -> Result<&dyn Producer, NotHere> {
        Ok(self)
    }

    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        let (sender, inbox) = unbounded_channel();
        let (push, pushed) = unbounded_channel();
        let task = Task {
            server: self.0.clone(),
            events,
            push,
            pools: BTreeMap::new(),
            held: Held::default(),
            settled: 0,
        };
        tokio::spawn(task.run(inbox, pushed));
        Ok(Box::new(Inbox(sender)))
    }

    async fn close(&self) -> Result<(), BrokerError> {
        Ok(())
    }
}

#[async_trait]
impl Producer for PushBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        let mut state = self.0.state();
        let mut enqueued = Vec::new();
        for job in jobs {
            enqueued.push(Enqueued::New(job.id.clone()));
            let message = Message {
                failures: 0,
                losses: 0,
                since: Unix::now(),
                job,
            };
            let queue = state.queues.entry(message.job.queue.clone()).or_default();
            queue.push_back(message);
        }
        state.push();
        Ok(enqueued)
    }
}

#[async_trait]
impl Queues for PushBroker {
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        let state = self.0.state();
        let found = queues.iter().filter_map(|queue| state.queues.get(queue));
        Ok(Backlog {
            waiting: found.clone().map(|queue| queue.len() as u64).sum(),
            scheduled: 0,
            oldest: found.filter_map(|queue| Some(queue.front()?.since)).min(),
        })
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        Ok(self.0.state().queues.keys().cloned().collect())
    }
}

#[derive(Debug)]
enum Said {
    Demand(Demand),
    Settle(Vec<Settlement>),
    Close(oneshot::Sender<usize>),
}

#[derive(Debug)]
struct Inbox(UnboundedSender<Said>);

impl Source for Inbox {
    fn demand(&mut self, demand: Demand) {
        let _ = self.0.send(Said::Demand(demand));
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
    channel: u64,
    /// Deliveries of this channel that are not settled.
    held: usize,
    wake: bool,
    told_empty: Option<(u64, u64)>,
}

impl Fed {
    /// Consumes what the pool wants, on a new channel if it has none that is open.
    fn consume(&mut self, state: &mut State, push: &UnboundedSender<Pushed>) {
        if !state.channels.contains_key(&self.channel) {
            state.last_channel += 1;
            (self.channel, self.held) = (state.last_channel, 0);
            let channel = Channel {
                queues: Arc::default(),
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
            channel.prefetch = channel.unacked.len() + self.room.jobs();
            channel.tells_what_waits |= self.wake;
        }
        state.push();
    }
}

/// A delivery that is not settled.
#[derive(Debug)]
struct Unacked {
    channel: u64,
    tag: u64,
    job: JobId,
}

/// The source.
struct Task {
    server: Server,
    events: Events,
    push: UnboundedSender<Pushed>,
    pools: BTreeMap<PoolName, Fed>,
    held: Held<Unacked>,
    settled: u64,
}

impl Task {
    async fn run(mut self, mut inbox: UnboundedReceiver<Said>, mut pushed: UnboundedReceiver<Pushed>) {
        loop {
            tokio::select! {
                biased;
                Some(pushed) = pushed.recv() => self.take(pushed),
                said = inbox.recv() => match said {
                    Some(Said::Demand(demand)) => self.demand(demand),
                    Some(Said::Settle(outcomes)) => self.settle(outcomes),
                    Some(Said::Close(answer)) => {
                        self.leave();
                        let _ = answer.send(0);
                        return;
                    }
                    None => return self.leave(),
                },
            }
            self.tell_empty();
        }
    }

    fn demand(&mut self, demand: Demand) {
        let mut state = self.server.state();
        let fed = self.pools.entry(demand.pool.clone()).or_default();
        fed.room.say(demand.seen, demand.credit, demand.jobs);
        fed.wake = demand.wake;
        fed.queues = demand.queues;
        fed.consume(&mut state, &self.push);
    }

    fn take(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Delivery {
                channel,
                tag,
                message,
            } => self.deliver(channel, tag, message),
            Pushed::Closed { channel } => {
                let mut state = self.server.state();
                for fed in self.pools.values_mut().filter(|fed| fed.channel == channel) {
                    fed.consume(&mut state, &self.push);
                }
            }
            Pushed::Waits { channel } => {
                if let Some((pool, fed)) = self.pools.iter_mut().find(|(_, fed)| fed.channel == channel) {
                    fed.told_empty = None;
                    fed.wake = false;
                    self.events.send(Event::Waiting { pool: pool.clone() });
                }
            }
        }
    }

    fn deliver(&mut self, channel: u64, tag: u64, message: Message) {
        let mut of_it = self.pools.iter_mut();
        let fed = of_it.find(|(_, fed)| fed.channel == channel && fed.room.has(Work::Job));
        let Some((pool, fed)) = fed else {
            // It was on its way when the room fell.
            let mut state = self.server.state();
            if let Some(open) = state.channels.get_mut(&channel) {
                open.prefetch = open.prefetch.saturating_sub(1);
            }
            if let Some(message) = state.settle(channel, tag) {
                state.put_back(message);
                state.push();
            }
            return;
        };
        fed.room.deliver(Work::Job);
        fed.held += 1;
        let new = message.job;
        let token = self.held.add(Unacked {
            channel,
            tag,
            job: new.id.clone(),
        });
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
        self.events.send(Event::Delivered {
            pool: pool.clone(),
            jobs: vec![Delivery { token, job }],
        });
    }

    fn settle(&mut self, mut outcomes: Vec<Settlement>) {
        let mut state = self.server.state();
        let count = outcomes.len();
        // Those that go back stand in their old order: the youngest goes first.
        outcomes.sort_by_key(|outcome| std::cmp::Reverse(outcome.of));
        let mut late = Vec::new();
        for Settlement { of, verdict, .. } in outcomes {
            let Unacked { channel, tag, job } = self.held.end(of);
            let Some(mut message) = state.settle(channel, tag) else {
                late.push((of, Late::LeaseLost));
                continue;
            };
            for fed in self.pools.values_mut().filter(|fed| fed.channel == channel) {
                fed.held -= 1;
            }
            // Its place is free, but the room is not: that is said by the next demand.
            if let Some(open) = state.channels.get_mut(&channel) {
                open.prefetch = open.prefetch.saturating_sub(1);
            }
            match verdict {
                Verdict::GiveBack => state.put_back(message),
                Verdict::Again { failures, losses, .. } => {
                    (message.failures, message.losses) = (failures, losses);
                    state.put_back(message);
                }
                ended => drop(state.ended.insert(job, ended)),
            }
        }
        self.settled += count as u64;
        self.events.send(Event::Settled { count, late });
        state.push();
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
