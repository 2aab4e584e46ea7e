//! Jobs that end without a word: RQ deletes one whose result is not kept (`result_ttl=0`) as it ends, and adds nothing to
//! any stream.
//!
//! The server is asked to tell when what was read of them changes (`CLIENT TRACKING`, which is made for caches), so
//! that they are looked at when something happened to them, and at no other time.

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::connection::ANSWER;
use super::endpoint::Endpoint;
use super::look::Hash;

/// Whether a job of this hash may end without a result. Source: `rq/job.py`, `Job.cleanup`.
pub(super) fn is_silent(job: &Hash) -> bool {
    ["result_ttl", "failure_ttl"]
        .iter()
        .any(|ttl| job.get(*ttl).is_some_and(|ttl| ttl == b"0"))
}

/// A connection that tells when what was read on it has changed.
#[derive(Debug)]
pub(super) struct Tracker {
    pub connection: MultiplexedConnection,
    told: UnboundedReceiver<PushInfo>,
}

impl Tracker {
    pub async fn open(endpoint: &Endpoint) -> RedisResult<Self> {
        let (tell, told) = unbounded_channel();
        let mut connection = endpoint.connect_to_hear(ANSWER, tell).await?;
        redis::cmd("CLIENT")
            .arg("TRACKING")
            .arg("ON")
            .query_async::<()>(&mut connection)
            .await?;
        Ok(Tracker { connection, told })
    }

    /// Wants to be told when one of these keys changes, once.
    pub async fn watch(&mut self, keys: impl Iterator<Item = String>) -> RedisResult<()> {
        let mut read = redis::cmd("EXISTS"); // a script's own reads don't count on every server
        for key in keys {
            read.arg(key);
        }
        read.query_async(&mut self.connection).await
    }

    /// Returns when one of the keys has changed.
    pub async fn changed(&mut self) -> RedisResult<()> {
        loop {
            match self.told.recv().await.map(|told| told.kind) {
                Some(PushKind::Invalidate) => return Ok(()),
                Some(PushKind::Disconnection) | None => {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                }
                Some(_) => {}
            }
        }
    }
}
