//! Celery's tasks over RabbitMQ: a virtual host of the server that all tests share, a Redis for the results, and a network
//! that can be cut.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use pool::broker::source::{Demand, Event, Events, Source};
use pool::broker::{Abilities, Broker, BrokerError, Queues};
use pool::job::{Begun, JobId, Settlement, Token, Verdict};
use pool::time::Mono;
use serde_json::{Value, json};

use super::celery::{options, outcome};
use super::kit::config;
use super::sources::store::{Calls, Channels, Remote, Store};
use crate::support::rabbit::{self, Rabbit};
use crate::support::server::Server as Redis;

/// Where messages go that are rejected.
const DEAD: &str = "dead";

/// A virtual host.
pub struct Amqp {
    rabbit: &'static Rabbit,
    vhost: String,
    network: Network,
    redis: Mutex<Redis>,
    acks_early: AtomicBool,
}

impl Default for Amqp {
    fn default() -> Self {
        let rabbit = rabbit::shared();
        let vhost = rabbit.new_vhost();
        let durable = json!({"durable": true});
        rabbit.api("PUT", &format!("/queues/{vhost}/{DEAD}"), Some(&durable));
        Amqp {
            network: Network::before(rabbit.port()),
            redis: Mutex::new(Redis::start(&[])),
            acks_early: AtomicBool::new(false),
            rabbit,
            vhost,
        }
    }
}

