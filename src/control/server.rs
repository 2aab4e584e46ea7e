//! The supervisor's side: owns the socket, reads requests, hands them on, writes replies.
//!
//! One supervisor a socket, without a race: whoever holds the lock on `SOCKET.lock` owns `SOCKET`.
//! The kernel drops the lock when its holder dies, however it dies, so a socket file that a dead
//! supervisor left is known to be stale and is replaced.

use std::convert::Infallible;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::Mode;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::request::Addressed;
use super::{REQUEST_LEN_MAX, Reply, Request, SOCKET_PATH_LEN_MAX, pid_file};

/// Connections served at once; more wait in the socket's backlog.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take to send a request, or to take a reply, before it is hung up on, unless somebody
/// says otherwise.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// How long replies may take to reach their clients once the supervisor is done.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why the control socket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another live supervisor owns it.
    #[error("another supervisor{} already runs on the control socket `{path}`", pid_words(*pid))]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
        /// Its owner, if the lock file says.
        pid: Option<i32>,
    },
    /// The path does not fit into a socket address.
    #[error(
        "the control socket's path `{path}` is {len} bytes long, above the system's limit of {SOCKET_PATH_LEN_MAX}"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// Something that is no socket stands in its place; it is left alone.
    #[error("`{path}` is in the way: it is no socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {doing} `{path}`: {source}")]
    Io {
        /// What was tried: `create the directory` …
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn pid_words(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// A request that waits for its answer. Dropping `reply` unanswered tells the client that the
/// supervisor leaves.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// The bound socket and its lock; both files are removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    /// Declared first: it is closed before the files go.
    socket: UnixListener,
    files: Files,
    patience: Duration,
    /// Whose supervisor this is; `None`: of any broker that a request names.
    broker: Option<Arc<str>>,
}

/// Takes the lock, replaces a stale socket and listens. Must run inside a tokio runtime.
///
/// Missing directories are made, for the owner alone.
pub fn bind(path: &Path) -> Result<Listener, ControlError> {
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_LEN_MAX {
        let path = path.to_owned();
        return Err(ControlError::PathTooLong { path, len });
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed("create the directory", parent))?;
    }
    let files = Files::lock(path)?;
    files.clear_stale_socket()?;
    let socket = listen(path).map_err(failed("listen on", path))?;
    Ok(Listener {
        socket,
        files,
        patience: CLIENT_PATIENCE,
        broker: None,
    })
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ControlError + 'a {
    move |source| ControlError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The files that make up the control socket: the socket and the lock that says whose it is.
#[derive(Debug)]
struct Files {
    socket: PathBuf,
    lock_path: PathBuf,
    /// Closing it releases the lock.
    lock: File,
}

impl Files {
    fn lock(socket: &Path) -> Result<Self, ControlError> {
        let mut lock_path = socket.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        loop {
            let mut lock = pid_file::open(&lock_path, 0o600).map_err(failed("open", &lock_path))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = pid_file::read(&lock);
                    let path = socket.to_owned();
                    return Err(ControlError::AlreadyRunning { path, pid });
                }
                Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
            }
            // The last owner removes the file while it holds the lock; had we opened the file before that,
            // we now hold a lock on nothing.
            if !is_same_file(&lock, &lock_path) {
                continue;
            }
            pid_file::write(&mut lock).map_err(failed("write", &lock_path))?;
            return Ok(Files {
                socket: socket.to_owned(),
                lock_path,
                lock,
            });
        }
    }

    fn clear_stale_socket(&self) -> Result<(), ControlError> {
        match std::fs::symlink_metadata(&self.socket) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("look at", &self.socket)(error)),
            Ok(found) if !found.file_type().is_socket() => Err(ControlError::NotASocket {
                path: self.socket.clone(),
            }),
            Ok(_) => std::fs::remove_file(&self.socket).map_err(failed("replace", &self.socket)),
        }
    }
}

impl Drop for Files {
    /// Best effort: what can't be removed is stale, and the next owner replaces it.
    fn drop(&mut self) {
        // Somebody removed our lock file: whatever stands there now may belong to another supervisor.
        if !is_same_file(&self.lock, &self.lock_path) {
            return;
        }
        if std::fs::symlink_metadata(&self.socket).is_ok_and(|found| found.file_type().is_socket()) {
            let _ = std::fs::remove_file(&self.socket);
        }
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

fn is_same_file(open: &File, path: &Path) -> bool {
    match (open.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A listening socket that is of mode 0600 from the instant it exists.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // Linux gives the file the socket's own mode, less the umask; chmod after bind would be too late.
    nix::sys::stat::fchmod(&socket, Mode::from_bits_truncate(0o600))?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&socket, Backlog::new(128).unwrap_or(Backlog::MAXCONN))?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}

impl Listener {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.files.socket
    }

    /// Another time that a client may take to send a request, or to take a reply.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Listener { patience, ..self }
    }

