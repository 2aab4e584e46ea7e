//! Waiting for a job without asking again and again.
//!
//! `BLMOVE queue queue LEFT LEFT` returns when the list is not empty, and moves its first element to where it was: it
//! takes nothing and so can lose nothing. Each queue has a connection on which it waits; one that rang rings for all
//! who wait, once.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::RqBroker;
use super::connection::Link;
use super::endpoint::Endpoint;
use crate::broker::{BrokerError, Came};
use crate::job::QueueName;
use crate::time::Mono;

/// How long the server is asked to wait at most before it is asked again, so that a connection that died silently is
/// noticed. A shorter life of workers asks for less. Source: `rq/worker/base.py`, `dequeue_timeout`.
const BLOCK_MAX: Duration = Duration::from_secs(60);
const BLOCK_MIN: Duration = Duration::from_secs(1);
const BEFORE_WORKER_TTL: Duration = Duration::from_secs(15);
/// How much longer the answer may take.
pub(super) const SLACK: Duration = Duration::from_secs(10);
/// While all workers are suspended RQ's workers look once a second, and Redis has nothing to wait for.
const SUSPENDED: Duration = Duration::from_secs(1);

/// What a bell has to say: nothing yet, that there are jobs, or what went wrong.
type Ring = Option<Result<(), RedisError>>;

#[derive(Debug)]
struct Bell {
    rings: watch::Receiver<Ring>,
    task: AbortHandle,
}

/// The bells of the queues, by key.
#[derive(Debug)]
pub(super) struct Bells {
    hung: Mutex<HashMap<String, Bell>>,
    line: Arc<Line>,
}

/// How a bell hears of its list.
#[derive(Debug)]
struct Line {
    endpoint: Arc<Endpoint>,
    /// How long the server is asked to wait.
    block: Duration,
    /// Connections that were given up elsewhere.
    losses: watch::Receiver<u64>,
    /// Connections of bells that rang, for the next ones, each with the count of losses at that time.
    spare: Mutex<Vec<(u64, MultiplexedConnection)>>,
}

impl Bells {
    pub fn new(link: &Link, worker_ttl: Duration) -> Self {
        let block = worker_ttl.saturating_sub(BEFORE_WORKER_TTL);
        Bells {
            hung: Mutex::default(),
            line: Arc::new(Line {
                endpoint: Arc::clone(&link.endpoint),
                block: block.clamp(BLOCK_MIN, BLOCK_MAX),
                losses: link.losses(),
                spare: Mutex::default(),
            }),
        }
    }

    /// How long the server is asked to wait.
    pub fn block(&self) -> Duration {
        self.line.block
    }

    /// Returns when one of these lists is not empty.
    async fn any(&self, lists: Vec<String>) -> Result<(), RedisError> {
        let bells: Vec<_> = lists.iter().map(|list| self.bell(list)).collect();
        let waits = bells.into_iter().map(|mut bell| {
            Box::pin(async move {
                match bell.wait_for(Option::is_some).await {
                    Ok(ring) => ring.clone().unwrap_or(Ok(())),
                    Err(_) => Ok(()), // It was taken down: look for yourself.
                }
            })
        });
        let (ring, at, _) = futures_util::future::select_all(waits).await;
        self.hung().remove(&lists[at]);
        ring
    }

    fn bell(&self, list: &str) -> watch::Receiver<Ring> {
        let hang = || {
            let (ring, rings) = watch::channel(None);
            let (line, list) = (Arc::clone(&self.line), list.to_owned());
            let task = tokio::spawn(async move {
                let heard = line.listen(&list).await;
                let _ = ring.send(Some(heard));
            });
            Bell {
                rings,
                task: task.abort_handle(),
            }
        };
        self.hung()
            .entry(list.to_owned())
            .or_insert_with(hang)
            .rings
            .clone()
    }

    fn hung(&self) -> std::sync::MutexGuard<'_, HashMap<String, Bell>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes them all down.
    pub fn stop(&self) {
        for (_, bell) in self.hung().drain() {
            bell.task.abort();
        }
        self.line.spares().clear();
    }
}

