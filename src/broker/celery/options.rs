//! What the broker of Celery's tasks is told: plain values, made of what the loaded application says of itself.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::address;
use super::amqp::options::AmqpTransport;
use super::events;
use super::facts::{Facts, QueueFacts, ResultFacts, TaskFacts, millis};
use super::limits::{Rate, rate};
use super::redis::options::RedisTransport;
use super::remote::About;
use super::state_file::StateFacts;
use crate::broker::BrokerError;
use crate::broker::redis::options as redis;
use crate::job::QueueName;

/// How Celery's tasks are taken and settled.
#[derive(Clone, PartialEq)]
pub struct Options {
    /// What the application says of itself, as its template told it: JSON, with passwords.
    pub facts: String,
    /// How long our claims outlive us before another process of ours gives them back.
    pub lease: Duration,
    /// How often the lease is renewed while something is held.
    pub heartbeat: Duration,
    /// Largest arguments of a job that is enqueued here, in bytes.
    pub payload_len_max: usize,
}

impl Options {
    /// These, once it is clear that a broker can be opened by them.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] where the application says what can't be read, or asks for what is not possible here.
    pub fn new(
        facts: &str,
        lease: Duration,
        heartbeat: Duration,
        payload_len_max: usize,
    ) -> Result<Self, BrokerError> {
        Application::read(facts)?;
        Ok(Options {
            facts: facts.to_owned(),
            lease,
            heartbeat,
            payload_len_max,
        })
    }
}

/// Not derived: it would show passwords.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { lease, heartbeat, .. } = self;
        write!(
            f,
            "Options {{ facts: ***, lease: {lease:?}, heartbeat: {heartbeat:?} }}"
        )
    }
}

/// What the application says of its broker and its tasks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Application {
    /// The server that holds the queues, and the habits of what brings messages from there.
    pub transport: Transport,
    /// The queues that the application consumes.
    pub queues: Vec<Queue>,
    /// Where its tasks go of which it says nothing else.
    pub default_queue: Option<QueueName>,
    /// Where results are; `None`: they are the application's own affair.
    pub results: Option<Results>,
    /// What the application says of its tasks, by name.
    pub tasks: HashMap<String, Task>,
    /// What others call us, and where they ask us.
    pub node: Node,
    /// Who is told what.
    pub events: events::Settings,
    /// What it says of itself to those who ask.
    pub about: About,
    /// What it remembers from one start to the next; `None`: nothing.
    pub state: Option<StateFacts>,
    /// Tasks with an ETA that are held at most. Source: `worker_eta_task_limit`.
    pub etas_max: Option<usize>,
}

/// What remote control knows us by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// `celery@HOST`.
    pub name: String,
    /// Others are asked at the start what was revoked.
    pub mingles: bool,
    /// `pool_restart` does what it says.
    pub restarts_pools: bool,
    /// The exchange by which requests come; `None`: nobody may ask.
    pub exchange: Option<String>,
}

/// What brings messages, as the application's broker URL says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Transport {
    /// Lists of a Redis server.
    Redis(Box<RedisTransport>),
    /// Queues of a RabbitMQ server.
    Amqp(Box<AmqpTransport>),
}

/// A queue that is consumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    /// Its name.
    pub name: String,
    /// Its name at the server.
    pub at_server: String,
    /// The exchange that it is bound to; empty: none.
    pub exchange: String,
    /// `direct`, `topic` or `fanout`.
    pub exchange_type: String,
    /// The key by which it is bound.
    pub routing_key: String,
    /// It vanishes when nobody uses it for so long.
    pub expires: Option<Duration>,
}

/// Where results are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Results {
    /// The server.
    pub redis: redis::Options,
    /// What keys of results begin with: `celery-task-meta-`, and a prefix before.
    pub prefix: String,
    /// Where we may store results; `None`: workers store them.
    pub stored_by_us: Option<StoredIn>,
    /// How long they are kept, in seconds, and how long failures are; `None`: for good.
    pub expires: Option<u64>,
    pub failure_expires: Option<u64>,
}

/// Where we store results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredIn {
    /// In this database of the server that holds the queues: a settlement stores and acknowledges in one step.
    Broker(i64),
    /// On another server: first there, then the message is acknowledged.
    Other,
}