    /// Refuses requests that name another broker than this one, by its address.
    #[must_use]
    pub fn of_broker(self, address: &str) -> Self {
        let broker = Some(address.into());
        Listener { broker, ..self }
    }

    /// Serves clients until the receiver of `calls` is dropped. Then it waits until each call is answered or dropped, lets the
    /// last replies out, at most a second, and removes the files.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let mut clients = JoinSet::new();
        let (asking, mut all_answered) = mpsc::channel::<Infallible>(1);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = calls.closed() => break,
                accepted = accept(&self.socket, &permits) => accepted,
            };
            let Some((stream, permit)) = accepted else {
                continue;
            };
            while clients.try_join_next().is_some() {}
            let (patience, broker) = (self.patience, self.broker.clone());
            let desk = Desk {
                calls: calls.clone(),
                asking: asking.downgrade(),
                broker,
            };
            clients.spawn(async move {
                serve_client(stream, &desk, patience).await;
                drop(permit);
            });
        }
        // Who waits for the end of the supervisor is answered when that is there, which may take a while.
        drop(asking);
        all_answered.recv().await;
        let _ = timeout(FAREWELL, async { while clients.join_next().await.is_some() {} }).await;
    }
}

/// The next client, once there is room for it; `None` after a failure that passes.
async fn accept(
    socket: &UnixListener,
    permits: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a control connection");
            // Out of descriptors, most likely: the client stays in the backlog, and asking again at once would spin.
            tokio::time::sleep(FAREWELL).await;
            None
        }
    }
}

/// Where the requests of a client go.
struct Desk {
    calls: mpsc::Sender<Call>,
    /// Held as long as an answer is to come.
    asking: mpsc::WeakSender<Infallible>,
    /// The address of the supervisor's broker.
    broker: Option<Arc<str>>,
}

/// Answers one client's requests until it hangs up, stalls, or the supervisor leaves.
async fn serve_client(stream: UnixStream, desk: &Desk, patience: Duration) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let line = tokio::select! {
            // A request that has arrived is served, even when we are leaving.
            biased;
            line = timeout(patience, read_line(&mut reader)) => line,
            () = desk.calls.closed() => return,
        };
        let reply = match line {
            Ok(Line::Whole(line)) => desk.ask(&line).await,
            Ok(Line::TooLong) => {
                let reply = Reply::error(format!("the request is longer than {REQUEST_LEN_MAX} bytes"));
                let _ = timeout(patience, write_reply(&mut writer, &reply)).await;
                return;
            }
            Ok(Line::End) | Err(_) => return,
        };
        let Some(reply) = reply else { return };
        if !matches!(
            timeout(patience, write_reply(&mut writer, &reply)).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
}

/// What one client sent.
enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> Line {
    let mut line = Vec::new();
    let read = reader
        .take(REQUEST_LEN_MAX as u64)
        .read_until(b'\n', &mut line)
        .await;
    match read {
        Ok(_) if line.ends_with(b"\n") => Line::Whole(line),
        Ok(REQUEST_LEN_MAX) => Line::TooLong,
        Ok(_) | Err(_) => Line::End,
    }
}

impl Desk {
    /// The supervisor's answer; `None` when it leaves without one.
    async fn ask(&self, line: &[u8]) -> Option<Reply> {
        let _asking = self.asking.upgrade();
        let Addressed {
            request,
            broker: meant,
        } = match Addressed::from_line(line) {
            Ok(request) => request,
            Err(error) => return Some(Reply::error(format!("the request is not understood: {error}"))),
        };
        if let (Some(broker), Some(meant)) = (self.broker.as_deref(), meant)
            && broker != meant
        {
            return Some(Reply::OtherBroker {
                pid: nix::unistd::getpid().as_raw(),
                broker: broker.to_owned(),
            });
        }
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { request, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// Returns when the client has taken the reply.
async fn write_reply(writer: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).expect("a reply is plain data with text keys");
    line.push(b'\n');
    writer.write_all(&line).await
}
