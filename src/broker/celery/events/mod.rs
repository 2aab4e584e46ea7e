//! Events: what those are told who watch the nodes and their tasks, such as Flower and `celery events`.
//!
//! - `task`: what is told of a task, and when; `buffer`: events that wait to be sent;
//! - this file: the words that all events have, heartbeats, sending.
//!
//! Source: `celery/events/dispatcher.py`, `celery/worker/heartbeat.py`.

mod buffer;
pub(super) mod task;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::buffer::Buffer;
use super::clock::Clock;
use super::publish::{Content, ExchangeType, Publication, Publish};
use crate::sys;
use crate::time::{Mono, Unix};

/// Wait before the broker gets events again after it took none; grows up to the longest.
const PATIENCE: Duration = Duration::from_millis(250);
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// How often a heartbeat says that it comes when somebody asked for it. Source: `celery/worker/control.py`, `heartbeat`.
const ASKED_FREQUENCY: u32 = 5;

/// Something that is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// `task-succeeded` …
    pub kind: Cow<'static, str>,
    /// When it happened; `None`: now.
    pub at: Option<Unix>,
    pub fields: Map<String, Value>,
}

impl Event {
    fn new(kind: &'static str, fields: Value) -> Self {
        let Value::Object(fields) = fields else {
            unreachable!("the fields of {kind} are no object");
        };
        Event {
            kind: kind.into(),
            at: None,
            fields,
        }
    }
}

/// What the application says of events.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// Where they go.
    pub exchange: String,
    /// Events of tasks are sent from the start on.
    pub tells_tasks: bool,
    /// Time between heartbeats; `None`: a node says nothing of itself.
    pub heartbeat: Option<Duration>,
    /// The version of Celery.
    pub version: String,
}

/// Work of the node at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Tasks that run.
    pub active: usize,
    /// Tasks that have begun since the node began.
    pub processed: u64,
}

/// Sends events of one node.
#[derive(Debug)]
pub(super) struct Events {
    settings: Settings,
    node: String,
    clock: Arc<Clock>,
    tells_tasks: AtomicBool,
    waiting: Buffer,
    /// Somebody was told that this node is there.
    is_online: AtomicBool,
}

impl Events {
    pub fn new(node: &str, clock: Arc<Clock>, settings: Settings) -> Self {
        Events {
            node: node.to_owned(),
            clock,
            tells_tasks: AtomicBool::new(settings.tells_tasks),
            settings,
            waiting: Buffer::default(),
            is_online: AtomicBool::new(false),
        }
    }

    /// Whether events of tasks are wanted: if not, nothing is made of them.
    pub fn tells_tasks(&self) -> bool {
        self.tells_tasks.load(Ordering::Relaxed)
    }

    /// Events of tasks are wanted from now on, or not. Returns whether that is news.
    pub fn tell_tasks(&self, are_wanted: bool) -> bool {
        self.tells_tasks.swap(are_wanted, Ordering::Relaxed) != are_wanted
    }

    /// These happened, in this order.
    pub fn add(&self, events: Vec<Event>) {
        if !events.is_empty() {
            self.waiting
                .add(events.into_iter().map(|event| self.encoded(event)));
        }
    }

