//! The connections on which claims stand: how one is made, how a claim is sent on it, and who may still do that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, Script, Value};

use crate::broker::redis::connection::{ClientId, Greeting, Link, is_broken};
use crate::broker::redis::wake_up::{SLACK, wait_for_first};

/// Ends the wait of a connection.
pub(super) const UNBLOCK: [&str; 1] = ["UNBLOCK"];

/// Where the script's answer has the job.
const JOB: usize = 2;

/// Those on which nothing stands just now.
pub(super) type Spare = Mutex<Vec<Sentry>>;

/// A connection on which a claim can stand.
#[derive(Clone, Debug)]
pub(super) struct Sentry {
    connection: MultiplexedConnection,
    client: ClientId,
    /// See [`Link::losses`], at the time when it was opened.
    lost: u64,
}

/// How far a claim is on its way to the server.
#[derive(Debug, Default)]
enum Way {
    #[default]
    Unsent,
    /// It is not going to be sent.
    TakenBack,
    /// On this connection.
    Sent(ClientId),
}

/// The same, for who sends it and who takes it back.
#[derive(Debug, Default)]
pub(super) struct Sending(Mutex<Way>);

impl Sending {
    fn way(&self) -> MutexGuard<'_, Way> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be sent, on this connection.
    pub fn may_send(&self, by: &ClientId) -> bool {
        let mut way = self.way();
        let may = matches!(*way, Way::Unsent);
        if may {
            *way = Way::Sent(by.clone());
        }
        may
    }

    /// The connection on which it was sent. `None`: it was not, and is not going to be.
    pub fn take_back(&self) -> Option<ClientId> {
        let mut way = self.way();
        if let Way::Sent(by) = &*way {
            return Some(by.clone());
        }
        *way = Way::TakenBack;
        None
    }

    pub fn sent_by(&self) -> Option<ClientId> {
        match &*self.way() {
            Way::Sent(by) => Some(by.clone()),
            Way::Unsent | Way::TakenBack => None,
        }
    }
}

/// What one call of the script needs.
pub(super) struct Call {
    pub link: Arc<Link>,
    pub script: Arc<Script>,
    pub list: String,
    pub arguments: Vec<String>,
    pub sending: Arc<Sending>,
    pub spare: Arc<Spare>,
    pub is_refused: Arc<AtomicBool>,
    /// How long the server is asked to wait.
    pub block: Duration,
    /// See [`Link::losses`], at the time when it was posted.
    pub lost: u64,
}

impl Call {
    /// Sends both commands, and waits for as long as it takes.
    pub async fn stand(&self) -> Result<Vec<Value>, RedisError> {
        let known = spares(&self.spare).pop();
        let sentry = match known.filter(|sentry| sentry.lost == self.lost) {
            Some(sentry) => sentry,
            None => self.connect().await?,
        };
        if !self.sending.may_send(&sentry.client) {
            spares(&self.spare).push(sentry);
            return Ok(Vec::new());
        }
        let (mut first, mut second) = (sentry.connection.clone(), sentry.connection.clone());
        let wait = wait_for_first(&self.list, self.block);
        let mut take = self.script.prepare_invoke();
        for argument in &self.arguments {
            take.arg(argument.as_str());
        }
        // Polled in this order, and so sent in this order.
        let (rang, took) = tokio::join!(
            wait.query_async::<Value>(&mut first),
            take.invoke_async(&mut second)
        );
        let took: Vec<Value> = took?;
        match rang {
            Ok(_) => spares(&self.spare).push(sentry),
            // A server that refuses the one may do the other: what that took counts.
            Err(error) if took.len() <= JOB => return Err(error),
            Err(_) => {}
        }
        Ok(took)
    }

    async fn connect(&self) -> Result<Sentry, RedisError> {
        let mut connection = self.link.endpoint.connect(self.block + SLACK).await?;
        // Else a server that does not know it yet says so when the job is there.
        self.script.prepare_invoke().load_async(&mut connection).await?;
        let Some(client) = Greeting::hear(&mut connection, true).await?.client() else {
            self.is_refused.store(true, Ordering::Relaxed);
            return Err((ErrorKind::Client, "nobody says which client this is").into());
        };
        // Whether this user may take a claim back; on this connection nothing waits yet.
        let unblock = client.command(&UNBLOCK);
        if let Err(error) = unblock.query_async::<i64>(&mut connection).await {
            self.is_refused.store(!is_broken(&error), Ordering::Relaxed);
            return Err(error);
        }
        Ok(Sentry {
            connection,
            client,
            lost: self.lost,
        })
    }
}

/// Takes the job out of the script's answer.
pub(super) fn take_job(answer: &mut Vec<Value>) -> Option<Value> {
    (answer.len() > JOB).then(|| answer.swap_remove(JOB))
}

pub(super) fn spares(spare: &Spare) -> MutexGuard<'_, Vec<Sentry>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}
