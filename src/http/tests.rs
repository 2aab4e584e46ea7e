//! The server against well-behaved, wrong and hostile clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::server::{ListenError, bind};
use crate::config::MetricsConfig;
use crate::control::{Reply, Request};
use crate::fleet::health::Health;
use crate::fleet::snapshot::Snapshot;

/// Longest wait for an answer, on a machine under load.
const SOON: Duration = Duration::from_secs(20);

/// A server in a thread of its own; what it says of each request is the request.
struct Served {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn start(token_file: Option<&Path>) -> Self {
        let config = MetricsConfig {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            token_file: token_file.map(Path::to_owned),
        };
        let (stop, mut stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                let listener = bind(&config).unwrap().unwrap();
                ready.send(listener.url()).unwrap();
                let (calls, mut received) = mpsc::channel(8);
                let serving = tokio::spawn(listener.serve(calls));
                loop {
                    tokio::select! {
                        _ = &mut stopped => break,
                        Some(call) = received.recv() => {
                            let _ = call.reply.send(reply_to(&call.request));
                        }
                    }
                }
                drop(received);
                serving.await.unwrap();
            });
        });
        let url = is_ready.recv_timeout(SOON).unwrap();
        let address = url
            .strip_prefix("http://")
            .and_then(|url| url.strip_suffix("/metrics"));
        Served {
            address: address.unwrap().parse().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Sends raw bytes; everything that comes back until the server hangs up.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A server that hangs up on what it has not read resets the connection; its answer came before.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, path: &str, header: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}\r\n").as_bytes())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Metrics that name the request; a supervisor that has just begun.
fn reply_to(request: &Request) -> Reply {
    match request {
        Request::Health => Reply::Health {
            health: Health::of(&Snapshot::default()),
        },
        Request::Status => Snapshot::default().into(),
        other => Reply::Metrics {
            text: format!("{other:?}\n"),
        },
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn asked(openmetrics: bool) -> String {
    format!("\r\n\r\n{:?}\n", Request::Metrics { openmetrics })
}

#[test]
fn the_metrics_are_read_by_get() {
    let served = Served::start(None);
    let answer = served.get("/metrics", "");
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(
        answer.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with(&asked(false)), "{answer}");
    // A query changes nothing.
    assert_eq!(status(&served.get("/metrics?a=b", "")), "200");
}

#[test]
fn openmetrics_is_sent_to_those_who_accept_it() {
    let answer = Served::start(None).get(
        "/metrics",
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(
        answer.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")
    );
    assert!(answer.ends_with(&asked(true)), "{answer}");
}

#[test]
fn a_head_has_no_body() {
    let answer = Served::start(None).exchange(b"HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&answer), "200");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn what_is_not_there_and_what_can_not_be_done_is_said() {
    let served = Served::start(None);
    for path in ["/", "/metrics/", "/etc/passwd", "*"] {
        assert_eq!(status(&served.get(path, "")), "404", "{path}");
    }
    let answer = served.exchange(b"DELETE /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&answer), "405");
    assert!(answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
}

#[test]
fn probes_show_no_token_and_figures_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "sesame").unwrap();
    let served = Served::start(Some(&path));
    for (page, expected) in [
        ("/livez", "200"),
        ("/readyz", "503"),
        ("/startupz", "503"),
        ("/api/v1/scale", "401"),
        ("/metrics", "401"),
    ] {
        assert_eq!(status(&served.get(page, "")), expected, "{page}");
    }
    assert!(
        served
            .get("/readyz", "")
            .ends_with("\r\n\r\nthe application is not loaded yet\n")
    );
    let answer = served.get("/api/v1/scale", "Authorization: Bearer sesame\r\n");
    assert!(
        answer.contains("\r\ncontent-type: application/json\r\n"),
        "{answer}"
    );
}

#[test]
fn a_client_that_talks_nonsense_is_hung_up_on_and_others_are_served() {
    let served = Served::start(None);
    let too_long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\0\0\0\0\r\n\r\n",
        too_long.as_bytes(),
    ] {
        let mut stream = served.connect();
        let _ = stream.write_all(nonsense);
        stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || status(&answer).starts_with('4'), "{answer}");
    }
    let _silent: Vec<TcpStream> = (0..8).map(|_| served.connect()).collect();
    assert_eq!(status(&served.get("/metrics", "")), "200");
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "open sesame\n").unwrap();
    let served = Served::start(Some(&path));
    for wrong in [
        "",
        "Authorization: Bearer open\r\n",
        "Authorization: Basic open sesame\r\n",
    ] {
        let answer = served.get("/metrics", wrong);
        assert_eq!(status(&answer), "401", "{wrong}");
        assert!(answer.contains("\r\nwww-authenticate: Bearer\r\n"), "{answer}");
    }
    let answer = served.get("/metrics", "Authorization: Bearer open sesame\r\n");
    assert_eq!(status(&answer), "200", "{answer}");
}

#[test]
fn what_can_not_be_served_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let refused = |listen: &str, token: bool| {
        let config = MetricsConfig {
            listen: Some(listen.parse().unwrap()),
            token_file: token.then(|| path.clone()),
        };
        runtime().block_on(async { bind(&config).unwrap_err() })
    };
    assert!(matches!(refused("127.0.0.1:0", true), ListenError::Token { .. }));
    std::fs::write(&path, " \n").unwrap();
    assert!(matches!(
        refused("127.0.0.1:0", true),
        ListenError::NoToken { .. }
    ));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let expected = format!(
        "cannot listen on {address} for metrics (`metrics.listen`): the address is in use by another program"
    );
    assert_eq!(refused(&address.to_string(), false).to_string(), expected);
    // TEST-NET-1 of RFC 5737 is nobody's.
    let elsewhere = refused("192.0.2.1:0", false).to_string();
    assert!(
        elsewhere.contains("this machine has no such address"),
        "{elsewhere}"
    );
}