/// What the application says of a task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Task {
    /// It is acknowledged when it has ended, not when it begins.
    pub acks_late: bool,
    /// It runs again if its worker dies.
    pub reject_on_worker_lost: bool,
    /// Its worker is killed after so long.
    pub time_limit: Option<Duration>,
    /// Its final result may be stored by us.
    pub captured: bool,
    /// Monitors are told of it.
    pub sends_events: bool,
    /// How many may begin in a second.
    pub rate: Rate,
    /// Its own hard and soft limit, in seconds, where somebody changed them since the application was loaded.
    pub changed_limits: Option<[Option<f64>; 2]>,
    /// Several of its messages make one call.
    pub batches: bool,
    /// Where its messages go, if not to the queue of all.
    pub queue: Option<QueueName>,
}

impl Application {
    /// Reads what it says, a JSON object.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] where it says what can't be read, or asks for what is not possible here.
    pub fn read(facts: &str) -> Result<Self, BrokerError> {
        let facts = Facts::read(facts).map_err(BrokerError::Refused)?;
        let refused = |why| BrokerError::Refused(format!("the application's broker can't be used: {why}"));
        let transport = if facts.broker.is_redis() {
            RedisTransport::read(&facts.broker).map(|redis| Transport::Redis(Box::new(redis)))
        } else if facts.broker.is_amqp() {
            AmqpTransport::read(&facts).map(|amqp| Transport::Amqp(Box::new(amqp)))
        } else {
            let transport = &facts.broker.transport;
            Err(format!(
                "its transport is `{transport}`, neither Redis nor RabbitMQ"
            ))
        };
        let transport = transport.map_err(refused)?;
        let results = facts
            .results
            .as_ref()
            .and_then(|results| results_of(results, &transport));
        let captures = results
            .as_ref()
            .is_some_and(|results| results.stored_by_us.is_some());
        let is_limited = !facts.settings.disable_rate_limits.unwrap_or(false);
        let task = |(name, task): (String, TaskFacts)| {
            let rate = is_limited.then(|| rate_of(&name, &task)).flatten();
            let task = Task {
                rate,
                ..task_of(&task, captures)
            };
            (name, task)
        };
        let node = node(&facts);
        Ok(Application {
            node: node.clone(),
            transport,
            events: events_of(&facts),
            about: facts.about.unwrap_or_default(),
            state: facts.state,
            queues: facts
                .queues
                .into_iter()
                .map(|facts| queue(facts, &node.name))
                .collect(),
            tasks: facts.tasks.into_iter().map(task).collect(),
            etas_max: facts.settings.eta_task_limit.filter(|limit| *limit > 0),
            default_queue: facts
                .settings
                .task_default_queue
                .as_deref()
                .and_then(|name| QueueName::new(name).ok()),
            results,
        })
    }
}

impl Application {
    /// Queues of which each node gets each message.
    pub fn broadcasts(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().filter(|queue| queue.is_broadcast())
    }
}

impl Queue {
    /// Each node gets each of its messages.
    pub fn is_broadcast(&self) -> bool {
        self.exchange_type == "fanout"
    }
}

/// What a reload can't change, in words.
pub(super) const RESULTS: &str = "the result backend";

impl Application {
    /// What is otherwise in `other`; its tasks and what it says of itself apart, which a reload puts in force.
    pub fn changed(&self, other: &Application) -> Vec<&'static str> {
        let is_elsewhere = match (&self.transport, &other.transport) {
            (Transport::Redis(one), Transport::Redis(other)) => one.server != other.server,
            (Transport::Amqp(one), Transport::Amqp(other)) => one.server != other.server,
            _ => true,
        };
        let is_other = !is_elsewhere && self.transport != other.transport;
        let parts = [
            ("the broker's URL", is_elsewhere),
            ("the transport options", is_other),
            ("the queues", self.queues != other.queues),
            (RESULTS, self.results != other.results),
            ("the name of the node, or remote control", self.node != other.node),
            ("the settings of events", self.events != other.events),
            ("the limit of tasks with an ETA", self.etas_max != other.etas_max),
        ];
        let changed = parts.into_iter().filter(|(_, is_other)| *is_other);
        changed.map(|(name, _)| name).collect()
    }
}

/// Source: `celery/app/control.py`, `Control`.
fn node(facts: &Facts) -> Node {
    let exchange = facts.settings.control_exchange.as_deref().unwrap_or("celery");
    let is_on = facts.settings.enable_remote_control.unwrap_or(true);
    Node {
        name: facts
            .node
            .clone()
            .unwrap_or_else(|| "celery@localhost".to_owned()),
        mingles: facts.settings.mingle.unwrap_or(true),
        restarts_pools: facts.pool_restarts,
        exchange: is_on.then(|| format!("{exchange}.pidbox")),
    }
}

