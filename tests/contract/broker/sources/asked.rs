//! Rules of what a source asks of its broker, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pool::broker::parts::turns::Turns;
use pool::broker::source::{Event, StopHow};
use pool::broker::{Abilities, Broker, BrokerError, Events, Maintained, Pull, Queues, Source, pulled};
use pool::job::{Claim, Claimed, QueueName, Settlement};
use pool::time::Mono;

use super::fed::{Fed, add};
use super::store::{Calls, Store};
use crate::broker::kit::{finish, waits};

const HEARTBEAT: Duration = Duration::from_millis(50);

/// Passes everything on and notes when it was asked; refuses some outcomes at first.
#[derive(Debug)]
pub struct Asked {
    inner: Arc<dyn Pull>,
    calls: Mutex<BTreeMap<&'static str, Vec<Mono>>>,
    refusals: Mutex<u32>,
}

impl Asked {
    pub fn over(inner: Arc<dyn Pull>, refusals: u32) -> Arc<Self> {
        Arc::new(Asked {
            inner,
            calls: Mutex::default(),
            refusals: Mutex::new(refusals),
        })
    }

    fn note(&self, call: &'static str) -> &dyn Pull {
        let mut calls = self.calls.lock().unwrap();
        calls.entry(call).or_default().push(Mono::now());
        &*self.inner
    }
}

impl Calls for Asked {
    fn all(&self) -> BTreeMap<&'static str, Vec<Mono>> {
        self.calls.lock().unwrap().clone()
    }

    /// One wait stands.
    fn may_be_idle(&self) -> bool {
        !self.of("ready").is_empty()
    }
}

#[async_trait]
impl Broker for Asked {
    fn url(&self) -> &str {
        self.inner.url()
    }
    fn queues(&self) -> &dyn Queues {
        self.inner.queues()
    }
    fn abilities(&self) -> Abilities<'_> {
        self.inner.abilities()
    }
    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.inner.begin().await?;
        Ok(pulled::start(self, HEARTBEAT, events))
    }
    async fn close(&self) -> Result<(), BrokerError> {
        self.inner.close().await
    }
}

#[async_trait]
impl Pull for Asked {
    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.note("claim").claim(queues, turns, limit).await
    }
    async fn claim_after_work(
        &self,
        queues: &[QueueName],
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.note("claim_after_work")
            .claim_after_work(queues, limit)
            .await
    }
    fn has_after_work(&self) -> bool {
        self.inner.has_after_work()
    }
    fn holds_more(&self) -> bool {
        self.inner.holds_more()
    }
    async fn extend(&self) -> Result<(), BrokerError> {
        self.note("extend").extend().await
    }
    async fn note_begun(&self, claims: Vec<Claim>) -> Result<(), BrokerError> {
        self.note("note_begun").note_begun(claims).await
    }
    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.note("called_off").called_off(claims).await
    }
    fn stops_by_mark(&self) -> bool {
        self.inner.stops_by_mark()
    }
    async fn settle(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        let inner = self.note("settle");
        let refuses = {
            let mut left = self.refusals.lock().unwrap();
            let refuses = *left > 0;
            *left = left.saturating_sub(1);
            refuses
        };
        if refuses {
            return Err(BrokerError::Busy {
                url: "asked:".to_owned(),
                reason: "it is full".to_owned(),
            });
        }
        inner.settle(settlements).await
    }
    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        self.note("ready").ready(queues).await
    }
    async fn maintain(&self) -> Result<Maintained, BrokerError> {
        self.note("maintain").maintain().await
    }
}

pub async fn idle_asks_nothing(store: &dyn Store) {
    let (broker, calls) = store.asked(0).await;
    let mut fed = Fed::over(broker).await;
    fed.want(&["default"], 9);
    fed.empty().await;
    while !calls.may_be_idle() {
        tokio::task::yield_now().await;
    }
    let before = calls.count();
    let mut next = Box::pin(fed.next());
    assert!(waits(&mut next).await);
    assert_eq!(calls.count(), before, "{:?}", calls.all());
}

pub async fn refused_writes_back_off(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let (broker, calls) = store.asked(4).await;
    let mut fed = Fed::over(broker).await;
    fed.want(&["default"], 1);
    let jobs = fed.jobs(1).await;
    fed.settle(&jobs, &finish());
    fed.want(&["default"], 1);
    let (mut troubles, mut delivered) = (0, 0);
    loop {
        match fed.next().await {
            Event::Trouble { .. } => troubles += 1,
            // What only reads goes on.
            Event::Delivered { .. } => delivered += 1,
            Event::Settled { count: 1, late } => {
                assert_eq!(late, []);
                break;
            }
            _ => {}
        }
    }
    assert_eq!((troubles, delivered), (4, 1));
    let tries = calls.of("settle");
    let pauses: Vec<Duration> = tries.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    // Each is at least half of the step, which doubles from 100 ms on.
    for (pause, at_least) in pauses.iter().zip([50, 100, 200, 400]) {
        assert!(*pause >= Duration::from_millis(at_least), "{pauses:?}");
    }
}

pub async fn a_source_renews_while_it_holds_something(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..1, "default").await;
    let (broker, calls) = store.asked(0).await;
    let mut fed = Fed::over(broker).await;
    fed.want(&["default"], 1);
    let jobs = fed.jobs(1).await;
    while calls.of("extend").len() < 3 {
        tokio::time::sleep(HEARTBEAT).await;
    }
    fed.settle(&jobs, &finish());
    fed.want(&["default"], 1);
    fed.empty().await;
    let renewed = calls.of("extend").len();
    tokio::time::sleep(HEARTBEAT * 3).await;
    // One may have been on its way.
    assert!(calls.of("extend").len() <= renewed + 1);
}
