//! Requests of remote control come by `PUBLISH`, and answers go into lists. Source: `kombu/transport/redis.py`, `Channel`,
//! `_get_publish_topic`, `_put_fanout`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::CeleryBroker;
use crate::broker::celery::envelope::{Message, unacked};
use crate::broker::celery::held::Chore;
use crate::broker::celery::remote::{
    Answer, Change, Reply, Request, Revocation, Shown, Task, View, looks, resize, resizes,
};
use crate::broker::{Ask, BrokerError, Order, Orders, Picture, Presence, RunningJob, Told, WorkerView};
use crate::text;
use crate::time::Unix;

/// Bytes of ids that a line of the log holds.
const LOGGED_MAX: usize = 400;
/// Tasks that wait for their time and are read in one call.
const BATCH_MAX: usize = 500;

/// Hears requests as long as it lives.
#[derive(Debug)]
pub(super) struct Hearing(AbortHandle);

impl Hearing {
    /// Begins to hear. `channel`: where requests come; `orders`: who carries them out.
    pub fn begin(broker: Arc<CeleryBroker>, channel: &str, orders: Orders) -> Self {
        broker
            .mailbox
            .listen_to(BTreeMap::from([(channel.to_owned(), 0)]));
        Hearing(tokio::spawn(async move { broker.hear(orders).await }).abort_handle())
    }
}

impl Presence for Hearing {
    fn every(&self) -> Option<Duration> {
        None // it is asked, and tells nobody by itself
    }