fn events_of(facts: &Facts) -> events::Settings {
    let settings = &facts.settings;
    events::Settings {
        exchange: settings
            .event_exchange
            .clone()
            .unwrap_or_else(|| "celeryev".to_owned()),
        tells_tasks: settings.send_task_events.unwrap_or(false),
        heartbeat: settings.heartbeat_interval.and_then(limit),
        version: facts.celery.clone(),
    }
}

fn queue(facts: QueueFacts, node: &str) -> Queue {
    Queue {
        at_server: facts.at_server(node),
        name: facts.known_as().to_owned(),
        routing_key: facts.routing_key.unwrap_or_default(),
        exchange: facts.exchange.unwrap_or_default(),
        exchange_type: facts.exchange_type.unwrap_or_else(|| "direct".to_owned()),
        expires: facts
            .arguments
            .as_ref()
            .and_then(|arguments| millis(arguments.get("x-expires")?))
            .or_else(|| facts.expires.and_then(limit)),
    }
}

/// Where results are, if they are on Redis. What can't be used here, the application's own code uses.
fn results_of(facts: &ResultFacts, broker: &Transport) -> Option<Results> {
    let url = facts.url.as_ref().filter(|_| facts.is_redis())?;
    let redis = match address::read(std::slice::from_ref(url), &facts.options, facts.ssl.as_ref()) {
        Ok(redis) => redis,
        Err(why) => {
            tracing::warn!(%why, "results can't be read or stored from here; workers store them");
            return None;
        }
    };
    let is_here = match broker {
        Transport::Redis(broker) => address::is_same_server(&redis, &broker.server),
        Transport::Amqp(_) => false,
    };
    let stored_by_us = facts.capture.then(|| match is_here {
        true => StoredIn::Broker(address::database(&redis)),
        false => StoredIn::Other,
    });
    Some(Results {
        redis,
        prefix: facts
            .prefix
            .clone()
            .unwrap_or_else(|| "celery-task-meta-".to_owned()),
        stored_by_us,
        expires: facts.expires.map(|seconds| seconds.max(0.0) as u64),
        failure_expires: facts
            .failure_expires
            .or(facts.expires)
            .map(|seconds| seconds.max(0.0) as u64),
    })
}

fn task_of(facts: &TaskFacts, captures: bool) -> Task {
    Task {
        acks_late: facts.acks_late,
        reject_on_worker_lost: facts.reject_on_worker_lost,
        time_limit: facts.time_limit.and_then(limit),
        captured: facts.capture && captures,
        sends_events: facts.send_events.unwrap_or(true),
        rate: None,
        changed_limits: None,
        batches: facts.batches.is_some(),
        queue: facts.queue.as_deref().and_then(|name| QueueName::new(name).ok()),
    }
}

/// One that can't be read ends a stock worker.
fn rate_of(name: &str, facts: &TaskFacts) -> Rate {
    let text = facts.rate_limit.as_deref().unwrap_or_default();
    rate(text).unwrap_or_else(|_| {
        tracing::error!(
            task = name,
            limit = text,
            "the rate limit of this task is none, and is not kept"
        );
        None
    })
}

