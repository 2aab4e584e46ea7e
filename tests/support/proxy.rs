//! A network that breaks: connections to a server that are cut after a while, in the middle of what is said, on which
//! nothing is heard any more although nobody closed them, or on which the server hears late.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use fastrand::Rng;

/// Passes on what clients and server say, on a port of its own.
pub struct Proxy {
    port: u16,
    network: Arc<Network>,
}

struct Network {
    /// Connections are cut.
    is_bad: AtomicBool,
    /// How often one was.
    cuts: AtomicU64,
    rng: Mutex<Rng>,
    connections: Mutex<Vec<Arc<Connection>>>,
}

struct Connection {
    /// Bytes that it may live for while the network is bad.
    left: AtomicI64,
    /// It waits for jobs, or did.
    is_bell: AtomicBool,
    is_silent: AtomicBool,
    /// What the server answers does not come through.
    loses_answers: AtomicBool,
    /// What the client says is held up on its way.
    is_held: AtomicBool,
    held: Mutex<Vec<u8>>,
    server: TcpStream,
}

/// What a client says that waits for jobs. (A script may speak of it.)
const BELL: &[u8] = b"$6\r\nBLMOVE\r\n";

impl Proxy {
    pub fn start(server: u16, rng: Rng) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Arc::new(Network {
            is_bad: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
            rng: Mutex::new(rng),
            connections: Mutex::default(),
        });
        let shared = network.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    shared.join(&client, &server);
                }
            }
        });
        Proxy { port, network }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// From now on every connection is cut after some bytes; those that are there too. Or no more.
    pub fn be_bad(&self, bad: bool) {
        self.network.is_bad.store(bad, Relaxed);
    }

    /// All connections that are there, or those alone on which jobs are waited for, fall silent: both sides see them
    /// open, and nothing comes through any more.
    pub fn silence(&self, bells_only: bool) {
        let connections = self.network.connections.lock().unwrap();
        let meant = connections
            .iter()
            .filter(|connection| !bells_only || connection.is_bell.load(Relaxed));
        meant.for_each(|connection| connection.is_silent.store(true, Relaxed));
    }

    /// On the connections that are there, but for those on which jobs are waited for, nothing that the server says comes
    /// through any more.
    pub fn lose_answers(&self) {
        self.calls(|connection| connection.loses_answers.store(true, Relaxed));
    }

    /// On the connections that are there, but for those on which jobs are waited for, what the client says does not
    /// reach the server, nor does its end.
    pub fn hold_calls(&self) {
        self.calls(|connection| connection.is_held.store(true, Relaxed));
    }

    fn calls(&self, change: impl Fn(&Connection)) {
        let connections = self.network.connections.lock().unwrap();
        let calls = connections
            .iter()
            .filter(|connection| !connection.is_bell.load(Relaxed));
        calls.for_each(|connection| change(connection));
    }

    /// How many clients are held up.
    pub fn held(&self) -> usize {
        let connections = self.network.connections.lock().unwrap();
        let is_held = |connection: &&Arc<Connection>| !connection.held.lock().unwrap().is_empty();
        connections.iter().filter(is_held).count()
    }

    /// All that was held up reaches the server now, unless that has closed the connection.
    pub fn release(&self) {
        for connection in &*self.network.connections.lock().unwrap() {
            let said = std::mem::take(&mut *connection.held.lock().unwrap());
            if !said.is_empty() {
                let _ = (&connection.server).write_all(&said);
                let _ = connection.server.shutdown(Shutdown::Write);
            }
        }
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.network.cuts.load(Relaxed)
    }
}

impl Network {
    /// Passes bytes on in both directions, as long as there are bytes left that this connection may live for.
    fn join(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        // From a handshake to many answers.
        let left = 1_i64 << self.rng.lock().unwrap().u32(12..19);
        let connection = Arc::new(Connection {
            left: AtomicI64::new(left),
            is_bell: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            loses_answers: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            held: Mutex::default(),
            server: server.try_clone().unwrap(),
        });
        self.connections.lock().unwrap().push(connection.clone());
        for (from, to, is_answer) in [(client, server, false), (server, client, true)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (network, connection) = (self.clone(), connection.clone());
            std::thread::spawn(move || network.pass_on(from, to, is_answer, &connection));
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool, connection: &Connection) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if buffer[..count].windows(BELL.len()).any(|word| word == BELL) {
                connection.is_bell.store(true, Relaxed);
            }
            if connection.is_silent.load(Relaxed) || is_answer && connection.loses_answers.load(Relaxed) {
                continue;
            }
            if !is_answer && connection.is_held.load(Relaxed) {
                connection
                    .held
                    .lock()
                    .unwrap()
                    .extend_from_slice(&buffer[..count]);
                continue;
            }
            let mut passed = count;
            if self.is_bad.load(Relaxed) {
                let before = connection.left.fetch_sub(i64::try_from(count).unwrap(), Relaxed);
                passed = count.min(usize::try_from(before).unwrap_or(0));
            }
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            if passed < count {
                self.cuts.fetch_add(1, Relaxed);
                break;
            }
        }
        if !connection.held.lock().unwrap().is_empty() {
            return;
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
