//! A redis-server of its own, on a free loopback port and in a directory of its own, stopped by its process id.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use nix::unistd::Pid;
use redis::Connection;

use super::wait_for;

pub struct Server {
    dir: tempfile::TempDir,
    port: u16,
    program: Vec<String>,
    options: Vec<String>,
    child: Option<Child>,
}

/// No snapshots: what a test wants kept, it says.
const NO_SNAPSHOTS: [&str; 2] = ["--save", ""];

/// What makes a server keep each command that it answered.
pub const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start(options: &[&str]) -> Server {
        let mut server = Server {
            dir: tempfile::tempdir().unwrap(),
            port: free_port(),
            program: vec![program()],
            options: [&NO_SNAPSHOTS, options]
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect(),
            child: None,
        };
        server.launch(&[]);
        server
    }

    /// A Sentinel that watches the server on this port under the name `main`; `more`: further lines of its settings.
    pub fn sentinel(master: u16, more: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} 2\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 10000\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        let mut sentinel = Server {
            dir,
            port: free_port(),
            program: vec![program(), file.display().to_string()],
            options: vec!["--sentinel".to_owned()],
            child: None,
        };
        sentinel.launch(&[]);
        sentinel.hurry();
        sentinel
    }

    /// A Sentinel looks around and speaks to the others more often, so that a test need not wait for it. One before
    /// Redis 7 does not know how, and one with a password is left as it is. (Four times the second period is what the
    /// others wait before they undo a promotion that they have not heard of.)
    fn hurry(&self) {
        let mut debug = redis::cmd("SENTINEL");
        debug.arg("DEBUG").arg("info-period").arg(200);
        debug.arg("publish-period").arg(1000);
        let client = redis::Client::open(self.url()).unwrap();
        let _ = client
            .get_connection()
            .and_then(|mut connection| debug.query::<redis::Value>(&mut connection));
    }

    /// Starts it (again) in its directory, with further options.
    pub fn launch(&mut self, more: &[&str]) {
        // `setpriv`: should this process die, the server does too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg("--dir").arg(self.dir.path());
        command.args(&self.options).args(more);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let mut child = command.spawn().expect("redis-server and setpriv are installed");
        wait_for(
            "the server to listen",
            || self.log(),
            || {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "the server ended: {ended:?}\n{}", self.log());
                std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
            },
        );
        self.child = Some(child);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its URL, for nobody in particular.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The same for a user, given as `NAME:PASSWORD`.
    pub fn url_for(&self, user: &str) -> String {
        format!("redis://{user}@127.0.0.1:{}/0", self.port)
    }

    /// A connection of the test's own, once the server has loaded its data.
    pub fn connection(&self) -> Connection {
        connection(&self.url(), || self.log())
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `POOL_REDIS_SERVER` names another server with the options of redis-server, such as Valkey's.
fn program() -> String {
    std::env::var("POOL_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A connection to a server that answers by now or will soon.
pub fn connection(url: &str, state: impl Fn() -> String) -> Connection {
    let client = redis::Client::open(url).unwrap();
    wait_for(&format!("{url} to answer"), state, || {
        let mut connection = client.get_connection().ok()?;
        redis::cmd("PING").query::<String>(&mut connection).ok()?;
        Some(connection)
    })
}

/// This connection's number at the server.
pub fn client_id(connection: &mut Connection) -> u64 {
    redis::cmd("CLIENT").arg("ID").query(connection).unwrap()
}

/// A line of each connection to the server but this one.
pub fn clients(connection: &mut Connection) -> Vec<String> {
    let own = client_id(connection);
    let all: String = redis::cmd("CLIENT").arg("LIST").query(connection).unwrap();
    let others = all
        .lines()
        .filter(|client| !client.starts_with(&format!("id={own} ")));
    others.map(str::to_owned).collect()
}

/// A loopback port that nobody listens on. No other call in this process gets it, nor does anybody whom the kernel gives
/// a port, for a listener or for a connection: those are 32768 and more, unless a machine was told otherwise.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    loop {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if can_be_bound(port) {
            return port;
        }
    }
}

/// Whether a server could listen there. The port is bound and never listened on: a process that another thread forks in
/// this moment holds a copy of the socket until it runs its program, and a copy that listens would answer who waits for
/// the server.
fn can_be_bound(port: u16) -> bool {
    let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let socket = socket::socket(AddressFamily::Inet, kind, flags, None).unwrap();
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    let address = SockaddrIn::new(127, 0, 0, 1, port);
    socket::bind(socket.as_raw_fd(), &address).is_ok()
}
