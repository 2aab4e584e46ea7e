//! What remote control asks of a node, carried out: whichever transport brings the requests.
//!
//! - this file: requests come, answers and events go; `supervisor`: what we ask of our own;
//! - `look`: tasks in hand and their figures; `revoke`: tasks that must not run; `change`: limits, options, queues;
//!   `mingle`: other nodes; `application`: what the application's own code does.

mod application;
mod change;
mod look;
mod mingle;
mod revoke;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::task::{AbortHandle, JoinSet};

use self::supervisor::Supervisor;
use super::consumer::Consumer;
use super::envelope::Message;
use super::options::Queue;
use super::publish::{Publication, Publish};
use super::remote::{Answer, Heard, ReplyTo, Request, Revocation, StampRevocation, looks, resizes};
use crate::broker::{Ask, BrokerError, Orders, Presence, WorkerView};

/// Requests that wait for a worker; more are not heard.
const WAITING_MAX: usize = 100;
/// Why queues are not changed.
const QUEUES_STAY: &str = "the queues of a worker can't be changed here while it runs";

/// Where requests come from. Answers go by the same connection as all that we send by ourselves.
#[async_trait]
pub(super) trait Mailbox: Publish {
    /// The next request, as kombu writes messages into lists.
    async fn next(&self) -> Vec<u8>;

    /// A queue is to be served from now on: what binds it to its exchange is declared. The error: queues can't change while
    /// this transport runs.
    async fn declare_queue(&self, _queue: &Queue) -> Result<(), BrokerError> {
        Err(BrokerError::Refused(QUEUES_STAY.to_owned()))
    }

    /// Whether queues may change while it runs.
    fn changes_queues(&self) -> bool {
        false
    }

    /// The messages that wait for their time under these numbers, as far as they are there still.
    async fn waiting(&self, numbers: &[i64]) -> Result<Vec<Message>, BrokerError>;
}

/// Puts questions to other nodes.
#[async_trait]
pub(super) trait Question: Send + Sync {
    /// Sends a question to all nodes, and returns the answers that came within this time, as kombu writes messages into
    /// lists. Whoever knows how many were asked waits for no more than those.
    async fn ask(
        &self,
        question: &Publication,
        reply_to: &ReplyTo,
        within: Duration,
    ) -> Result<Vec<Vec<u8>>, BrokerError>;
}

/// Hears requests and tells events as long as it lives.
#[derive(Debug)]
pub(super) struct Hearing(Vec<AbortHandle>);

impl Hearing {
    /// Begins to. `orders`: who carries out what is asked.
    pub fn begin(consumer: &Arc<Consumer>, mailbox: &Arc<dyn Mailbox>, orders: Orders) -> Self {
        let supervisor = Supervisor::new(orders);
        let (teller, sends, asks) = (Arc::clone(consumer), Arc::clone(mailbox), supervisor.clone());
        let tells = async move { teller.events.run(&*sends, || teller.load(&asks)).await };
        let mut tasks = vec![tokio::spawn(tells).abort_handle()];
        if consumer.app.node.exchange.is_some() {
            let (consumer, mailbox) = (Arc::clone(consumer), Arc::clone(mailbox));
            let hears = async move { consumer.hear(&mailbox, &supervisor).await };
            tasks.push(tokio::spawn(hears).abort_handle());
        }
        Hearing(tasks)
    }
}

impl Presence for Hearing {
    fn every(&self) -> Option<Duration> {
        None // it asks by itself
    }

