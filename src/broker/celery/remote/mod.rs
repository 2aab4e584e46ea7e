//! Remote control: what `celery status`, `celery inspect`, `celery control` and Flower ask of a node, and its answers.
//!
//! A supervisor is one node. Nothing here speaks to a server: a transport hands over what came, and sends the answer.
//! Source: `kombu/pidbox.py`; `celery/worker/pidbox.py`, `control.py`.
//!
//! - `request`: a request as it comes, and who is meant by it; `reply`: an answer as it goes out;
//! - `inspect`, `control`: the commands; `about`: what the application says of itself; `task`: a task as it is shown;
//! - `revoked`, `stamps`: tasks that must not run; `task_options`, `queues`: what changes while it runs; `question`: what
//!   others are asked; `hello`: what nodes tell each other; `python`: texts as Python shows them.

mod about;
mod control;
mod hello;
mod inspect;
mod python;
mod question;
mod queues;
mod reply;
mod request;
mod revoked;
mod stamps;
mod task;
mod task_options;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde_json::{Value, json};

pub(super) use self::about::About;
pub(super) use self::control::{Change, Revocation, resize, resizes};
pub(super) use self::inspect::{Shown, View, looks, shows};
pub(super) use self::question::{PATIENCE, said};
pub(super) use self::queues::{QueueChange, shown as shown_queue};
pub(super) use self::request::{Heard, ReplyTo, Request};
use self::revoked::Revoked;
pub(super) use self::stamps::{StampRevocation, Stamps};
pub(super) use self::task::Task;
pub(super) use self::task_options::{TaskChange, TaskOption};
use super::clock::Clock;
use super::publish::{Content, Publication};
use super::state_file::{StateFacts, StateFile};
use crate::time::{Mono, Unix};

/// Kinds of unreadable requests that are remembered, so that each is logged once.
const COMPLAINTS_MAX: usize = 100;

/// This supervisor as others see it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its name: `celery@HOST`.
    name: String,
    clock: Arc<Clock>,
    /// A reload may change it.
    about: RwLock<Arc<About>>,
    revoked: Mutex<Revoked>,
    /// There was one: most nodes never hear of any.
    has_revoked: AtomicBool,
    /// Where it is remembered what was revoked, if it is.
    state: Mutex<Option<StateFile>>,
    stamps: Mutex<Stamps>,
    /// The same of these.
    has_stamps: AtomicBool,
    /// What was complained of.
    complaints: Mutex<HashSet<String>>,
}

/// What a command answers: its value; or what a stock worker says when it raised an exception.
pub(super) type Answer = Result<Value, String>;