impl Drop for Bells {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn sleep_until(at: Mono) {
    tokio::time::sleep(at.since(Mono::now())).await;
}

impl Line {
    /// Waits until the list is not empty. When a connection was given up elsewhere it rings as well, and who hears it
    /// looks, and hangs up another bell: this connection may be dead, too.
    async fn listen(&self, list: &str) -> Result<(), RedisError> {
        let mut losses = self.losses.clone();
        let lost = *losses.borrow_and_update();
        tokio::select! {
            rang = self.ring(list, lost) => rang,
            Ok(()) = losses.changed() => Ok(()),
        }
    }

    /// Waits on a connection that is there, if it still works.
    async fn ring(&self, list: &str, lost: u64) -> Result<(), RedisError> {
        let known = self.spares().pop().filter(|(at, _)| *at == lost);
        if let Some((_, mut connection)) = known
            && self.wait(&mut connection, list).await.is_ok()
        {
            self.spares().push((lost, connection));
            return Ok(());
        }
        let mut connection = self.endpoint.connect(self.block + SLACK).await?;
        self.wait(&mut connection, list).await?;
        self.spares().push((lost, connection));
        Ok(())
    }

    async fn wait(&self, connection: &mut MultiplexedConnection, list: &str) -> Result<(), RedisError> {
        let wait = wait_for_first(list, self.block);
        loop {
            let first: Option<Vec<u8>> = wait.query_async(connection).await?;
            if first.is_some() {
                return Ok(());
            }
        }
    }

    fn spares(&self) -> std::sync::MutexGuard<'_, Vec<(u64, MultiplexedConnection)>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answered with the list's first element, which stays where it is, or with nothing after this time.
pub(super) fn wait_for_first(list: &str, block: Duration) -> redis::Cmd {
    let mut wait = redis::cmd("BLMOVE");
    wait.arg(list)
        .arg(list)
        .arg("LEFT")
        .arg("LEFT")
        .arg(block.as_secs());
    wait
}

impl RqBroker {
    /// Returns when there may be something to take.
    pub(super) async fn wait(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let rang = async {
            let lists = queues
                .iter()
                .map(|queue| self.keys.queue(queue.as_str()))
                .collect();
            let rang = self.bells.any(lists).await;
            rang.map_err(|error| self.link.endpoint.error(&error))
        };
        self.wait_or(queues, rang).await.map(|_| ())
    }

    /// The same, with the job itself where the server can be asked for that.
    pub(super) async fn wait_for_job(&self, queues: &[QueueName]) -> Result<Came, BrokerError> {
        if queues.is_empty() || !self.may_stand() {
            return self.wait(queues).await.map(|()| Came::look());
        }
        let came = self.wait_or(queues, self.stand_for_any(queues)).await?;
        Ok(came.unwrap_or_else(Came::look))
    }

    /// Waits for what `job_came` waits for. `None`: there is another reason to look.
    async fn wait_or<T>(
        &self,
        queues: &[QueueName],
        job_came: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<Option<T>, BrokerError> {
        let came = self.after_work_came.notified();
        tokio::pin!(came);
        came.as_mut().enable();
        if !self.hand().after_work.is_empty() {
            return Ok(None);
        }
        if self.suspended.load(Ordering::Relaxed) {
            tokio::select! {
                () = came => return Ok(None),
                () = tokio::time::sleep(SUSPENDED) => {}
            }
            let key = self.keys.suspended();
            let suspended = self.command(redis::cmd("EXISTS").arg(key)).await?;
            self.set_suspended(suspended).await;
            return Ok(None);
        }
        tokio::select! {
            biased;
            job = job_came => job.map(Some),
            () = came => Ok(None),
            () = self.housekeeping_due(queues) => Ok(None),
            () = self.doubt_due(queues) => Ok(None),
        }
    }

    async fn housekeeping_due(&self, queues: &[QueueName]) {
        let due = self.maintenance().get(queues).copied();
        if let Some(at) = due {
            sleep_until(at).await;
        }
    }

    /// A claim whose answer never came is made sure of.
    async fn doubt_due(&self, queues: &[QueueName]) {
        let due = self.doubts().next(queues);
        match due {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn set_suspended(&self, suspended: bool) {
        if self.suspended.swap(suspended, Ordering::Relaxed) != suspended {
            if suspended {
                tracing::warn!("all workers are suspended by `rq suspend`; `rq resume` lets them go on");
            } else {
                tracing::info!("workers are resumed");
            }
            self.mark(suspended).await;
        }
    }
}