    fn show(&mut self, _workers: Vec<WorkerView>) {}
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CeleryBroker {
    async fn hear(&self, mut orders: Orders) {
        loop {
            let (_, message) = self.mailbox.next().await;
            let Some(request) = self.node.hear(&message) else {
                continue;
            };
            tracing::debug!(method = request.method, "remote control");
            let Some(answer) = self.carry_out_request(&request, &mut orders).await else {
                continue;
            };
            let Some(reply) = self.node.reply(request, answer) else {
                continue;
            };
            if let Err(error) = self.send_reply(&reply).await {
                tracing::warn!(%error, "the answer to a remote control request can't be sent");
            }
        }
    }

    /// Does what is asked; `None`: a stock worker gives no answer.
    async fn carry_out_request(&self, request: &Request, orders: &mut Orders) -> Option<Answer> {
        if request.method == "shutdown" {
            tracing::warn!("told to shut down by remote control");
            let _ = order(orders, Ask::Leave).await;
            return None;
        }
        if let Some(revocation) = Revocation::of(request) {
            return Some(match revocation {
                Ok(revocation) => self.revoke(&revocation, orders).await,
                Err(exception) => Err(exception),
            });
        }
        Some(if looks(request) {
            self.view(request.is_true("safe"), orders)
                .await
                .and_then(|view| view.answer(request))
        } else if resizes(request) {
            self.resize_pool(request, orders).await
        } else {
            self.node.answer(request)
        })
    }

    /// What runs ends only where that is asked for; all else never begins. Source: `celery/worker/control.py`, `_revoke`.
    async fn revoke(&self, revocation: &Revocation, orders: &mut Orders) -> Answer {
        let tasks = revocation.ids.join(",");
        tracing::info!(
            tasks = text::head(&tasks, LOGGED_MAX),
            signal = revocation.signal,
            "revoked"
        );
        self.node.revoke(revocation.ids.clone());
        let picture = picture(orders).await?;
        let jobs = picture.workers.iter();
        let running: HashSet<&str> = jobs
            .filter_map(|worker| Some(worker.job.as_ref()?.job.as_str()))
            .collect();
        let (mut found, mut asked, number) = (Vec::new(), Vec::new(), {
            let mut hand = self.hand();
            hand.numbers(1)
        });
        for held in self.hand().messages_mut().filter(|held| !held.has_chore) {
            let id = held.job.as_str();
            if !revocation.ids.iter().any(|revoked| revoked == id) {
                continue;
            }
            found.push(id.to_owned());
            held.is_revoked = true;
            held.signal = revocation.signal;
            match (running.contains(id), held.signal) {
                (true, None) => {}
                (true, Some(_)) => asked.push(Ask::StopJob(held.job.clone())),
                (false, _) => asked.push(Ask::CancelJob(held.job.clone())),
            }
        }
        self.lost.notify_waiters();
        for ask in asked {
            let _ = order(orders, ask).await; // it may have ended, or be on its way to the supervisor
        }
        let elsewhere = revocation.ids.iter().filter(|id| !found.contains(id));
        let elsewhere: Vec<String> = elsewhere.cloned().collect();
        let queue = picture.pools.iter().flat_map(|pool| &pool.queues).next();
        if let Some(queue) = queue.filter(|_| !elsewhere.is_empty()) {
            let chore = Chore::mark_revoked(number, &elsewhere, queue.clone());
            self.chores.add(vec![chore]);
        }
        Ok(revocation.answer(&found))
    }

    async fn resize_pool(&self, request: &Request, orders: &mut Orders) -> Answer {
        let Change { ask, answer } = match resize(request, &picture(orders).await?.pools) {
            Ok(change) => change,
            Err(answer) => return Ok(answer),
        };
        match order(orders, ask).await {
            Ok(_) => Ok(answer),
            Err(why) => Ok(json!({ "error": why })),
        }
    }

    /// All tasks in hand, and who runs them; `safe`: arguments of those that run as texts.
    async fn view(&self, safe: bool, orders: &mut Orders) -> Result<View, String> {
        let picture = picture(orders).await?;
        let jobs = picture.workers.iter();
        let running: HashMap<&str, (&RunningJob, i32)> = jobs
            .filter_map(|worker| Some((worker.job.as_ref()?, worker.pid)))
            .map(|(job, pid)| (job.job.as_str(), (job, pid)))
            .collect();
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        let mut tasks = Vec::new();
        let etas = {
            let hand = self.hand();
            for (task, count) in &hand.ended {
                totals.insert(task.to_string(), *count);
            }
            for held in hand.messages().filter(|held| !held.has_chore) {
                let running = running
                    .get(held.job.as_str())
                    .map(|(job, pid)| ((*job).clone(), *pid));
                let is_running = running.is_some();
                if is_running {
                    *totals.entry(held.task.to_string()).or_default() += 1;
                }
                let task = Task {
                    node: self.node.name(),
                    id: held.job.as_str(),
                    payload: &held.payload,
                    // One that is acknowledged when it begins is said to be so a moment later.
                    is_acked: held.is_acked || held.acks_early && is_running,
                    running,
                };
                tasks.push(Shown {
                    id: held.job.to_string(),
                    state: if is_running { "active" } else { "reserved" },
                    info: task.info(safe && is_running),
                    eta: task.eta(),
                });
            }
            hand.etas.all()
        };
        tasks.extend(
            self.scheduled(&etas)
                .await
                .map_err(|error| format!("RuntimeError({:?})", error.to_string()))?,
        );
        Ok(View {
            about: self.node.about(),
            picture,
            tasks,
            totals,
            clock: self.node.clock(),
        })
    }

    /// Those that wait for their time: only the server has their messages. Their scores stay.
    async fn scheduled(&self, etas: &[(Unix, i64)]) -> Result<Vec<Shown>, BrokerError> {
        let mut tasks = Vec::with_capacity(etas.len());
        for chunk in etas.chunks(BATCH_MAX) {
            let mut ask = redis::cmd("HMGET");
            ask.arg(self.keys.unacked());
            for (_, number) in chunk {
                ask.arg(self.tag(*number));
            }
            let entries: Vec<Option<Vec<u8>>> = self.link.run_command(&ask).await?;
            for entry in entries.into_iter().flatten() {
                let raw = unacked(&entry).map_or(entry, |(raw, _)| raw);
                let Ok(message) = Message::read(&raw, false) else {
                    continue;
                };
                let id = message.id.unwrap_or_default();
                let task = Task {
                    node: self.node.name(),
                    id: &id,
                    payload: &message.payload,
                    is_acked: false,
                    running: None,
                };
                tasks.push(Shown {
                    info: task.info(false),
                    eta: task.eta(),
                    state: "scheduled",
                    id,
                });
            }
        }
        Ok(tasks)
    }

    /// Into each queue that is bound to the exchange by that key.
    async fn send_reply(&self, reply: &Reply) -> Result<(), BrokerError> {
        let bindings = self.keys.bindings(&reply.to.exchange);
        let bindings: Vec<String> = self
            .link
            .run_command(redis::cmd("SMEMBERS").arg(bindings))
            .await?;
        let queues = bindings
            .iter()
            .filter(|binding| self.keys.routing_key_of(binding) == Some(&*reply.to.routing_key))
            .filter_map(|binding| self.keys.queue_of(binding));
        let message = reply.message();
        for queue in queues {
            let mut push = redis::cmd("LPUSH");
            push.arg(self.keys.list_for(queue, 0)).arg(&message);
            self.link.run_command::<i64>(&push).await?;
        }
        Ok(())
    }
}

/// Asks the supervisor.
async fn order(orders: &mut Orders, ask: Ask) -> Result<Told, String> {
    let (reply, told) = oneshot::channel();
    orders(Order {
        ask,
        reply: Some(reply),
    });
    told.await
        .unwrap_or_else(|_| Err("the supervisor is leaving".to_owned()))
}

async fn picture(orders: &mut Orders) -> Result<Picture, String> {
    match order(orders, Ask::Look).await? {
        Told::Seen(picture) => Ok(picture),
        Told::Done(done) => Err(done),
    }
}