impl Node {
    pub fn new(name: &str, clock: Arc<Clock>, about: About) -> Self {
        Node {
            name: name.to_owned(),
            clock,
            about: RwLock::new(Arc::new(about)),
            ..Node::default()
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn about(&self) -> Arc<About> {
        Arc::clone(&self.about.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The application was loaded anew.
    pub fn tells(&self, about: About) {
        *self.about.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(about);
    }

    /// What it tells of itself changes until the application is loaded anew.
    pub fn amend(&self, amend: impl FnOnce(&mut About)) {
        let mut about = self.about.write().unwrap_or_else(PoisonError::into_inner);
        amend(Arc::make_mut(&mut about));
    }

    pub fn clock(&self) -> i64 {
        self.clock.value()
    }

    fn revoked(&self) -> MutexGuard<'_, Revoked> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These tasks must not run.
    pub fn revoke(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        self.has_revoked.store(true, Ordering::Relaxed);
        self.revoked().add(ids.clone(), Mono::now());
        self.remember(&ids);
    }

    /// What was revoked before this start, as its file says; from now on the file says what is revoked.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn remember_in(&self, state: &StateFacts) -> std::io::Result<()> {
        let since = Unix(Unix::now().0 - i64::try_from(revoked::LIFE.as_millis()).unwrap_or(i64::MAX));
        let (file, known) = StateFile::open(Path::new(&state.file), since)?;
        self.clock.adjust(known.clock.max(state.clock));
        self.has_revoked.store(true, Ordering::Relaxed);
        self.revoked().add(known.revoked, Mono::now());
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        self.revoke(state.revoked.clone());
        Ok(())
    }

    fn remember(&self, ids: &[String]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &mut *state else { return };
        let all = || self.revoked().list(Mono::now());
        if let Err(error) = file.add(ids, self.clock.value(), all) {
            let path = file.path().display();
            tracing::error!(%error, %path, "what was revoked can't be remembered beyond this start");
        }
    }

    /// This task must not run.
    pub fn is_revoked(&self, id: &str) -> bool {
        self.has_revoked.load(Ordering::Relaxed) && self.revoked().contains(id, Mono::now())
    }

    /// Tasks with one of these stamps must not run.
    pub fn revoke_stamps(&self, stamps: &Stamps) {
        self.has_stamps.store(true, Ordering::Relaxed);
        self.stamps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(stamps);
    }

    /// This task must not run, for a stamp that it has. `payload`: what its worker gets.
    pub fn is_stamp_revoked(&self, payload: &[u8]) -> bool {
        self.has_stamps.load(Ordering::Relaxed)
            && !self
                .stamps
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .of_task(payload)
                .is_empty()
    }

    /// What a message asks of this node, if it means it.
    pub fn hear(&self, message: &[u8]) -> Option<Heard> {
        let heard = match Request::read(message, !self.about().refuses_json) {
            Ok(heard) => heard,
            Err(reason) => {
                self.complain(reason);
                return None;
            }
        };
        self.clock.forward(); // a message was received
        match heard {
            Heard::Plain(request) => {
                self.clock.adjust(request.clock);
                self.if_meant(request).map(Heard::Plain)
            }
            Heard::Encoded { content, clock } => {
                self.clock.adjust(clock);
                Some(Heard::Encoded { content, clock })
            }
        }
    }

    /// The same of a message that the application's code has read; its body as JSON.
    pub fn hear_decoded(&self, body: &Value, content: Content) -> Option<Request> {
        let read = Request::of_body(body.to_string().as_bytes());
        match read {
            Ok(request) => self.if_meant(Request { content, ..request }),
            Err(reason) => {
                self.complain(reason);
                None
            }
        }
    }

    fn if_meant(&self, request: Request) -> Option<Request> {
        match request.means(&self.name) {
            Ok(is_meant) => is_meant.then_some(request),
            Err(reason) => {
                self.complain(reason);
                None
            }
        }
    }

    /// Whether a command is the application's own, or about what only its code knows.
    pub fn is_for_application(&self, request: &Request) -> bool {
        self.about().commands.contains(&request.method) || inspect::wants_attributes(request)
    }

    /// Whether a worker is needed to carry out this request or to write the answer.
    pub fn needs_application(&self, request: &Request) -> bool {
        self.is_for_application(request) || request.reply_to.is_some() && !self.answers_in_json()
    }

    /// Whether who asks expects JSON. Source: `celery/app/control.py`, `Control`, `serializer`.
    pub fn answers_in_json(&self) -> bool {
        matches!(&*self.about().serializer, "" | "json")
    }

    /// The body of an answer.
    pub fn shown(&self, answer: Answer) -> Value {
        let answer = answer.unwrap_or_else(|exception| {
            tracing::warn!(%exception, "a remote control command was not carried out");
            json!({ "error": exception })
        });
        json!({ &*self.name: answer })
    }

    /// The answer to a request, if somebody waits for one.
    pub fn reply(&self, request: Request, answer: Answer) -> Option<Publication> {
        let body = self.shown(answer).to_string();
        self.reply_with(request, Content::json(body))
    }

    /// The same with an answer that is written already.
    pub fn reply_with(&self, request: Request, content: Content) -> Option<Publication> {
        let to = request.reply_to?;
        Some(reply::message(content, to, request.ticket, self.clock.forward()))
    }

    /// Answers what needs nobody else.
    pub fn answer(&self, request: &Request) -> Answer {
        match request.method.as_str() {
            "ping" => return Ok(json!({"ok": "pong"})),
            "hello" => {
                let from = request.texts("from_node")?;
                // Its own question comes back to it, too.
                if from.contains(&self.name) {
                    return Ok(Value::Null);
                }
                self.revoke(hello::revoked_of(&request.arguments["revoked"]));
                let all = self.revoked().list(Mono::now());
                return Ok(json!({"revoked": all, "clock": self.clock.forward()}));
            }
            "revoked" | "dump_revoked" => return Ok(json!(self.revoked().list(Mono::now()))),
            "clock" => return Ok(json!({"clock": self.clock()})),
            _ => {}
        }
        let answer = inspect::of_application(request, &self.about());
        let unknown = || Err(format!("KeyError({})", python::quoted(&request.method)));
        answer.unwrap_or_else(unknown)
    }

    /// A request that can't be read is logged; once for each reason, for anybody may send such without end.
    fn complain(&self, reason: String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() < COMPLAINTS_MAX && complaints.insert(reason.clone()) {
            tracing::warn!(%reason, "a remote control request is ignored, and further ones like it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(node: &Node, body: &Value) -> Option<Value> {
        let Heard::Plain(request) = node.hear(&request::tests::message(body))? else {
            panic!("{body} is plain JSON")
        };
        let answer = node.answer(&request);
        let reply = node.reply(request, answer)?;
        assert_eq!(reply.headers["ticket"], body["ticket"]);
        Some(serde_json::from_slice(&reply.content.body).unwrap())
    }

    #[test]
    fn a_node_answers_who_waits_for_it() {
        let node = Node::new("w@host", Arc::default(), About::default());
        let mut asked = json!({"method": "ping", "arguments": {}, "destination": null, "ticket": "t",
            "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "k"}});
        assert_eq!(ask(&node, &asked), Some(json!({"w@host": {"ok": "pong"}})));
        for (destination, is_answered) in [
            (json!([]), true),
            (json!(["a@b", "w@host"]), true),
            (json!(["a@b"]), false),
        ] {
            asked["destination"] = destination;
            assert_eq!(ask(&node, &asked).is_some(), is_answered, "{asked}");
        }
        asked["destination"] = Value::Null;
        asked["method"] = json!("it's");
        let unknown = json!({"w@host": {"error": "KeyError(\"it's\")"}});
        assert_eq!(ask(&node, &asked), Some(unknown));
        asked["reply_to"] = Value::Null;
        assert_eq!(ask(&node, &asked), None);
    }

    #[test]
    fn what_can_not_be_read_is_logged_once() {
        let node = Node::new("w@host", Arc::default(), About::default());
        for _ in 0..3 {
            assert!(node.hear(b"no message").is_none());
            assert!(node.hear(b"{}").is_none());
        }
        assert_eq!(node.complaints.lock().unwrap().len(), 2);
    }
}
