//! The connection that consumes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use lapin::{Connection, ErrorKind, Event as Told};

use crate::job::QueueName;
use crate::time::Mono;

/// The server closes a channel a moment before the library says so of it.
const CLOSING: Duration = Duration::from_millis(100);

/// The server, as far as is known.
pub(super) enum Server {
    Away,
    Connecting,
    Up(Session),
}

/// A connection.
pub(super) struct Session {
    pub connection: Arc<Connection>,
    pub events: BoxStream<'static, Told>,
    /// Queues that are there.
    pub declared: HashSet<QueueName>,
    /// All channels are to be looked at.
    pub look: Option<Look>,
}

/// Something is wrong with a channel; which one, the library tells a moment later.
pub(super) struct Look {
    pub at: Mono,
    /// What the server says of it.
    pub reason: String,
}

impl Look {
    pub fn after(error: &lapin::Error, now: Mono) -> Self {
        let reason = match error.kind() {
            ErrorKind::ProtocolError(said) => said.get_message().to_string(),
            _ => error.to_string(),
        };
        Look {
            at: now + CLOSING,
            reason,
        }
    }
}

impl Server {
    /// What the library has to say of the connection that there is; `None`: it is gone.
    pub async fn told(&mut self) -> Option<Told> {
        match self {
            Server::Up(session) => session.events.next().await,
            Server::Away | Server::Connecting => std::future::pending().await,
        }
    }
}
