//! How the server is reached, and what went wrong in words.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode,
};

use tokio::sync::mpsc::UnboundedSender;

use super::options::{Address, Certificates, Options, Place, Sentinels, Server, SignIn};
use crate::broker::BrokerError;

/// Longest wait for a connection, with all that it takes until the first command.
pub(in crate::broker) const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for one of the Sentinels, so that one that hangs does not hide the others.
const SENTINEL: Duration = Duration::from_secs(2);
/// A connection on which nothing is heard for so long is asked whether it is still there, and again after the second
/// time; one that has not said anything by the third is given up: a blocking read notices a host that vanished.
const SILENCE: Duration = Duration::from_secs(10);
const SILENCE_AGAIN: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// Where the server is.
pub(in crate::broker) struct Endpoint {
    way: Way,
    /// The URL without secrets.
    pub shown: String,
    /// What a user can do who lacks rights.
    rights: &'static str,
}

enum Way {
    Direct(Direct),
    /// The Sentinels are asked for the master with each new connection, so that a failover is followed.
    /// The last: nobody checks certificates.
    Sentinel(Box<Sentinels>, Option<TlsCertificates>, bool),
}

/// One server, or several that are tried in turn.
struct Direct {
    clients: Vec<Client>,
    /// The one that answered last, or that is tried next.
    at: AtomicUsize,
}

/// Not derived: a client would show its password.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.shown)
    }
}

impl Endpoint {
    /// Reads the certificates; connects to nothing yet.
    /// `rights` is the hint for a user who lacks rights: which ones the protocol needs.
    pub fn new(options: &Options, rights: &'static str) -> Result<Self, BrokerError> {
        let shown = options.shown.clone();
        let is_unchecked = options.certificates.unchecked;
        let certificates = certificates(&options.certificates)?;
        let refused = |error: RedisError| BrokerError::Refused(format!("cannot use {shown}: {error}"));
        let way = match &options.address {
            Address::Sentinels(sentinels) => {
                Way::Sentinel(Box::new(sentinels.clone()), certificates, is_unchecked)
            }
            Address::Server(server) => {
                let servers = std::iter::once(server).chain(&options.others);
                let clients = servers.map(|server| client(server, certificates.clone(), is_unchecked));
                Way::Direct(Direct {
                    clients: clients.collect::<Result<_, _>>().map_err(refused)?,
                    at: AtomicUsize::new(0),
                })
            }
        };
        Ok(Endpoint { way, shown, rights })
    }

    async fn client(&self) -> RedisResult<Client> {
        match &self.way {
            Way::Direct(direct) => Ok(direct.clients[direct.at()].clone()),
            Way::Sentinel(sentinels, certificates, is_unchecked) => {
                find_master(sentinels, (certificates.as_ref(), *is_unchecked)).await
            }
        }
    }

    /// Connects to the server, or to the next one that answers where there are several.
    async fn reach<'e, T: 'e>(
        &'e self,
        connect: impl Fn(Client) -> Attempt<'e, T> + Send + Sync,
    ) -> RedisResult<T> {
        let connect = &connect;
        let mut tries = match &self.way {
            Way::Direct(direct) => direct.clients.len(),
            Way::Sentinel(..) => 1,
        };
        loop {
            let attempt: Attempt<'_, T> = Box::pin(async move { connect(self.client().await?).await });
            let result = in_time(CONNECT, attempt).await;
            tries -= 1;
            match (&self.way, &result) {
                (Way::Direct(direct), Err(error)) if tries > 0 => {
                    tracing::warn!(%error, url = self.shown, "a server can't be reached, the next one is tried");
                    direct.turn();
                }
                _ => return result,
            }
        }
    }

    /// A connection whose answers may take so long.
    pub async fn connect(&self, answer: Duration) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer));
        self.reach(|client| {
            let config = config.clone();
            Box::pin(async move { client.get_multiplexed_async_connection_with_config(&config).await })
        })
        .await
    }

    /// A connection on which the server also says what it was not asked for.
    pub async fn connect_to_hear(
        &self,
        answer: Duration,
        tell: UnboundedSender<PushInfo>,
    ) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(answer))
            .set_push_sender(tell);
        self.reach(|client| {
            let config = config.clone();
            Box::pin(async move {
                let address = client.get_connection_info().clone();
                let settings = address.redis_settings().clone();
                let settings = settings.set_protocol(ProtocolVersion::RESP3);
                Client::open(address.set_redis_settings(settings))?
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
            })
        })
        .await
    }

    /// A connection for subscriptions.
    pub async fn subscriber(&self) -> RedisResult<PubSub> {
        self.reach(|client| Box::pin(async move { client.get_async_pubsub().await }))
            .await
    }

    /// What went wrong, in words for the user.
    pub fn error(&self, error: &RedisError) -> BrokerError {
        let (url, reason) = (self.shown.clone(), error.to_string());
        match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown,
            ) => BrokerError::Busy { url, reason },
            _ if matches!(
                error.code(),
                Some("OOM" | "MISCONF" | "BUSY" | "NOREPLICAS" | "UNBLOCKED")
            ) =>
            {
                BrokerError::Busy { url, reason }
            }
            _ if error.kind() == ErrorKind::AuthenticationFailed
                || matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) =>
            {
                BrokerError::Unreachable {
                    url,
                    reason,
                    hint: "check user and password of the URL",
                }
            }
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::ClusterDown) => {
                BrokerError::Unreachable {
                    url,
                    reason,
                    hint: "the cluster has moved this slot, or has lost it; name the node that has it in broker.url",
                }
            }
            ErrorKind::Server(ServerErrorKind::NoPerm) => BrokerError::Unreachable {
                url,
                reason,
                hint: self.rights,
            },
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => {
                BrokerError::Corrupt { url, reason }
            }
            // A connection that ends in the middle of an answer reads so.
            ErrorKind::Parse => BrokerError::Unreachable {
                url,
                reason,
                hint: "the connection broke in the middle of an answer, or this is no Redis server",
            },
            ErrorKind::MasterNameNotFoundBySentinel => BrokerError::Unreachable {
                url,
                reason,
                hint: "do these Sentinels watch a master of this name, and is it up?",
            },
            // The library has no kind for it, and hands on the words of rustls.
            _ if reason.to_lowercase().contains("certificate") || reason.contains("fatal alert") => {
                BrokerError::Unreachable {
                    url,
                    reason,
                    hint: "check tls_ca, tls_cert and tls_key, and that the server's certificate is for this host",
                }
            }
            _ => BrokerError::Unreachable {
                url,
                reason,
                hint: "is the server running, and is this its address?",
            },
        }
    }
}

