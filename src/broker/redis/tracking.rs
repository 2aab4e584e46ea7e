//! Hearing of changes of keys that nothing else tells of.
//!
//! The server is asked to tell when what was read of them changes (`CLIENT TRACKING`, which is made for caches), so
//! that they are looked at when something happened to them, and at no other time.

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::connection::ANSWER;
use super::endpoint::Endpoint;

/// A connection that tells when what was read on it has changed.
#[derive(Debug)]
pub(in crate::broker) struct Tracker {
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
                Some(PushKind::Invalidate) => {
                    // What one script changed is looked at once.
                    while let Ok(told) = self.told.try_recv() {
                        if told.kind == PushKind::Disconnection {
                            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                        }
                    }
                    return Ok(());
                }
                Some(PushKind::Disconnection) | None => {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                }
                Some(_) => {}
            }
        }
    }
}
