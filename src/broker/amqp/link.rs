//! A connection to one of a broker's servers, made anew when it is lost.

use std::sync::Arc;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::tcp::{AMQPUriTcpExt, TLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties, ErrorKind};
use tokio::sync::Mutex;

use super::options::{Options, Server};
use super::tls;
use crate::broker::BrokerError;

/// How long a server may take to be connected to.
const IN_TIME: Duration = Duration::from_secs(5);
/// How long it may take to say that it has heard that we leave.
const GOODBYE: Duration = Duration::from_secs(2);
/// The hint for who can't reach it.
const HINT: &str = "is RabbitMQ running, and is `broker_url` right?";
/// The hint where it has closed a connection that was there.
const CLOSED_HINT: &str = "an administrator closed the connection, or the server stops";

/// The way to a broker. All who use it share a connection.
#[derive(Debug)]
pub struct Link {
    options: Options,
    /// Its servers, for messages.
    pub shown: String,
    /// What programs that list connections call ours.
    name: String,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    connection: Option<Arc<Connection>>,
    /// The server that it leads to, or that is tried next.
    server: usize,
}

impl Link {
    /// Connects to nothing yet.
    pub fn new(options: Options, name: String) -> Self {
        let shown: Vec<String> = options.servers.iter().map(Server::shown).collect();
        Link {
            options,
            shown: shown.join(";"),
            name,
            current: Mutex::default(),
        }
    }

    /// The connection that there is, or a new one to the first server that answers.
    ///
    /// # Errors
    /// [`BrokerError::Unreachable`] when none answers, [`BrokerError::Refused`] when the last one knows no such user or
    /// virtual host.
    pub async fn connection(&self) -> Result<Arc<Connection>, BrokerError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection
            && connection.status().connected()
        {
            return Ok(Arc::clone(connection));
        }
        current.connection = None;
        let mut last = None;
        for _ in 0..self.options.servers.len() {
            let server = &self.options.servers[current.server % self.options.servers.len()];
            match self.connect(server).await {
                Ok(connection) => return Ok(Arc::clone(current.connection.insert(Arc::new(connection)))),
                Err(error) => last = Some(error),
            }
            current.server += 1;
        }
        Err(last.unwrap_or_else(|| self.unreachable("no server is named".to_owned(), HINT)))
    }

    /// A connection of its own to the same server. Who publishes needs one: a server that is short of memory reads nothing
    /// more from a connection that has published.
    ///
    /// # Errors
    /// As [`Link::connection`].
    pub async fn another(&self) -> Result<Connection, BrokerError> {
        let at = self.current.lock().await.server;
        self.connect(&self.options.servers[at % self.options.servers.len()])
            .await
    }

    async fn connect(&self, server: &Server) -> Result<Connection, BrokerError> {
        match tokio::time::timeout(IN_TIME, self.reach(server)).await {
            Ok(connected) => connected,
            Err(_) => Err(self.unreachable(format!("no answer within {} s", IN_TIME.as_secs()), HINT)),
        }
    }

    async fn reach(&self, server: &Server) -> Result<Connection, BrokerError> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let (uri, files) = (uri(server, self.options.heartbeat), &self.options.certificates);
        let runtime = lapin::runtime::default_runtime().map_err(|error| self.error(&error))?;
        let connected = if server.tls && files.unchecked {
            let connector = tls::unchecked(files)?;
            let connect = async move |uri: AMQPUri, runtime| {
                let plain = AMQPUri {
                    scheme: AMQPScheme::AMQP,
                    ..uri.clone()
                };
                let config = TLSConfig::default();
                let stream = plain.connect_with_config_async(config, &runtime).await?;
                Ok(stream.into_rustls(&connector, &uri.authority.host).await?)
            };
            Connection::connector(uri, runtime, connect, properties).await
        } else {
            Connection::connect_uri_with_config(uri, properties, tls::checked(files)?, runtime).await
        };
        connected.map_err(|error| self.error(&error))
    }

    /// Says goodbye: what was sent before has arrived then.
    pub async fn close(&self) {
        let connection = self.current.lock().await.connection.take();
        if let Some(connection) = connection {
            let closing = connection.close(200, "goodbye".into());
            if tokio::time::timeout(GOODBYE, closing).await.is_err() {
                tracing::debug!("the server did not say that it heard that we leave");
            }
        }
    }

    fn unreachable(&self, reason: String, hint: &'static str) -> BrokerError {
        BrokerError::Unreachable {
            url: self.shown.clone(),
            reason,
            hint,
        }
    }

    /// The error as our user meets it.
    pub fn error(&self, error: &lapin::Error) -> BrokerError {
        match error.kind() {
            ErrorKind::ProtocolError(said) => {
                let reason = said.get_message().to_string();
                match said.kind() {
                    AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
                        self.unreachable(reason, CLOSED_HINT)
                    }
                    _ => BrokerError::Refused(format!("{} refuses: {reason}", self.shown)),
                }
            }
            _ => self.unreachable(error.to_string(), HINT),
        }
    }
}

/// Of plain values: the library's own reading of `amqp://h/` is another than that of kombu.
fn uri(server: &Server, heartbeat: u16) -> AMQPUri {
    AMQPUri {
        scheme: match server.tls {
            true => AMQPScheme::AMQPS,
            false => AMQPScheme::AMQP,
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: server.user.clone(),
                password: server.password.clone(),
            },
            host: server.host.clone(),
            port: server.port,
        },
        vhost: server.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(heartbeat),
            ..AMQPQueryString::default()
        },
    }
}
