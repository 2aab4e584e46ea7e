//! What others ask of our workers by `PUBLISH`: stop a job, kill a horse, shut a worker down. Source: `rq/command.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisError;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::RqBroker;
use super::connection::Link;
use super::endpoint::Endpoint;
use super::held::Kind;
use super::keys::Keys;
use crate::broker::{BrokerError, Order};
use crate::job::JobId;

/// Wait before a subscription that broke is made anew; grows up to the longest.
const PATIENCE: Duration = Duration::from_millis(250);
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the subscription to a new worker's channel.
const SUBSCRIPTION: Duration = Duration::from_secs(2);

/// A message on a worker's channel.
#[derive(Debug, Deserialize)]
struct Message {
    command: String,
    job_id: Option<String>,
    execution_id: Option<String>,
}

/// Workers' numbers by their channels.
type Channels = BTreeMap<String, u64>;

/// The subscription to the channels of all workers.
#[derive(Debug)]
pub(super) struct Orders {
    endpoint: Arc<Endpoint>,
    /// Connections that were given up elsewhere.
    losses: watch::Receiver<u64>,
    keys: Keys,
    channels: watch::Sender<Channels>,
    /// The channels that the server has confirmed.
    subscribed: watch::Sender<BTreeSet<String>>,
    heard: tokio::sync::Mutex<Option<mpsc::UnboundedReceiver<(u64, Message)>>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Orders {
    pub fn new(link: &Link, keys: Keys) -> Self {
        Orders {
            endpoint: Arc::clone(&link.endpoint),
            losses: link.losses(),
            keys,
            channels: watch::Sender::new(Channels::new()),
            subscribed: watch::Sender::new(BTreeSet::new()),
            heard: tokio::sync::Mutex::default(),
            task: Mutex::default(),
        }
    }

    /// Listens to the channels of these workers, given by name and number, and to no others. Returns when the server
    /// has confirmed it, so that who sees a worker can speak to it; after a while in any case.
    pub async fn serve(&self, workers: impl Iterator<Item = (String, u64)>) {
        let channels: Channels = workers
            .map(|(name, number)| (self.keys.channel(&name), number))
            .collect();
        let is_heard = |heard: &BTreeSet<String>| channels.keys().all(|channel| heard.contains(channel));
        let mut subscribed = self.subscribed.subscribe();
        self.channels.send_if_modified(|now| {
            let changed = *now != channels;
            now.clone_from(&channels);
            changed
        });
        let _ = tokio::time::timeout(SUBSCRIPTION, subscribed.wait_for(is_heard)).await;
    }

    /// The next message with its worker.
    async fn next(&self) -> (u64, Message) {
        let mut heard = self.heard.lock().await;
        let heard = heard.get_or_insert_with(|| {
            let (hear, heard) = mpsc::unbounded_channel();
            let task = tokio::spawn(listen(
                Arc::clone(&self.endpoint),
                self.losses.clone(),
                self.channels.subscribe(),
                self.subscribed.clone(),
                hear,
            ));
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
            heard
        });
        match heard.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    pub fn stop(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Subscribes, again when the connection breaks, and passes on what it hears.
async fn listen(
    endpoint: Arc<Endpoint>,
    mut losses: watch::Receiver<u64>,
    mut channels: watch::Receiver<Channels>,
    heard: watch::Sender<BTreeSet<String>>,
    hear: mpsc::UnboundedSender<(u64, Message)>,
) {
    let mut patience = PATIENCE;
    loop {
        // Nobody to listen for needs no connection.
        if channels.wait_for(|channels| !channels.is_empty()).await.is_err() {
            return;
        }
        losses.mark_unchanged();
        let ended = tokio::select! {
            ended = subscribe(&endpoint, &mut channels, &heard, &hear) => ended,
            // This connection may be as dead as the one that was given up.
            Ok(()) = losses.changed() => Ok(()),
        };
        heard.send_replace(BTreeSet::new());
        match ended {
            Ok(()) => patience = PATIENCE,
            Err(error) => {
                tracing::debug!(%error, "orders can't be heard now");
                tokio::time::sleep(patience.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                patience = (patience * 2).min(PATIENCE_MAX);
            }
        }
    }
}

/// One connection's life: until it breaks, or nobody is left to listen for.
async fn subscribe(
    endpoint: &Endpoint,
    channels: &mut watch::Receiver<Channels>,
    heard: &watch::Sender<BTreeSet<String>>,
    hear: &mpsc::UnboundedSender<(u64, Message)>,
) -> Result<(), RedisError> {
    let (mut sink, mut messages) = endpoint.subscriber().await?.split();
    let mut subscribed = Channels::new();
    loop {
        let wanted = channels.borrow_and_update().clone();
        for channel in wanted.keys().filter(|channel| !subscribed.contains_key(*channel)) {
            sink.subscribe(channel).await?;
        }
        for channel in subscribed.keys().filter(|channel| !wanted.contains_key(*channel)) {
            sink.unsubscribe(channel).await?;
        }
        subscribed = wanted;
        heard.send_replace(subscribed.keys().cloned().collect());
        if subscribed.is_empty() {
            return Ok(());
        }
        loop {
            tokio::select! {
                changed = channels.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                message = messages.next() => {
                    let Some(message) = message else {
                        return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                    };
                    let worker = subscribed.get(message.get_channel_name());
                    match (worker, serde_json::from_slice(message.get_payload_bytes())) {
                        (Some(worker), Ok(message)) => drop(hear.send((*worker, message))),
                        (_, Err(error)) => tracing::warn!(%error, "an order can't be read"),
                        (None, Ok(_)) => {}
                    }
                }
            }
        }
    }
}

impl RqBroker {
    /// The next thing that somebody asks of a worker or its job.
    pub(super) async fn next_order(&self) -> Result<Order, BrokerError> {
        loop {
            let (worker, message) = self.orders.next().await;
            match self.understand(worker, &message) {
                Some(order) => return Ok(order),
                None => tracing::info!(
                    worker,
                    ?message,
                    "an order that no job or worker here is meant by"
                ),
            }
        }
    }

    fn understand(&self, worker: u64, message: &Message) -> Option<Order> {
        match message.command.as_str() {
            "shutdown" => Some(Order::ReplaceWorker(worker)),
            "kill-horse" => Some(Order::KillWorker(worker)),
            "stop-job" => self.stop(message.job_id.as_deref()?, None),
            "stop-execution" => self.stop(message.job_id.as_deref()?, message.execution_id.as_deref()),
            _ => None,
        }
    }

    fn stop(&self, job: &str, asked: Option<&str>) -> Option<Order> {
        let hand = self.hand();
        let meant = |number: i64, kind: &Kind| match (kind, asked) {
            (Kind::Plain { .. }, Some(asked)) => self.execution(number) == asked,
            (Kind::Plain { .. } | Kind::Whole, _) => true,
            (Kind::After(_), _) => false,
        };
        let held = hand
            .jobs
            .iter()
            .any(|(number, held)| held.job == job && meant(*number, &held.kind));
        held.then(|| JobId::new(job).ok()).flatten().map(Order::StopJob)
    }
}
