//! What remote control asks of a node, carried out: whichever transport brings the requests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::consumer::Consumer;
use super::held::Chore;
use super::remote::{Answer, Change, Reply, Request, Revocation, Shown, Task, View, looks, resize, resizes};
use crate::broker::{Ask, BrokerError, Order, Orders, Picture, Presence, RunningJob, Told, WorkerView};
use crate::text;
use crate::time::Unix;

/// Bytes of ids that a line of the log holds.
const LOGGED_MAX: usize = 400;

/// Where requests come from and answers go.
#[async_trait]
pub(super) trait Mailbox: Send + Sync {
    /// The next request, as kombu writes messages into lists.
    async fn next(&self) -> Vec<u8>;

    /// Sends an answer.
    async fn send(&self, reply: &Reply) -> Result<(), BrokerError>;

    /// Tasks that wait for their time, as they are shown; with their numbers.
    async fn scheduled(&self, etas: &[(Unix, i64)]) -> Result<Vec<Shown>, BrokerError>;
}

/// Hears requests as long as it lives.
#[derive(Debug)]
pub(super) struct Hearing(AbortHandle);

impl Hearing {
    /// Begins to hear. `orders`: who carries them out.
    pub fn begin(consumer: Arc<Consumer>, mailbox: Arc<dyn Mailbox>, orders: Orders) -> Self {
        let hearing = async move { consumer.hear(&*mailbox, orders).await };
        Hearing(tokio::spawn(hearing).abort_handle())
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

impl Consumer {
    async fn hear(&self, mailbox: &dyn Mailbox, mut orders: Orders) {
        loop {
            let message = mailbox.next().await;
            let Some(request) = self.node.hear(&message) else {
                continue;
            };
            tracing::debug!(method = request.method, "remote control");
            let Some(answer) = self.carry_out_request(&request, mailbox, &mut orders).await else {
                continue;
            };
            let Some(reply) = self.node.reply(request, answer) else {
                continue;
            };
            if let Err(error) = mailbox.send(&reply).await {
                tracing::warn!(%error, "the answer to a remote control request can't be sent");
            }
        }
    }

    /// Does what is asked; `None`: a stock worker gives no answer.
    async fn carry_out_request(
        &self,
        request: &Request,
        mailbox: &dyn Mailbox,
        orders: &mut Orders,
    ) -> Option<Answer> {
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
            self.view(request.is_true("safe"), mailbox, orders)
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
    async fn view(&self, safe: bool, mailbox: &dyn Mailbox, orders: &mut Orders) -> Result<View, String> {
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
            mailbox
                .scheduled(&etas)
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