/// A time limit in seconds; none where nothing is asked for, or what no clock can tell.
pub(super) fn limit(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|limit| !limit.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::celery::redis::options::QueueStrategy;

    const FACTS: &str = r#"{
        "celery": "5.7.0", "node": "celery@host", "surplus": [1],
        "broker": {"transport": "redis", "urls": ["redis://:pw@localhost:6390/2"], "ssl": null,
                   "options": {"visibility_timeout": 30, "global_keyprefix": "app:", "priority_steps": [0, 5],
                               "queue_order_strategy": "sorted"}},
        "queues": [{"name": "mail", "exchange": "mail", "exchange_type": "topic", "routing_key": "mail.#",
                    "arguments": {"x-expires": 60000}}],
        "results": {"class": "celery.backends.redis.RedisBackend", "url": "redis://:pw@localhost:6390/3",
                    "prefix": "r_celery-task-meta-", "expires": 86400, "capture": true},
        "settings": {"eta_task_limit": 7, "accept_content": ["json"]},
        "tasks": {"proj.add": {"acks_late": true, "time_limit": 2.5, "capture": true, "batches": null},
                  "proj.mail": {"acks_late": null, "reject_on_worker_lost": true, "batches": {"flush_every": 10, "flush_interval": 30}}}}"#;

    fn application(facts: &str) -> Result<Application, BrokerError> {
        Application::read(facts)
    }

    fn over_redis(application: &Application) -> &RedisTransport {
        match &application.transport {
            Transport::Redis(redis) => redis,
            Transport::Amqp(amqp) => panic!("{amqp:?}"),
        }
    }

    #[test]
    fn facts_become_plain_values() {
        let application = application(FACTS).unwrap();
        let redis = over_redis(&application);
        assert_eq!(redis.steps, [0, 5]);
        assert_eq!(redis.order, QueueStrategy::Sorted);
        assert_eq!(redis.visibility, Duration::from_secs(30));
        assert_eq!(redis.unacked, "unacked");
        assert_eq!(application.queues[0].expires, Some(Duration::from_secs(60)));
        let results = application.results.as_ref().unwrap();
        assert_eq!(
            (results.stored_by_us, &*results.prefix),
            (Some(StoredIn::Broker(3)), "r_celery-task-meta-")
        );
        let add = &application.tasks["proj.add"];
        assert!(add.acks_late && add.captured && !add.batches);
        assert_eq!(add.time_limit, Some(Duration::from_millis(2500)));
        assert!(application.tasks["proj.mail"].batches && !application.tasks["proj.mail"].captured);
        assert_eq!(application.etas_max, Some(7));
        assert_eq!(redis.server.shown, "redis://localhost:6390/2");
    }

    #[test]
    fn a_node_is_asked_on_the_channel_that_kombu_makes() {
        let channel = |options: &str, settings: &str| {
            let facts = FACTS.replace("\"global_keyprefix\": \"app:\",", options);
            let facts = facts.replace("\"eta_task_limit\": 7,", settings);
            let application = application(&facts).unwrap();
            let redis = over_redis(&application);
            let exchange = application.node.exchange.as_ref();
            exchange.map(|exchange| redis.channel(exchange))
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(channel("", ""), named("/2.celery.pidbox"));
        let prefixes = "\"global_keyprefix\": \"app:\", \"fanout_prefix\": \"x{db}.\",";
        let exchange = "\"control_exchange\": \"mine\",";
        assert_eq!(channel(prefixes, exchange), named("app:x2.mine.pidbox"));
        assert_eq!(channel("\"fanout_prefix\": false,", ""), named("celery.pidbox"));
        assert_eq!(channel("", "\"enable_remote_control\": false,"), None);
        assert_eq!(application(FACTS).unwrap().node.name, "celery@host");
    }

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let app = application(FACTS).unwrap();
        let other = FACTS
            .replace("\"x-expires\": 60000", "\"x-expires\": 70000")
            .replace(":6390/3", ":6390/4");
        let changed = app.changed(&application(&other).unwrap());
        assert_eq!(changed, ["the queues", RESULTS]);
        let tasks = FACTS.replace("2.5", "3.5");
        assert!(app.changed(&application(&tasks).unwrap()).is_empty());
    }

    #[test]
    fn results_on_another_server_are_stored_before_messages_are_acknowledged() {
        for elsewhere in ["redis://:pw@localhost:6391/3", "redis://other:6390/3"] {
            let facts = FACTS.replace("redis://:pw@localhost:6390/3", elsewhere);
            let application = application(&facts).unwrap();
            let stored = application.results.unwrap().stored_by_us;
            assert_eq!(stored, Some(StoredIn::Other), "{elsewhere}");
            assert!(application.tasks["proj.add"].captured);
        }
        let rpc = FACTS.replace(
            "celery.backends.redis.RedisBackend",
            "celery.backends.rpc.RPCBackend",
        );
        assert_eq!(application(&rpc).unwrap().results, None);
    }

    #[test]
    fn what_is_not_possible_is_refused_with_its_place() {
        for (part, instead, named) in [
            ("\"redis\"", "\"sqs\"", "`sqs`"),
            ("\"sorted\"", "\"app:Cycle\"", "`app:Cycle`"),
            (": 30,", ": -1,", "visibility_timeout is -1"),
            ("\"name\": \"mail\"", "\"name\": 5", "`queues[0].name`"),
            ("localhost:6390/2", "localhost:6390/two", "`two`"),
        ] {
            assert!(FACTS.contains(part), "{part}");
            let error = application(&FACTS.replacen(part, instead, 1))
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("pw"), "{error}");
        }
        assert!(application("{").is_err());
    }
}
