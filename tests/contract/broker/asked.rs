//! Rules of the source over brokers that are asked: what it asks of them, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pool::broker::parts::turns::Turns;
use pool::broker::source::{Event, Late};
use pool::broker::{Abilities, Broker, BrokerError, Events, Maintained, Pull, Queues, Source, pulled};
use pool::config::BrokerConfig;
use pool::job::{Claim, Claimed, NewJob, QueueName, Settlement};
use pool::time::Mono;

use super::kit::*;
use super::sources::{Fed, add};

const HEARTBEAT: Duration = Duration::from_millis(50);

/// Passes everything on and notes when it was asked; refuses some outcomes at first.
#[derive(Debug)]
struct Asked {
    inner: Arc<dyn Pull>,
    calls: Mutex<BTreeMap<&'static str, Vec<Mono>>>,
    refusals: Mutex<u32>,
}

impl Asked {
    fn over(inner: Arc<dyn Pull>, refusals: u32) -> Arc<Self> {
        Arc::new(Asked {
            inner,
            calls: Mutex::default(),
            refusals: Mutex::new(refusals),
        })
    }

    fn note(&self, call: &'static str) -> &dyn Pull {
        self.calls
            .lock()
            .unwrap()
            .entry(call)
            .or_default()
            .push(Mono::now());
        &*self.inner
    }

    fn calls(&self, call: &str) -> Vec<Mono> {
        self.calls.lock().unwrap().get(call).cloned().unwrap_or_default()
    }

    /// How often it was asked anything.
    fn count(&self) -> usize {
        self.calls.lock().unwrap().values().map(Vec::len).sum()
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
    async fn extend(&self) -> Result<(), BrokerError> {
        self.note("extend").extend().await
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

#[tokio::test]
async fn idle_asks_nothing() {
    for kit in [Kit::memory(), Kit::sqlite()] {
        let asked = Asked::over(kit.handle().await, 0);
        let mut fed = Fed::over(asked.clone()).await;
        fed.want(&["default"], 9);
        fed.empty().await;
        // One wait stands by now.
        while asked.calls("ready").is_empty() {
            tokio::task::yield_now().await;
        }
        let before = asked.count();
        let mut next = Box::pin(fed.next());
        assert!(waits(&mut next).await);
        assert_eq!(asked.count(), before);
    }
}

#[tokio::test]
async fn refused_writes_back_off() {
    let kit = Kit::memory();
    let producer: Arc<dyn Broker> = kit.handle().await;
    add(&producer, 0..2, "default").await;
    let asked = Asked::over(kit.handle().await, 4);
    let mut fed = Fed::over(asked.clone()).await;
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
    let tries = asked.calls("settle");
    let pauses: Vec<Duration> = tries.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    // Each is at least half of the step, which doubles from 100 ms on.
    for (pause, at_least) in pauses.iter().zip([50, 100, 200, 400]) {
        assert!(*pause >= Duration::from_millis(at_least), "{pauses:?}");
    }
}

#[tokio::test]
async fn a_source_renews_while_it_holds_something() {
    for kit in [Kit::memory(), Kit::sqlite()] {
        let producer: Arc<dyn Broker> = kit.handle().await;
        add(&producer, 0..1, "default").await;
        let asked = Asked::over(kit.handle().await, 0);
        let mut fed = Fed::over(asked.clone()).await;
        fed.want(&["default"], 1);
        let jobs = fed.jobs(1).await;
        while asked.calls("extend").len() < 3 {
            tokio::time::sleep(HEARTBEAT).await;
        }
        fed.settle(&jobs, &finish());
        fed.want(&["default"], 1);
        fed.empty().await;
        let renewed = asked.calls("extend").len();
        tokio::time::sleep(HEARTBEAT * 3).await;
        // One may have been on its way.
        assert!(asked.calls("extend").len() <= renewed + 1);
    }
}

#[tokio::test]
async fn late_and_gone_differ() {
    for kit in [Kit::memory(), Kit::sqlite()] {
        let lease = Duration::from_millis(200);
        let heartbeat = Duration::from_secs(1200);
        let config = BrokerConfig {
            lease,
            heartbeat,
            ..config()
        };
        let (dying, other) = (kit.handle_with(config).await, kit.handle().await);
        let forgotten = NewJob {
            result_ttl: Some(Duration::ZERO),
            ..job("gone", "default")
        };
        enqueue(&other, vec![forgotten, job("late", "default")]).await;
        let mut fed = Fed::over(dying).await;
        fed.want(&["default"], 2);
        let jobs = fed.jobs(2).await;
        fed.want(&[], 0);
        soon(other.ready(&[queue("default")])).await.unwrap();
        let again = claim(&other, &["default"], 2).await;
        assert_eq!(ids_of(&again), ["gone", "late"]);
        assert!(settle(&other, &again[0], finish()).await);
        fed.settle(&jobs, &finish());
        loop {
            if let Event::Settled { late, .. } = fed.next().await {
                let expected = [(jobs[0].token, Late::Gone), (jobs[1].token, Late::LeaseLost)];
                assert_eq!(late, expected);
                break;
            }
        }
    }
}
