//! The server: one request a connection, a bounded number of connections, none of them for long.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::pages::{Answer, Page};
use crate::config::MetricsConfig;
use crate::control::{Call, Reply};
use crate::metrics::Format;

/// Connections served at once. One more takes the place of the oldest that has not sent its request.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take for its request and to take its answer, before it is hung up on.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the supervisor may take for its answer.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(5);
/// Longest request line with all headers, in bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Wait after a connection could not be accepted: out of descriptors, most likely.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error(
        "cannot listen on {address} for metrics (`metrics.listen`): {}",
        refused(source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The token can't be read.
    #[error("cannot read the token for metrics from `{path}` (`metrics.token_file`): {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none in its file.
    #[error("the token for metrics in `{path}` (`metrics.token_file`) is empty")]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

fn refused(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => "the address is in use by another program".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
        _ => source.to_string(),
    }
}

/// The bound socket, and who may read.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

/// What a client has to know.
#[derive(Clone)]
struct Token(Arc<[u8]>);

/// It is a secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Listens where the settings say; `None` where they name no address. Must run inside a tokio runtime.
///
/// # Errors
/// The address is taken or not ours; the token can't be read.
pub fn bind(config: &MetricsConfig) -> Result<Option<Listener>, ListenError> {
    let Some(address) = config.listen else {
        return Ok(None);
    };
    let token = config.token_file.as_ref().map(read_token).transpose()?;
    let (socket, bound) = std::net::TcpListener::bind(address)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            let bound = socket.local_addr()?;
            Ok((TcpListener::from_std(socket)?, bound))
        })
        .map_err(|source| ListenError::Listen { address, source })?;
    Ok(Some(Listener {
        socket,
        address: bound,
        token,
    }))
}

fn read_token(path: &PathBuf) -> Result<Token, ListenError> {
    let text = std::fs::read(path).map_err(|source| ListenError::Token {
        path: path.clone(),
        source,
    })?;
    match text.trim_ascii() {
        [] => Err(ListenError::NoToken { path: path.clone() }),
        token => Ok(Token(token.into())),
    }
}

impl Listener {
    /// Where the metrics are, with the port that the system chose if the settings say 0.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Serves clients until the receiver of `calls` is dropped. What is being answered then is cut off.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let mut clients = Clients::default();
        loop {
            let accepted = tokio::select! {
                () = calls.closed() => return,
                accepted = async {
                    clients.room().await;
                    self.socket.accept().await
                } => accepted,
            };
            match accepted {
                Ok((stream, _)) => clients.serve(stream, self.token.clone(), calls.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
}

/// The connections that are being served, a bounded number.
#[derive(Default)]
struct Clients {
    served: JoinSet<()>,
    /// The oldest first; some of them may have ended.
    known: VecDeque<Client>,
}

struct Client {
    task: AbortHandle,
    /// Its request has come.
    has_asked: Arc<AtomicBool>,
}

impl Client {
    fn is_silent(&self) -> bool {
        !self.task.is_finished() && !self.has_asked.load(Ordering::Relaxed)
    }
}

impl Clients {
    /// Waits until one more can be served: there are few, or one of them has not asked anything yet.
    async fn room(&mut self) {
        while self.served.try_join_next().is_some() {}
        if self.served.len() >= CONNECTIONS_MAX && !self.known.iter().any(Client::is_silent) {
            self.served.join_next().await;
        }
    }

    /// Serves one more. The oldest that has not asked anything makes room: it must not keep others from asking.
    fn serve(&mut self, stream: TcpStream, token: Option<Token>, calls: mpsc::Sender<Call>) {
        self.known.retain(|client| !client.task.is_finished());
        if self.known.len() >= CONNECTIONS_MAX
            && let Some(at) = self.known.iter().position(Client::is_silent)
            && let Some(silent) = self.known.remove(at)
        {
            silent.task.abort();
        }
        let has_asked = Arc::new(AtomicBool::new(false));
        let task = self
            .served
            .spawn(serve_client(stream, has_asked.clone(), token, calls));
        self.known.push_back(Client { task, has_asked });
    }
}

/// Answers one request; a client that is slow, or does not speak HTTP, is hung up on.
async fn serve_client(
    stream: TcpStream,
    has_asked: Arc<AtomicBool>,
    token: Option<Token>,
    calls: mpsc::Sender<Call>,
) {
    let service = service_fn(|request| {
        has_asked.store(true, Ordering::Relaxed);
        let (token, calls) = (token.clone(), calls.clone());
        async move { Ok::<_, Infallible>(answer(&request, token.as_ref(), &calls).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CLIENT_PATIENCE, connection).await {
        tracing::debug!(%error, "a client of the metrics' address was not understood");
    }
}

async fn answer(
    request: &Request<Incoming>,
    token: Option<&Token>,
    calls: &mpsc::Sender<Call>,
) -> Response<Full<Bytes>> {
    let accept = request.headers().get(ACCEPT);
    let format = Format::accepted(accept.and_then(|value| value.to_str().ok()).unwrap_or_default());
    let uri = request.uri();
    let Some(page) = Page::at(uri.path(), uri.query().unwrap_or_default(), format) else {
        return plain(StatusCode::NOT_FOUND, super::pages::NOT_HERE);
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "this can only be read: GET or HEAD\n",
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let shown = request.headers().get(AUTHORIZATION);
    if page.is_secret() && token.is_some_and(|token| !token.is_shown(shown)) {
        let mut response = plain(
            StatusCode::UNAUTHORIZED,
            "this wants the token of `metrics.token_file`\n",
        );
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let Answer {
        status,
        content_type,
        text,
    } = match ask(calls, &page).await {
        Some(reply) => page.answer(reply),
        None => Answer::plain(503, "the supervisor does not answer\n"),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response(status, content_type, text)
}

impl Token {
    /// Whether the header `Authorization: Bearer TOKEN` shows it. How much of it is right can't be told from the time it takes.
    fn is_shown(&self, header: Option<&HeaderValue>) -> bool {
        let shown = header.and_then(|header| header.as_bytes().strip_prefix(b"Bearer "));
        let Some(shown) = shown.map(<[u8]>::trim_ascii) else {
            return false;
        };
        let differs = |differs: u8, (a, b): (&u8, &u8)| differs | (a ^ b);
        shown.len() == self.0.len() && shown.iter().zip(self.0.iter()).fold(0, differs) == 0
    }
}

/// What the supervisor says; `None` when it leaves or does not answer in time.
async fn ask(calls: &mpsc::Sender<Call>, page: &Page) -> Option<Reply> {
    let (reply, answer) = oneshot::channel();
    let request = page.request();
    let exchange = async {
        calls.send(Call { request, reply }).await.ok()?;
        answer.await.ok()
    };
    timeout(SUPERVISOR_PATIENCE, exchange).await.ok().flatten()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.to_owned())
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