    fn show(&mut self, _workers: Vec<WorkerView>) {}
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Consumer {
    /// Requests one after the other. Those for which a worker is needed hold up no others.
    async fn hear(self: &Arc<Self>, mailbox: &Arc<dyn Mailbox>, supervisor: &Supervisor) {
        let mut waiting = JoinSet::new();
        loop {
            let message = mailbox.next().await;
            while waiting.try_join_next().is_some() {}
            let heard = match self.node.hear(&message) {
                None => continue,
                Some(Heard::Plain(request)) if !self.node.needs_application(&request) => {
                    self.respond(request, &**mailbox, supervisor).await;
                    continue;
                }
                Some(heard) => heard,
            };
            if waiting.len() == WAITING_MAX {
                tracing::warn!("a remote control request is dropped: {WAITING_MAX} others wait for a worker");
                continue;
            }
            let consumer = Arc::clone(self);
            waiting.spawn(consumer.respond_by_application(heard, Arc::clone(mailbox), supervisor.clone()));
        }
    }

    /// Carries out a request, and answers who waits for it.
    async fn respond(&self, request: Request, mailbox: &dyn Mailbox, supervisor: &Supervisor) {
        tracing::debug!(method = request.method, "remote control");
        let Some(answer) = self.carry_out_request(&request, mailbox, supervisor).await else {
            return;
        };
        let reply = if request.reply_to.is_none() || self.node.answers_in_json() {
            self.node.reply(request, answer)
        } else {
            match self.encoded(answer, supervisor).await {
                Ok(content) => self.node.reply_with(request, content),
                Err(reason) => {
                    tracing::warn!(%reason, "a remote control request can't be answered");
                    return;
                }
            }
        };
        self.send_reply(reply, mailbox).await;
    }

    async fn send_reply(&self, reply: Option<Publication>, mailbox: &dyn Mailbox) {
        let Some(reply) = reply else { return };
        if let Err(error) = mailbox.publish(&reply).await {
            tracing::warn!(%error, "the answer to a remote control request can't be sent");
        }
    }

    /// Does what is asked; `None`: a stock worker gives no answer.
    async fn carry_out_request(
        &self,
        request: &Request,
        mailbox: &dyn Mailbox,
        supervisor: &Supervisor,
    ) -> Option<Answer> {
        match request.method.as_str() {
            "shutdown" => {
                tracing::warn!("told to shut down by remote control");
                let _ = supervisor.ask(Ask::Leave).await;
                return None;
            }
            "heartbeat" => {
                self.events.heartbeat(mailbox).await;
                return Some(Ok(Value::Null));
            }
            // It never stands, and gives no voice: a stock worker that stands alone ends when it is elected.
            "election" => return Some(Ok(Value::Null)),
            "pool_restart" => return Some(self.restart(supervisor).await),
            "add_consumer" | "cancel_consumer" => {
                return Some(self.change_queues(request, mailbox, supervisor).await);
            }
            "enable_events" => return Some(Ok(self.tell_events(true))),
            "disable_events" => return Some(Ok(self.tell_events(false))),
            _ => {}
        }
        if let Some(answer) = self.change_option(request) {
            return Some(answer);
        }
        if let Some(revocation) = Revocation::of(request) {
            return Some(match revocation {
                Ok(revocation) => self.revoke(&revocation, supervisor).await,
                Err(exception) => Err(exception),
            });
        }
        if let Some(revocation) = StampRevocation::of(request) {
            return Some(match revocation {
                Ok(revocation) => self.revoke_stamps(&revocation, supervisor).await,
                Err(exception) => Err(exception),
            });
        }
        Some(if looks(request) {
            self.view(request, mailbox, supervisor)
                .await
                .and_then(|view| view.answer(request))
        } else if resizes(request) {
            self.resize_pool(request, supervisor).await
        } else {
            self.node.answer(request)
        })
    }

    /// Source: `celery/worker/control.py`, `enable_events`, `disable_events`.
    fn tell_events(&self, are_wanted: bool) -> Value {
        let is_news = self.events.tell_tasks(are_wanted);
        let done = if are_wanted { "enabled" } else { "disabled" };
        match is_news {
            true => {
                tracing::info!("events of tasks {done} by remote control");
                json!({"ok": format!("task events {done}")})
            }
            false => json!({"ok": format!("task events already {done}")}),
        }
    }
}
