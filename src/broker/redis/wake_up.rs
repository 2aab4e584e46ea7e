//! Waiting until a list is not empty, without asking again and again.
//!
//! `BLMOVE list list LEFT LEFT` returns when the list is not empty, and moves its first element to where it was: it
//! takes nothing and so can lose nothing. Each list has a connection on which it is waited for; its answer wakes all
//! who wait for that list, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::connection::Link;
use super::endpoint::Endpoint;

/// How much longer the answer may take.
const SLACK: Duration = Duration::from_secs(10);

/// What became of a wait: nothing yet, the list is not empty, or what went wrong.
type Woken = Option<Result<(), RedisError>>;

/// A wait for one list, which all who ask for it share.
#[derive(Debug)]
struct Wait {
    woken: watch::Receiver<Woken>,
    task: AbortHandle,
}

/// The waits for lists, by key.
#[derive(Debug)]
pub(in crate::broker) struct WakeUps {
    waits: Mutex<HashMap<String, Wait>>,
    waiter: Arc<Waiter>,
}

/// How a list is waited for.
#[derive(Debug)]
struct Waiter {
    endpoint: Arc<Endpoint>,
    /// How long the server is asked to wait.
    block: Duration,
    /// Connections that were given up elsewhere.
    losses: watch::Receiver<u64>,
    /// Connections of waits that ended, for the next ones, each with the count of losses at that time.
    spare: Mutex<Vec<(u64, MultiplexedConnection)>>,
}

impl WakeUps {
    /// `block`: how long the server is asked to wait before it is asked again, so that a connection that died silently
    /// is noticed.
    pub fn new(link: &Link, block: Duration) -> Self {
        WakeUps {
            waits: Mutex::default(),
            waiter: Arc::new(Waiter {
                endpoint: Arc::clone(&link.endpoint),
                block,
                losses: link.losses(),
                spare: Mutex::default(),
            }),
        }
    }

    /// Returns when one of these lists is not empty.
    pub async fn any(&self, lists: Vec<String>) -> Result<(), RedisError> {
        let waits: Vec<_> = lists.iter().map(|list| self.wait_for(list)).collect();
        let waits = waits.into_iter().map(|mut woken| {
            Box::pin(async move {
                match woken.wait_for(Option::is_some).await {
                    Ok(woken) => woken.clone().unwrap_or(Ok(())),
                    Err(_) => Ok(()), // The wait was ended: look for yourself.
                }
            })
        });
        let (woken, at, _) = futures_util::future::select_all(waits).await;
        self.waits().remove(&lists[at]);
        woken
    }

    fn wait_for(&self, list: &str) -> watch::Receiver<Woken> {
        let begin = || {
            let (wake, woken) = watch::channel(None);
            let (waiter, list) = (Arc::clone(&self.waiter), list.to_owned());
            let task = tokio::spawn(async move {
                let result = waiter.wait_or_loss(&list).await;
                let _ = wake.send(Some(result));
            });
            Wait {
                woken,
                task: task.abort_handle(),
            }
        };
        self.waits()
            .entry(list.to_owned())
            .or_insert_with(begin)
            .woken
            .clone()
    }

    fn waits(&self) -> std::sync::MutexGuard<'_, HashMap<String, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all waits.
    pub fn stop(&self) {
        for (_, wait) in self.waits().drain() {
            wait.task.abort();
        }
        self.waiter.spares().clear();
    }
}

impl Drop for WakeUps {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Waiter {
    /// Waits until the list is not empty. It returns as well when a connection was given up elsewhere: this one may be
    /// dead, too. The caller looks, and waits on another connection.
    async fn wait_or_loss(&self, list: &str) -> Result<(), RedisError> {
        let mut losses = self.losses.clone();
        let lost = *losses.borrow_and_update();
        tokio::select! {
            woken = self.wait(list, lost) => woken,
            Ok(()) = losses.changed() => Ok(()),
        }
    }

    /// Waits on a connection that is there, if it still works.
    async fn wait(&self, list: &str, lost: u64) -> Result<(), RedisError> {
        let known = self.spares().pop().filter(|(at, _)| *at == lost);
        if let Some((_, mut connection)) = known
            && self.wait_on(&mut connection, list).await.is_ok()
        {
            self.spares().push((lost, connection));
            return Ok(());
        }
        let mut connection = self.endpoint.connect(self.block + SLACK).await?;
        self.wait_on(&mut connection, list).await?;
        self.spares().push((lost, connection));
        Ok(())
    }

    async fn wait_on(&self, connection: &mut MultiplexedConnection, list: &str) -> Result<(), RedisError> {
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
fn wait_for_first(list: &str, block: Duration) -> redis::Cmd {
    let mut wait = redis::cmd("BLMOVE");
    wait.arg(list)
        .arg(list)
        .arg("LEFT")
        .arg("LEFT")
        .arg(block.as_secs());
    wait
}