    /// Sends what happens, and heartbeats with the load that `load` tells; never ends.
    pub async fn run<F: Future<Output = Load>>(&self, publish: &dyn Publish, load: impl Fn() -> F) {
        if self.settings.heartbeat.is_some() {
            self.tell_node("worker-online", publish, load().await).await;
            self.is_online.store(true, Ordering::Relaxed);
        }
        let mut next = self.settings.heartbeat.map(|every| Mono::now() + every);
        loop {
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep(at.since(Mono::now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.waiting.came() => self.send_waiting(publish).await,
                () = due => {
                    self.tell_node("worker-heartbeat", publish, load().await).await;
                    next = self.settings.heartbeat.map(|every| Mono::now() + every);
                }
            }
        }
    }

    /// A heartbeat out of turn, as somebody asked for it. It says nothing of the load.
    pub async fn heartbeat(&self, publish: &dyn Publish) {
        let fields = json!({"freq": ASKED_FREQUENCY});
        self.send(
            Event::new("worker-heartbeat", self.with_software(fields)),
            publish,
        )
        .await;
    }

    /// Sends what waits, and says that this node leaves. Tries once: nobody waits for it.
    pub async fn leave(&self, publish: &dyn Publish, load: Load) {
        while let Some((body, count)) = self.waiting.next() {
            let sent = publish.publish(&self.publication("task.multi", body)).await;
            if sent.is_err() {
                return;
            }
            self.waiting.sent(count);
        }
        if self.is_online.swap(false, Ordering::Relaxed) {
            self.tell_node("worker-offline", publish, load).await;
        }
    }

    /// Sends all that waits. While the broker is away it is tried again.
    async fn send_waiting(&self, publish: &dyn Publish) {
        let mut patience = PATIENCE;
        while let Some((body, count)) = self.waiting.next() {
            match publish.publish(&self.publication("task.multi", body)).await {
                Ok(()) => {
                    self.waiting.sent(count);
                    patience = PATIENCE;
                }
                Err(error) => {
                    tracing::debug!(%error, "events can't be sent now");
                    tokio::time::sleep(patience).await;
                    patience = (patience * 2).min(PATIENCE_MAX);
                }
            }
        }
    }

    /// Says how this node is. One that can't be said now is not said later: it would be old.
    async fn tell_node(&self, kind: &'static str, publish: &dyn Publish, load: Load) {
        let every = self.settings.heartbeat.unwrap_or_default();
        let fields = json!({
            "freq": every.as_secs_f64(),
            "active": load.active,
            "processed": load.processed,
            "loadavg": load_average(),
        });
        self.send(Event::new(kind, self.with_software(fields)), publish)
            .await;
    }

    async fn send(&self, event: Event, publish: &dyn Publish) {
        let routing_key = event.kind.replace('-', ".");
        let message = self.publication(&routing_key, self.encoded(event));
        if let Err(error) = publish.publish(&message).await {
            tracing::debug!(%error, "an event of this node can't be sent now");
        }
    }

    fn with_software(&self, mut fields: Value) -> Value {
        // Monitors look for Celery's own name.
        fields["sw_ident"] = json!("py-celery");
        fields["sw_ver"] = json!(self.settings.version);
        fields["sw_sys"] = json!("Linux");
        fields
    }

    fn publication(&self, routing_key: &str, body: String) -> Publication {
        Publication {
            exchange: self.settings.exchange.clone(),
            exchange_type: ExchangeType::Topic,
            routing_key: routing_key.to_owned(),
            headers: Map::from_iter([("hostname".to_owned(), json!(self.node))]),
            content: Content::json(body),
            is_persistent: false,
        }
    }

    /// An event with the words that all have.
    fn encoded(&self, event: Event) -> String {
        let Event { kind, at, mut fields } = event;
        let at = at.unwrap_or_else(Unix::now);
        for (name, value) in [
            ("hostname", json!(self.node)),
            ("utcoffset", json!(sys::local_time::hours_west_of_utc(at))),
            ("pid", json!(std::process::id())),
            ("clock", json!(self.clock.forward())),
            ("timestamp", json!(at.0 as f64 / 1000.0)),
            ("type", json!(kind)),
        ] {
            fields.insert(name.to_owned(), value);
        }
        Value::Object(fields).to_string()
    }
}

/// Processes that wanted to run in the last minute, 5 and 15 minutes; with two digits.
/// Source: `celery/utils/sysinfo.py`, `load_average`.
fn load_average() -> [f64; 3] {
    let load = sysinfo::System::load_average().unwrap_or_default();
    [load.one, load.five, load.fifteen].map(|load| (load * 100.0).ceil() / 100.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::sync::Notify;

    use super::*;
    use crate::broker::BrokerError;

    /// Keeps what is sent, and refuses so many before.
    #[derive(Default)]
    struct Kept {
        sent: Mutex<Vec<Publication>>,
        refuses: Mutex<u32>,
        came: Notify,
    }

    #[async_trait]
    impl Publish for Kept {
        async fn publish(&self, message: &Publication) -> Result<(), BrokerError> {
            let mut refuses = self.refuses.lock().unwrap();
            if *refuses > 0 {
                *refuses -= 1;
                return Err(BrokerError::Refused("not yet".into()));
            }
            self.sent.lock().unwrap().push(message.clone());
            self.came.notify_one();
            Ok(())
        }
    }

    impl Kept {
        /// The bodies by routing key, once there are so many.
        async fn bodies(&self, count: usize) -> Vec<(String, Value)> {
            while self.sent.lock().unwrap().len() < count {
                self.came.notified().await;
            }
            let sent = self.sent.lock().unwrap();
            let read = |sent: &Publication| {
                (
                    sent.routing_key.clone(),
                    serde_json::from_slice(&sent.content.body).unwrap(),
                )
            };
            sent.iter().map(read).collect()
        }
    }

    fn events(heartbeat: Option<Duration>) -> Events {
        let settings = Settings {
            exchange: "celeryev".into(),
            tells_tasks: true,
            heartbeat,
            version: "5.7.0".into(),
        };
        Events::new("w@host", Arc::default(), settings)
    }

    async fn load() -> Load {
        Load {
            active: 1,
            processed: 7,
        }
    }

    #[tokio::test]
    async fn a_node_tells_of_itself_in_a_stock_worker_s_words() {
        let (events, kept) = (events(Some(Duration::from_millis(20))), Kept::default());
        let sent = tokio::select! {
            () = events.run(&kept, load) => unreachable!(),
            sent = kept.bodies(3) => sent,
        };
        let kinds: Vec<&str> = sent.iter().map(|(key, _)| &**key).collect();
        assert_eq!(kinds, ["worker.online", "worker.heartbeat", "worker.heartbeat"]);
        let mut body = sent[0].1.clone();
        let words = body.as_object_mut().unwrap();
        assert!(words.remove("timestamp").unwrap().as_f64() > Some(1e9));
        assert_eq!(words.remove("loadavg").unwrap().as_array().unwrap().len(), 3);
        assert!(words.remove("utcoffset").unwrap().is_f64());
        assert_eq!(
            body,
            json!({"type": "worker-online", "hostname": "w@host", "pid": std::process::id(), "clock": 1, "freq": 0.02,
                "active": 1, "processed": 7, "sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"})
        );
        events.leave(&kept, load().await).await;
        assert_eq!(kept.bodies(4).await[3].0, "worker.offline");
        let header = kept.sent.lock().unwrap()[0].headers.clone();
        assert_eq!(Value::from(header), json!({"hostname": "w@host"}));
    }

    #[tokio::test]
    async fn events_of_tasks_wait_until_the_broker_takes_them() {
        let (events, kept) = (events(None), Kept::default());
        *kept.refuses.lock().unwrap() = 2;
        events.add(vec![task::started("a", Unix(1500)), task::rejected("b", true)]);
        let sent = tokio::select! {
            () = events.run(&kept, load) => unreachable!(),
            sent = kept.bodies(1) => sent,
        };
        assert_eq!(sent[0].0, "task.multi");
        let list = sent[0].1.as_array().unwrap();
        assert_eq!(
            (&list[0]["uuid"], &list[0]["timestamp"]),
            (&json!("a"), &json!(1.5))
        );
        assert_eq!(
            (&list[1]["type"], &list[1]["clock"]),
            (&json!("task-rejected"), &json!(2))
        );
        events.leave(&kept, load().await).await;
        assert_eq!(
            kept.sent.lock().unwrap().len(),
            1,
            "a node that said nothing of itself says no farewell"
        );
    }

    #[test]
    fn whether_tasks_are_told_changes_while_it_runs() {
        let events = events(None);
        assert!(!events.tell_tasks(true) && events.tell_tasks(false) && !events.tells_tasks());
    }
}
