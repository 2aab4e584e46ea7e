//! The caller's side: one request, one reply, blocking.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::request::Addressed;
use super::{REPLY_LEN_MAX, Reply, Request, SOCKET_PATH_LEN_MAX};

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no socket, or nobody listens on it. Exit code 3.
    #[error("no supervisor answers on `{path}`")]
    Nobody {
        /// The socket.
        path: PathBuf,
    },
    /// The socket belongs to somebody else. Exit code 3.
    #[error("may not open `{path}`: it belongs to another user")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error(
        "the socket path `{path}` is {len} bytes long, above the system's limit of {SOCKET_PATH_LEN_MAX}"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// The supervisor is there, and did not answer in time. Exit code 3.
    #[error("the supervisor on `{path}` did not answer within {}", crate::time::Human(*timeout))]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
    },
    /// It hung up before it had answered. Exit code 3.
    #[error("the supervisor on `{path}` ended before it answered")]
    HungUp {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is not one that this version knows.
    #[error("the supervisor on `{path}` gave an answer that is not understood: {reason}")]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else that the system said.
    #[error("cannot speak to the supervisor on `{path}`: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Sends one request and waits for its reply; `None` waits for as long as the supervisor lives.
pub fn call(path: &Path, request: &Request, timeout: Option<Duration>) -> Result<Reply, CallError> {
    let request = Addressed {
        request: request.clone(),
        broker: None,
    };
    call_addressed(path, &request, timeout)
}

/// [`call`] with a request that may name the broker that it is meant for.
pub fn call_addressed(
    path: &Path,
    request: &Addressed,
    timeout: Option<Duration>,
) -> Result<Reply, CallError> {
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_LEN_MAX {
        let path = path.to_owned();
        return Err(CallError::PathTooLong { path, len });
    }
    let exchanged = connect(path, timeout)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                CallError::Nobody {
                    path: path.to_owned(),
                }
            }
            io::ErrorKind::PermissionDenied => CallError::Denied {
                path: path.to_owned(),
            },
            _ => explain(error, path, timeout),
        })
        .and_then(|stream| exchange(&stream, request).map_err(|error| explain(error, path, timeout)))?;
    if !exchanged.ends_with('\n') {
        return Err(if exchanged.len() >= REPLY_LEN_MAX {
            let reason = format!("it is longer than {REPLY_LEN_MAX} bytes");
            CallError::Garbled {
                path: path.to_owned(),
                reason,
            }
        } else {
            CallError::HungUp {
                path: path.to_owned(),
            }
        });
    }
    serde_json::from_str(&exchanged).map_err(|error| CallError::Garbled {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Connects, and limits how long that and each step after it may take. Clients before us that gave up still stand in the
/// queue of a supervisor that hangs: where it is full, one has to wait to be let in.
fn connect(path: &Path, timeout: Option<Duration>) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let stream = UnixStream::from(socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        flags,
        None,
    )?);
    // Zero would mean: no limit at all.
    let limit = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
    stream.set_write_timeout(limit)?;
    stream.set_read_timeout(limit)?;
    socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(stream)
}

/// Writes the request line and reads one reply line, shorter than a whole one if the peer hangs up.
fn exchange(mut stream: &UnixStream, request: &Addressed) -> io::Result<String> {
    let mut line = request.to_line()?;
    line.push(b'\n');
    // A server that refuses us at once may have hung up already; its answer is there to read.
    if let Err(error) = stream.write_all(&line)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    let mut reply = String::new();
    BufReader::new(stream.take(REPLY_LEN_MAX as u64)).read_line(&mut reply)?;
    Ok(reply)
}

fn explain(error: io::Error, path: &Path, timeout: Option<Duration>) -> CallError {
    let path = path.to_owned();
    match (error.kind(), timeout) {
        (io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, Some(timeout)) => {
            CallError::TimedOut { path, timeout }
        }
        (io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof, _) => CallError::HungUp { path },
        (io::ErrorKind::InvalidData, _) => CallError::Garbled {
            path,
            reason: "it is not UTF-8".into(),
        },
        _ => CallError::Io { path, source: error },
    }
}
