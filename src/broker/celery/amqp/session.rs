//! The connection that consumes.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};
use lapin::{Connection, Event as Told};

use crate::job::QueueName;
use crate::time::Mono;

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
    /// When all channels are looked at.
    pub look: Option<Mono>,
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