impl Amqp {
    pub fn facts(&self) -> Value {
        let results = format!("redis://127.0.0.1:{}/1", self.redis.lock().unwrap().port());
        let queue = |name: &str| {
            json!({"name": name, "exchange": name, "exchange_type": "direct", "routing_key": name,
                "arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}})
        };
        let queues = ["default", "other", "a", "b", "c"].map(queue);
        json!({
            "broker": {"transport": "amqp", "heartbeat": 120,
                       "urls": [format!("amqp://guest:guest@127.0.0.1:{}/{}", self.network.port, self.vhost)]},
            "queues": queues,
            "results": {"class": "celery.backends.redis.RedisBackend", "url": results, "capture": true,
                        "prefix": "celery-task-meta-"},
            "tasks": {"work": {"acks_late": !self.acks_early.load(Relaxed), "capture": true}},
        })
    }

    pub async fn open(&self) -> Arc<dyn Broker> {
        pool::broker::celery::open(&options(&self.facts(), &config()))
            .await
            .unwrap()
    }

    /// Ids of messages that wait in a queue.
    pub fn waiting(&self, queue: &str) -> HashSet<String> {
        let ask = json!({"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let path = format!("/queues/{}/{queue}/get", self.vhost);
        let messages = self.rabbit.api("POST", &path, Some(&ask));
        let id = |message: &Value| {
            message["properties"]["correlation_id"]
                .as_str()
                .map(str::to_owned)
        };
        messages.as_array().unwrap().iter().filter_map(id).collect()
    }

    fn has_result(&self, job: &str) -> bool {
        let mut connection = self.redis.lock().unwrap().connection();
        let _: () = redis::cmd("SELECT").arg(1).query(&mut connection).unwrap();
        let mut result = redis::cmd("EXISTS");
        result.arg(format!("celery-task-meta-{job}"));
        result.query(&mut connection).unwrap()
    }

    fn depth(&self) -> (usize, usize) {
        let depth = self.rabbit.depth(&self.vhost, "default").unwrap_or_default();
        (depth.ready as usize, depth.unacked as usize)
    }
}

#[async_trait]
impl Store for Amqp {
    async fn handle(&self) -> Arc<dyn Broker> {
        Arc::new(Worked(self.open().await))
    }

    async fn short_lived(&self) -> Arc<dyn Broker> {
        self.handle().await
    }

    async fn housekeeper(&self) -> Arc<dyn Broker> {
        self.handle().await
    }

    /// Who is gone has no connection any more.
    fn let_leases_run_out(&self) {}

    async fn asked(&self, _refusals: u32) -> (Arc<dyn Broker>, Arc<dyn Calls>) {
        (
            self.handle().await,
            Arc::clone(&self.network.frames) as Arc<dyn Calls>,
        )
    }

    async fn add_unreadable(&self, name: &str) -> Vec<String> {
        let arguments = json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD});
        let queue = json!({"durable": true, "arguments": arguments});
        let path = format!("/queues/{}/default", self.vhost);
        self.rabbit.api("PUT", &path, Some(&queue));
        let mut ids = Vec::new();
        for (number, headers) in [json!({"eta": "soon"}), json!({"expires": 5})]
            .into_iter()
            .enumerate()
        {
            let id = format!("{name}-{number}");
            let mut all = json!({"task": "work", "id": id});
            all.as_object_mut()
                .unwrap()
                .extend(headers.as_object().unwrap().clone());
            let message = json!({"routing_key": "default", "payload": "[[], {}, {}]", "payload_encoding": "string",
                "properties": {"headers": all, "correlation_id": id, "content_type": "application/json", "content_encoding": "utf-8"}});
            let path = format!("/exchanges/{}/amq.default/publish", self.vhost);
            let routed = self.rabbit.api("POST", &path, Some(&message));
            assert_eq!(routed["routed"], true);
            ids.push(id);
        }
        ids
    }

    /// A rejection has no answer: it is looked for some times.
    async fn reason(&self, unreadable: &str) -> Option<String> {
        for _ in 0..50 {
            if self.waiting(DEAD).contains(unreadable) {
                return Some("rejected".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    async fn add_with_after_work(&self, id: &str) {
        let new = super::kit::job(id, "default");
        self.open()
            .await
            .producer()
            .unwrap()
            .enqueue(vec![new])
            .await
            .unwrap();
    }

    async fn has_ended(&self, id: &str) -> bool {
        self.counts().1 == 0 && !self.waiting("default").contains(id)
    }

    fn remote(&self) -> &dyn Remote {
        self
    }

    fn channels(&self) -> &dyn Channels {
        self
    }
}

impl Remote for Amqp {
    /// An acknowledgement has no answer: the connection is cut, and nobody knows whether it was heard.
    fn lose_answers(&self) {
        self.network.cut();
    }

    fn go_away(&self) {
        self.network.is_down.store(true, Relaxed);
        self.network.cut();
    }

    fn come_back(&self) {
        self.network.is_down.store(false, Relaxed);
    }

    fn ends(&self, job: &str) -> usize {
        usize::from(self.has_result(job))
    }
}

impl Channels for Amqp {
    fn acknowledge_early(&self) {
        self.acks_early.store(true, Relaxed);
    }

    fn close_channels(&self) {
        self.network.cut();
    }

    /// Once the server has carried out what it was told.
    fn counts(&self) -> (usize, usize) {
        let mut before = self.depth();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.depth();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    fn was_acked_early(&self, job: &str) -> bool {
        let (_, unacked) = self.counts();
        unacked == 0 && !self.waiting("default").contains(job) && !self.has_result(job)
    }

    fn has_ended(&self, job: &str) -> bool {
        self.has_result(job)
    }
}

/// Passes on what clients and server say, until it is cut.
struct Network {
    port: u16,
    is_down: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
    frames: Arc<Frames>,
}

impl Network {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let network = Network {
            port: listener.local_addr().unwrap().port(),
            is_down: Arc::default(),
            ends: Arc::default(),
            frames: Arc::default(),
        };
        let (is_down, ends) = (Arc::clone(&network.is_down), Arc::clone(&network.ends));
        let frames = Arc::clone(&network.frames);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                if is_down.load(Relaxed) {
                    continue; // both ends are closed
                }
                for (from, to, is_client) in [(&client, &server, true), (&server, &client, false)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let frames = Arc::clone(&frames);
                    std::thread::spawn(move || {
                        let _ = match is_client {
                            true => frames.pass_on(&mut from, &mut to),
                            false => std::io::copy(&mut from, &mut to).map(drop),
                        };
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                ends.lock().unwrap().extend([client, server]);
            }
        });
        network
    }

    fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// When clients sent frames. Source: AMQP 0-9-1, 4.2.3.
#[derive(Default)]
struct Frames(Mutex<Vec<Mono>>);

impl Frames {
    /// Passes a client's bytes on, and counts its frames: but for heartbeats, and but for ends of channels. They ask
    /// nothing, and the library sends them later, by itself.
    fn pass_on(&self, from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
        const METHOD: u8 = 1;
        const HEARTBEAT: u8 = 8;
        const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
        let mut greeting = [0; 8];
        from.read_exact(&mut greeting)?;
        to.write_all(&greeting)?;
        loop {
            // Type, channel, length; the body; a last byte.
            let mut head = [0; 7];
            from.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut rest = vec![0; length as usize + 1];
            from.read_exact(&mut rest)?;
            let ends_channel = head[0] == METHOD && rest.starts_with(&CHANNEL_CLOSE);
            if head[0] != HEARTBEAT && !ends_channel {
                self.0.lock().unwrap().push(Mono::now());
            }
            to.write_all(&[&head, &*rest].concat())?;
        }
    }
}

impl Calls for Frames {
    fn all(&self) -> BTreeMap<&'static str, Vec<Mono>> {
        BTreeMap::from([("frame", self.0.lock().unwrap().clone())])
    }
}

/// A broker with a worker that says how tasks ended in Celery's words.
#[derive(Debug)]
struct Worked(Arc<dyn Broker>);

/// Its source, and the jobs that it delivered.
#[derive(Debug)]
struct Said {
    source: Box<dyn Source>,
    jobs: Arc<Mutex<HashMap<Token, JobId>>>,
}

#[async_trait]
impl Broker for Worked {
    fn url(&self) -> &str {
        self.0.url()
    }
    fn queues(&self) -> &dyn Queues {
        self.0.queues()
    }
    fn abilities(&self) -> Abilities<'_> {
        self.0.abilities()
    }
    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        let jobs = Arc::<Mutex<HashMap<Token, JobId>>>::default();
        let delivered = Arc::clone(&jobs);
        let events = Events::new(move |event| {
            if let Event::Delivered { jobs, .. } = &event {
                let of = jobs
                    .iter()
                    .map(|delivery| (delivery.token, delivery.job.id.clone()));
                delivered.lock().unwrap().extend(of);
            }
            events.send(event);
        });
        let source = Arc::clone(&self.0).supply(events).await?;
        Ok(Box::new(Said { source, jobs }))
    }
    async fn close(&self) -> Result<(), BrokerError> {
        self.0.close().await
    }
}

impl Source for Said {
    fn demand(&mut self, demand: Demand) {
        self.source.demand(demand);
    }

    fn began(&mut self, begun: Vec<Begun>) {
        self.source.began(begun);
    }

    fn settle(&mut self, outcomes: Vec<Settlement>) {
        let jobs = self.jobs.lock().unwrap();
        let said = outcomes.into_iter().map(|settlement| {
            let job = jobs[&settlement.of].clone();
            said(&job, settlement)
        });
        let said = said.collect();
        drop(jobs);
        self.source.settle(said);
    }

    fn close(self: Box<Self>, within: Duration) -> BoxFuture<'static, usize> {
        self.source.close(within)
    }
}

fn said(job: &JobId, settlement: Settlement) -> Settlement {
    // Where Celery's own code failed nobody has said anything.
    if job.as_str().starts_with("celery:") {
        return settlement;
    }
    let verdict = match settlement.verdict {
        Verdict::Finish { result } => {
            let result: Value = serde_json::from_slice(&result).unwrap_or_default();
            let result = outcome(job, "SUCCESS", &result).into_bytes();
            Verdict::Finish { result }
        }
        Verdict::Bury {
            mut error,
            failures,
            losses,
        } => {
            let result =
                json!({"exc_type": error.kind, "exc_message": [error.message], "exc_module": "builtins"});
            error.broker = outcome(job, "FAILURE", &result);
            Verdict::Bury {
                error,
                failures,
                losses,
            }
        }
        other => other,
    };
    Settlement {
        verdict,
        ..settlement
    }
}
