//! A subscription that is made anew when its connection breaks, to channels that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use redis::RedisError;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::connection::Link;
use super::endpoint::Endpoint;

/// Wait before a subscription that broke is made anew; grows up to the longest.
const PATIENCE: Duration = Duration::from_millis(250);
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the subscription to a new channel.
const SUBSCRIPTION: Duration = Duration::from_secs(2);

/// A message, and the number of who is meant by its channel.
type Message = (u64, Vec<u8>);

/// Who is meant by a message, by channel.
type Channels = BTreeMap<String, u64>;

/// A subscription to channels that come and go.
#[derive(Debug)]
pub(in crate::broker) struct Subscription {
    endpoint: Arc<Endpoint>,
    /// Connections that were given up elsewhere.
    losses: watch::Receiver<u64>,
    channels: watch::Sender<Channels>,
    /// The channels that the server has confirmed.
    subscribed: watch::Sender<BTreeSet<String>>,
    heard: tokio::sync::Mutex<Option<mpsc::UnboundedReceiver<Message>>>,
    task: Mutex<Option<AbortHandle>>,
}

impl Subscription {
    pub fn new(link: &Link) -> Self {
        Subscription {
            endpoint: Arc::clone(&link.endpoint),
            losses: link.losses(),
            channels: watch::Sender::new(Channels::new()),
            subscribed: watch::Sender::new(BTreeSet::new()),
            heard: tokio::sync::Mutex::default(),
            task: Mutex::default(),
        }
    }

    /// Listens to these channels and to no others; each has a number for who is meant by its messages. Returns when
    /// the server has confirmed it; after a while in any case.
    pub async fn serve(&self, channels: BTreeMap<String, u64>) {
        let is_heard = |heard: &BTreeSet<String>| channels.keys().all(|channel| heard.contains(channel));
        let mut subscribed = self.subscribed.subscribe();
        self.listen_to(channels.clone());
        let _ = tokio::time::timeout(SUBSCRIPTION, subscribed.wait_for(is_heard)).await;
    }

    /// The same, without waiting for the server.
    pub fn listen_to(&self, channels: BTreeMap<String, u64>) {
        self.channels.send_if_modified(|now| {
            let changed = *now != channels;
            *now = channels;
            changed
        });
    }

    /// The next message, and the number of its channel.
    pub async fn next(&self) -> Message {
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

impl Drop for Subscription {
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
    hear: mpsc::UnboundedSender<Message>,
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
                tracing::debug!(%error, "the subscription broke");
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
    hear: &mpsc::UnboundedSender<Message>,
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
                    if let Some(number) = subscribed.get(message.get_channel_name()) {
                        let _ = hear.send((*number, message.get_payload_bytes().to_vec()));
                    }
                }
            }
        }
    }
}
