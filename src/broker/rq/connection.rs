//! Connections to a Redis server: what the URL asks for, opened when needed, opened again when broken.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind, FromRedisValue, RedisError,
    RedisResult, ScriptInvocation, ServerErrorKind, TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;

use crate::broker::BrokerError;
use crate::config::{BrokerConfig, RedisUrl};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an answer; a script over a batch of thousands takes some of it.
const ANSWER: Duration = Duration::from_secs(15);

/// Where the server is.
pub(super) struct Endpoint {
    way: Way,
    /// The URL without secrets.
    pub shown: String,
}

enum Way {
    Direct(Box<Client>),
    /// The Sentinels are asked for the master with each new connection, so that a failover is followed.
    Sentinel(Box<Mutex<SentinelClient>>),
}

/// Not derived: a client would show its password.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.shown)
    }
}

impl Endpoint {
    /// Reads the URL and the certificates; connects to nothing yet.
    pub fn new(url: &RedisUrl, config: &BrokerConfig) -> Result<Self, BrokerError> {
        let shown = config.url.to_string();
        let certificates = certificates(config)?;
        let refused = |error: RedisError| BrokerError::Refused(format!("cannot use {shown}: {error}"));
        let way = match url.sentinels() {
            Some(sentinels) => {
                let sentinels = sentinels.map_err(BrokerError::Refused)?;
                let client = sentinel_client(&sentinels, certificates).map_err(refused)?;
                Way::Sentinel(Box::new(Mutex::new(client)))
            }
            None => {
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(url.secret_text(), certificates),
                    None => Client::open(url.secret_text()),
                };
                Way::Direct(Box::new(client.map_err(refused)?))
            }
        };
        Ok(Endpoint { way, shown })
    }

    async fn client(&self) -> RedisResult<Client> {
        match &self.way {
            Way::Direct(client) => Ok(Client::clone(client)),
            Way::Sentinel(sentinels) => sentinels.lock().await.async_get_client().await,
        }
    }

    /// A connection whose answers may take so long.
    pub async fn connect(&self, answer: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer));
        self.client()
            .await?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// A connection for subscriptions.
    pub async fn subscriber(&self) -> RedisResult<PubSub> {
        self.client().await?.get_async_pubsub().await
    }

    /// What went wrong, in words for the user.
    pub fn error(&self, error: &RedisError) -> BrokerError {
        let (url, reason) = (self.shown.clone(), error.to_string());
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
            ) => BrokerError::Busy { url, reason },
            _ if matches!(error.code(), Some("OOM" | "MISCONF" | "BUSY" | "NOREPLICAS")) => {
                BrokerError::Busy { url, reason }
            }
            ErrorKind::AuthenticationFailed => BrokerError::Unreachable {
                url,
                reason,
                hint: "check user and password of the URL",
            },
            ErrorKind::Server(ServerErrorKind::NoPerm) => BrokerError::Unreachable {
                url,
                reason,
                hint: "this user needs the commands and keys that docs/rq.md lists",
            },
            ErrorKind::Server(_)
            | ErrorKind::Extension
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Parse => BrokerError::Corrupt { url, reason },
            _ => BrokerError::Unreachable {
                url,
                reason,
                hint: "is the server running, and is this its address?",
            },
        }
    }
}

/// The one connection that all short calls share.
#[derive(Debug)]
pub(super) struct Link {
    pub endpoint: Arc<Endpoint>,
    current: Mutex<Option<MultiplexedConnection>>,
}

impl Link {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Link {
            endpoint,
            current: Mutex::new(None),
        }
    }

    /// The connection, opened if there is none.
    pub async fn get(&self) -> RedisResult<MultiplexedConnection> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current {
            return Ok(connection.clone());
        }
        let connection = self.endpoint.connect(ANSWER).await?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Runs a script.
    pub async fn script<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let mut connection = self.get().await?;
        let answer = call.invoke_async(&mut connection).await;
        self.check(answer).await
    }

    /// Runs one command.
    pub async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, RedisError> {
        let mut connection = self.get().await?;
        let answer = command.query_async(&mut connection).await;
        self.check(answer).await
    }

    /// Runs several commands in one round trip, not as a transaction.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, RedisError> {
        let mut connection = self.get().await?;
        let answer = pipeline.query_async(&mut connection).await;
        self.check(answer).await
    }

    /// Gives up a connection that failed, so that the next call opens another one.
    async fn check<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &answer
            && is_broken(error)
        {
            *self.current.lock().await = None;
        }
        answer
    }
}

/// Whether nothing is known about what the server did: the connection is not to be used again.
pub(super) fn is_broken(error: &RedisError) -> bool {
    // A master that became a replica is left too: the next connection finds the new one.
    !matches!(error.kind(), ErrorKind::Server(kind) if kind != ServerErrorKind::ReadOnly)
        && !matches!(error.kind(), ErrorKind::Extension)
}

fn sentinel_client(
    sentinels: &crate::config::Sentinels,
    certificates: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let addresses = sentinels.addresses.iter().map(|address| {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "26379"));
        ConnectionAddr::Tcp(host.to_owned(), port.parse().unwrap_or(26379))
    });
    let mut builder = SentinelClientBuilder::new(addresses, &sentinels.master, SentinelServerType::Master)?
        .set_client_to_redis_db(sentinels.database);
    if !sentinels.user.is_empty() {
        builder = builder.set_client_to_redis_username(&sentinels.user);
    }
    if !sentinels.password.is_empty() {
        builder = builder.set_client_to_redis_password(&sentinels.password);
    }
    if sentinels.tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder.set_client_to_redis_certificates(certificates);
    }
    builder.build()
}

/// The certificates that the settings name, if any.
fn certificates(config: &BrokerConfig) -> Result<Option<TlsCertificates>, BrokerError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| {
            BrokerError::Refused(format!(
                "cannot read the certificate `{}`: {error}",
                path.display()
            ))
        })
    };
    let root_cert = config.tls_ca.as_ref().map(read).transpose()?;
    let client_tls = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(certificate)?,
            client_key: read(key)?,
        }),
        _ => None,
    };
    Ok(
        (root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates {
            client_tls,
            root_cert,
        }),
    )
}