impl Direct {
    fn at(&self) -> usize {
        self.at.load(Ordering::Relaxed) % self.clients.len()
    }

    /// The next one is tried.
    fn turn(&self) {
        self.at.fetch_add(1, Ordering::Relaxed);
    }
}

/// Boxed as what it gives, not as what it is: the types of all that it takes to connect are too long for the compiler.
type Attempt<'a, T> = Pin<Box<dyn Future<Output = RedisResult<T>> + Send + 'a>>;

/// What the attempt gives, if it gives it in time.
async fn in_time<T>(limit: Duration, attempt: Attempt<'_, T>) -> RedisResult<T> {
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// A server that is known by its address.
fn client(server: &Server, certificates: Option<TlsCertificates>, is_unchecked: bool) -> RedisResult<Client> {
    let place = match &server.place {
        Place::Tcp {
            host,
            port,
            tls: false,
        } => ConnectionAddr::Tcp(host.clone(), *port),
        Place::Tcp {
            host,
            port,
            tls: true,
        } => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: is_unchecked,
            tls_params: None,
        },
        Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let address = place.into_connection_info()?.set_tcp_settings(tcp());
    // Two commands less on each connection.
    let mut settings = address.redis_settings().clone().set_skip_set_lib_name();
    settings = settings.set_db(server.database);
    let SignIn { user, password } = &server.sign_in;
    if !user.is_empty() {
        settings = settings.set_username(user);
    }
    if !password.is_empty() {
        settings = settings.set_password(password);
    }
    let address = address.set_redis_settings(settings);
    match certificates {
        Some(certificates) => Client::build_with_tls(address, certificates),
        None => Client::open(address),
    }
}

/// Short commands leave at once, and a peer that is gone is noticed although nothing is sent.
fn tcp() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(
            TcpKeepalive::new()
                .with_time(SILENCE)
                .with_interval(SILENCE_AGAIN),
        )
        .set_user_timeout(SILENCE_MAX)
}

/// Asks all Sentinels at once: the first that knows a master which says that it is one.
async fn find_master(sentinels: &Sentinels, tls: (Option<&TlsCertificates>, bool)) -> RedisResult<Client> {
    let asked = sentinels.hosts.iter().map(|(host, port)| {
        let attempt: Attempt<'_, Client> = Box::pin(async move {
            let address = ConnectionAddr::Tcp(host.clone(), *port);
            let mut one = sentinel_client(sentinels, address, tls)?.build()?;
            one.async_get_client().await
        });
        Box::pin(in_time(SENTINEL, attempt))
    });
    let (client, _) = futures_util::future::select_ok(asked).await?;
    Ok(client)
}

fn sentinel_client(
    sentinels: &Sentinels,
    address: ConnectionAddr,
    (certificates, is_unchecked): (Option<&TlsCertificates>, bool),
) -> RedisResult<SentinelClientBuilder> {
    let mut builder = SentinelClientBuilder::new([address], &sentinels.master, SentinelServerType::Master)?
        .set_client_to_redis_db(sentinels.database)
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    let SignIn { user, password } = &sentinels.at_server;
    if !user.is_empty() {
        builder = builder.set_client_to_redis_username(user);
    }
    if !password.is_empty() {
        builder = builder.set_client_to_redis_password(password);
    }
    let SignIn { user, password } = &sentinels.sign_in;
    if !user.is_empty() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if !password.is_empty() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if sentinels.tls {
        let mode = if is_unchecked {
            TlsMode::Insecure
        } else {
            TlsMode::Secure
        };
        builder = builder
            .set_client_to_redis_tls_mode(mode)
            .set_client_to_sentinel_tls_mode(mode);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
    }
    Ok(builder)
}

/// The certificates that the settings name, if any.
fn certificates(files: &Certificates) -> Result<Option<TlsCertificates>, BrokerError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            BrokerError::Refused(format!(
                "cannot read the certificate `{}`: {error}",
                path.display()
            ))
        })
    };
    let root_cert = files.ca.as_deref().map(read).transpose()?;
    let client_tls = match (&files.own, &files.key) {
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
