//! The control socket against well-behaved, slow and hostile clients.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are tests too

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pool::control::client::{CallError, call};
use pool::control::server::{self, Call, ControlError, Listener};
use pool::control::{REQUEST_LEN_MAX, Reply, Request};
use tokio::sync::{mpsc, oneshot};

const SOON: Duration = Duration::from_secs(20);

/// A server in a thread of its own that answers every request by its Debug text.
struct Served {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn start(dir: &Path) -> Self {
        Served::start_with(dir, |listener| listener)
    }

    fn start_with(dir: &Path, set: fn(Listener) -> Listener) -> Self {
        let path = dir.join("pool.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let socket = path.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                let listener = set(server::bind(&socket).expect("the socket is free"));
                let (calls, mut received) = mpsc::channel(8);
                let serving = tokio::spawn(listener.serve(calls));
                ready.send(()).unwrap();
                tokio::pin!(stopped);
                loop {
                    tokio::select! {
                        _ = &mut stopped => break,
                        Some(Call { request, reply }) = received.recv() => {
                            let _ = reply.send(Reply::done(format!("{request:?}")));
                        }
                    }
                }
                drop(received);
                serving.await.unwrap();
            });
        });
        is_ready.recv_timeout(SOON).expect("the server starts");
        let (stop, thread) = (Some(stop), Some(thread));
        Served { path, stop, thread }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Sends raw bytes and returns the first line that comes back.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_request_gets_its_reply() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    let reply = call(&served.path, &Request::Stop { now: true }, Some(SOON)).unwrap();
    assert_eq!(reply, Reply::done("Stop { now: true }"));
}

#[test]
fn who_waits_for_the_end_is_answered_however_late_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    let socket = path.clone();
    runtime().block_on(async move {
        let (calls, mut received) = mpsc::channel(8);
        let mut serving = tokio::spawn(server::bind(&socket).unwrap().serve(calls));
        let client = std::thread::spawn(move || call(&path, &Request::Stop { now: true }, Some(SOON)));
        let Call { reply, .. } = received.recv().await.unwrap();
        drop(received);
        // Longer than it waits for clients that take no answer.
        let late = tokio::time::timeout(Duration::from_millis(1500), &mut serving);
        assert!(late.await.is_err(), "it left before the answer");
        reply.send(Reply::done("stopped")).unwrap();
        serving.await.unwrap();
        assert_eq!(client.join().unwrap().unwrap(), Reply::done("stopped"));
    });
}

#[test]
fn one_connection_carries_many_requests() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    let mut stream = served.connect();
    stream
        .write_all(b"{\"request\":\"reload\"}\n{\"request\":\"drain\"}\n")
        .unwrap();
    let lines: Vec<String> = BufReader::new(stream)
        .lines()
        .take(2)
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines[0], r#"{"reply":"done","message":"Reload"}"#);
    assert_eq!(lines[1], r#"{"reply":"done","message":"Drain"}"#);
}

#[test]
fn only_the_owner_may_open_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    let mode = std::fs::metadata(&served.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_supervisor_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    let runtime = runtime();
    let _inside = runtime.enter();
    let error = server::bind(&served.path).unwrap_err();
    let ours = i32::try_from(std::process::id()).unwrap();
    assert!(
        matches!(&error, ControlError::AlreadyRunning { path, pid: Some(pid) } if *path == served.path && *pid == ours),
        "{error}"
    );
    // The refusal has not harmed the one that runs.
    assert!(call(&served.path, &Request::Status, Some(SOON)).is_ok());
}

#[test]
fn of_many_that_start_at_once_one_owns_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    for _round in 0..50 {
        let together = std::sync::Barrier::new(8);
        let start = || {
            let runtime = runtime();
            let _inside = runtime.enter();
            together.wait();
            let bound = server::bind(&path);
            together.wait(); // nobody lets go before all have tried
            bound.is_ok()
        };
        let owners = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .filter(|bound| *bound)
                .count()
        });
        assert_eq!(owners, 1);
        assert!(!path.exists());
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    std::fs::write(dir.path().join("pool.sock.lock"), "4711\n").unwrap();
    let served = Served::start(dir.path());
    assert!(call(&served.path, &Request::Status, Some(SOON)).is_ok());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    std::fs::write(&path, "precious").unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let error = server::bind(&path).unwrap_err();
    assert!(matches!(error, ControlError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_planted_link_in_place_of_the_lock_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "4711\n").unwrap();
    std::os::unix::fs::symlink(&precious, dir.path().join("pool.sock.lock")).unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let error = server::bind(&dir.path().join("pool.sock"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "4711\n");
}

#[test]
fn the_files_are_gone_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    drop(Served::start(dir.path()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn nobody_there_is_told_apart_from_other_troubles() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    let absent = call(&path, &Request::Status, Some(SOON)).unwrap_err();
    assert!(matches!(absent, CallError::Nobody { .. }), "{absent}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let stale = call(&path, &Request::Status, Some(SOON)).unwrap_err();
    assert!(matches!(stale, CallError::Nobody { .. }), "{stale}");
}

#[test]
fn garbage_gets_an_error_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    for garbage in [
        &b"hello\n"[..],
        b"\n",
        b"\xff\xfe\0\n",
        b"{\"request\":\"fly\"}\n",
        b"[1]\n",
    ] {
        let line = served.exchange(garbage);
        assert!(line.contains("not understood"), "{line}");
    }
    assert!(call(&served.path, &Request::Status, Some(SOON)).is_ok());
}

#[test]
fn a_request_without_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    let line = served.exchange(&vec![b'x'; REQUEST_LEN_MAX]);
    assert!(line.contains("longer than 16384 bytes"), "{line}");
}

#[test]
fn more_silent_clients_than_are_served_at_once_only_delay_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start_with(dir.path(), |listener| {
        listener.with_patience(Duration::from_millis(200))
    });
    let mut silent: Vec<UnixStream> = (0..100).map(|_| served.connect()).collect();
    let patient = Some(Duration::from_secs(60));
    assert!(call(&served.path, &Request::Status, patient).is_ok());
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0, "it was hung up on");
}

#[test]
fn a_server_that_hangs_with_a_full_queue_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // Nobody accepts: each caller stays in the queue, until there is no room.
    let timeout = Duration::from_millis(10);
    let queue = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let queue: usize = queue.trim().parse::<usize>().unwrap().min(128);
    for _ in 0..queue + 3 {
        let timed_out = call(&path, &Request::Status, Some(timeout));
        assert!(
            matches!(timed_out, Err(CallError::TimedOut { .. })),
            "{timed_out:?}"
        );
    }
}

#[test]
fn a_supervisor_that_leaves_hangs_up_without_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.sock");
    let runtime = runtime();
    let (calls, mut received) = mpsc::channel(1);
    let listener = {
        let _inside = runtime.enter();
        server::bind(&path).unwrap()
    };
    let serving = runtime.spawn(listener.serve(calls));
    let caller = std::thread::spawn({
        let path = path.clone();
        move || call(&path, &Request::Reload, Some(SOON))
    });
    runtime.block_on(async move {
        let call = received.recv().await.unwrap();
        drop((call, received));
        serving.await.unwrap();
    });
    let error = caller.join().unwrap().unwrap_err();
    assert!(matches!(error, CallError::HungUp { .. }), "{error}");
    assert!(!path.exists());
}
