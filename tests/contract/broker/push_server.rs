//! The server of the broker that pushes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pool::broker::Broker;
use pool::broker::parts::turns::Turns;
use pool::job::{JobId, NewJob, QueueName, QueueOrder, Verdict};
use pool::time::{Mono, Unix};
use tokio::sync::mpsc::UnboundedSender;

/// A job on its way, as the server keeps it.
#[derive(Clone, Debug)]
pub struct Message {
    pub job: NewJob,
    pub failures: u32,
    pub losses: u32,
    pub since: Unix,
    /// Why no job can be made of it.
    pub odd: Option<&'static str>,
}

/// What the server says on a channel.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // there is one of them at a time
pub enum Pushed {
    Delivery {
        channel: u64,
        tag: u64,
        message: Message,
    },
    /// Somebody revokes a message that may have been delivered here.
    Revoked { job: JobId },
    /// The server is back.
    Back,
    /// The channel was closed by the server.
    Closed { channel: u64 },
    /// A message came to a queue of this channel's and stays there, after it was asked to tell.
    Waits { channel: u64 },
}

#[derive(Debug)]
pub struct Channel {
    pub queues: Arc<[QueueName]>,
    /// Which of them gives the next message. (A server of AMQP knows no strict one.)
    pub order: QueueOrder,
    /// The one that gave the last.
    pub last: Option<QueueName>,
    pub prefetch: usize,
    pub unacked: BTreeMap<u64, Message>,
    pub last_tag: u64,
    pub tells_what_waits: bool,
    pub push: UnboundedSender<Pushed>,
}

#[derive(Debug, Default)]
pub struct State {
    pub queues: BTreeMap<QueueName, VecDeque<Message>>,
    pub channels: BTreeMap<u64, Channel>,
    pub last_channel: u64,
    pub ended: HashMap<JobId, Verdict>,
    /// How often each has ended.
    pub ends: HashMap<JobId, usize>,
    /// It can't be reached.
    pub is_away: bool,
    /// All who want to hear that it is back.
    pub sources: Vec<UnboundedSender<Pushed>>,
    /// What was asked of it, and when.
    pub calls: BTreeMap<&'static str, Vec<Mono>>,
    /// Messages are acknowledged when their jobs begin.
    pub acks_early: bool,
    pub revoked: BTreeSet<JobId>,
    /// Jobs acknowledged before their end.
    pub acked_early: BTreeSet<JobId>,
}

/// The server.
#[derive(Clone, Debug, Default)]
pub struct Server(Arc<Mutex<State>>);

impl State {
    /// Hands out what may be handed out.
    pub fn push(&mut self) {
        for (number, channel) in &mut self.channels {
            let has = |name| self.queues.get(name).map_or(0, VecDeque::len);
            let has: Vec<usize> = channel.queues.iter().map(has).collect();
            let turns = Turns::new(channel.order, &channel.queues, channel.last.as_ref());
            let room = channel.prefetch.saturating_sub(channel.unacked.len());
            for at in turns.share(&has, room, &mut fastrand::Rng::new()) {
                let queue = self.queues.get_mut(&channel.queues[at]);
                let Some(message) = queue.and_then(VecDeque::pop_front) else {
                    continue;
                };
                channel.last = Some(channel.queues[at].clone());
                channel.last_tag += 1;
                channel.unacked.insert(channel.last_tag, message.clone());
                let _ = channel.push.send(Pushed::Delivery {
                    channel: *number,
                    tag: channel.last_tag,
                    message,
                });
            }
            for name in &*channel.queues {
                let queue = self.queues.entry(name.clone()).or_default();
                if !queue.is_empty() && std::mem::take(&mut channel.tells_what_waits) {
                    let _ = channel.push.send(Pushed::Waits { channel: *number });
                }
            }
        }
    }

    /// Takes a message that is not acknowledged yet; `None`: its channel was closed.
    pub fn settle(&mut self, channel: u64, tag: u64) -> Option<Message> {
        self.channels.get_mut(&channel)?.unacked.remove(&tag)
    }

    pub fn call(&mut self, what: &'static str) {
        self.calls.entry(what).or_default().push(Mono::now());
    }

    pub fn end(&mut self, job: JobId, verdict: Verdict) {
        *self.ends.entry(job.clone()).or_default() += 1;
        self.ended.insert(job, verdict);
    }

    pub fn put_back(&mut self, message: Message) {
        if self.revoked.contains(&message.job.id) {
            self.end(message.job.id, Verdict::Canceled);
            return;
        }
        let queue = self.queues.entry(message.job.queue.clone()).or_default();
        queue.push_front(message);
    }

    pub fn close_channel(&mut self, number: u64) {
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
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on messages are acknowledged when their jobs begin.
    pub fn acknowledge_early(&self) {
        self.state().acks_early = true;
    }

    /// Whether the message of this job was acknowledged before its end.
    pub fn was_acked_early(&self, job: &str) -> bool {
        self.state().acked_early.contains(&JobId::new(job).unwrap())
    }

    /// A message comes to `default` of which nobody can make a job.
    pub fn add_unreadable(&self, id: &str) {
        let mut state = self.state();
        let queue = QueueName::new("default").unwrap();
        let message = Message {
            failures: 0,
            losses: 0,
            since: Unix::now(),
            odd: Some("its headers are no table"),
            job: NewJob {
                id: JobId::new(id).unwrap(),
                ..NewJob::new(queue.clone(), "work", "")
            },
        };
        state.queues.entry(queue).or_default().push_back(message);
        state.push();
    }

    /// Whether this channel can be spoken on.
    pub fn is_open(&self, channel: u64) -> bool {
        self.state().channels.contains_key(&channel)
    }

    /// A handle, as a program has.
    pub fn handle(&self) -> Arc<dyn Broker> {
        Arc::new(super::PushBroker::on(self.clone()))
    }

    /// It can't be reached: all channels are closed, and none can be opened.
    pub fn go_away(&self) {
        self.state().is_away = true;
        self.close_channels();
    }

    /// It is there again, with all that it had.
    pub fn come_back(&self) {
        let mut state = self.state();
        state.is_away = false;
        for source in &state.sources {
            let _ = source.send(Pushed::Back);
        }
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
