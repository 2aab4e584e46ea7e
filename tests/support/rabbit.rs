//! A RabbitMQ server of its own, on free loopback ports and in a directory of its own, stopped by its process id. It needs
//! neither root nor a service manager. Tests share one: each has a virtual host of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::server::free_port;
use super::wait_for;

/// Debian's wrapper in `/usr/sbin` wants the user rabbitmq; the programs behind it do not.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

pub struct Rabbit {
    dir: PathBuf,
    ports: Ports,
    /// Erlang's table of node names. Without it the server would start one that stays.
    epmd: Child,
    child: Option<Child>,
}

struct Ports {
    amqp: u16,
    management: u16,
    epmd: u16,
    nodes: u16,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    pub ready: u64,
    pub unacked: u64,
}

/// The server that all tests of this process share. It ends with the process.
pub fn shared() -> &'static Rabbit {
    static SHARED: OnceLock<Rabbit> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        // The kernel kills a server when the thread that started it ends: that of a test ends before the others do.
        std::thread::spawn(move || {
            tell.send(Rabbit::start("")).unwrap();
            loop {
                std::thread::park();
            }
        });
        told.recv().expect("the server starts")
    })
}

impl Rabbit {
    /// Starts a server and waits until it takes connections. `more`: further lines of its settings.
    pub fn start(more: &str) -> Rabbit {
        let dir = directory();
        let [amqp, management, epmd, nodes] = std::array::from_fn(|_| free_port());
        let ports = Ports {
            amqp,
            management,
            epmd,
            nodes,
        };
        for name in ["home", "mnesia", "log"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let settings = format!(
            "vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 50MB\n\
             management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n{more}"
        );
        fs::write(dir.join("rabbitmq.conf"), settings).unwrap();
        fs::write(dir.join("env.conf"), "").unwrap();
        fs::write(dir.join("enabled_plugins"), "[rabbitmq_management].").unwrap();
        let mut cookie = fs::OpenOptions::new();
        let mut cookie = cookie
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(dir.join("home/.erlang.cookie"));
        let secret = format!("{:032x}", fastrand::u128(..));
        cookie.as_mut().unwrap().write_all(secret.as_bytes()).unwrap();
        let epmd = start_epmd(ports.epmd);
        let mut rabbit = Rabbit {
            dir,
            ports,
            epmd,
            child: None,
        };
        rabbit.launch();
        rabbit
    }

    /// Starts it (again) in its directory.
    pub fn launch(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("out"))
            .unwrap();
        let earlier = self.log().len();
        // `setpriv`: should this process die, the server does too.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(format!("{PROGRAMS}/rabbitmq-server"));
        self.surround(&mut command);
        // With its own input the script becomes the server; else it stays beside it.
        command.env("RABBITMQ_ALLOW_INPUT", "1");
        command.env("RABBITMQ_SERVER_START_ARGS", "-noinput");
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let mut child = command.spawn().expect("setpriv is installed");
        wait_for(
            "RabbitMQ to start",
            || self.log(),
            || {
                let ended = child.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "is rabbitmq-server installed? {ended:?}\n{}",
                    self.log()
                );
                self.log()[earlier..].contains("completed with").then_some(())
            },
        );
        self.child = Some(child);
    }

    /// Where the programs of RabbitMQ find this server.
    fn surround(&self, command: &mut Command) {
        let Ports {
            amqp, epmd, nodes, ..
        } = self.ports;
        let path = |name: &str| self.dir.join(name);
        command.env("HOME", path("home"));
        command.env("ERL_EPMD_PORT", epmd.to_string());
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", format!("test{amqp}@localhost"));
        command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODE_PORT", amqp.to_string());
        command.env("RABBITMQ_DIST_PORT", nodes.to_string());
        command.env("RABBITMQ_MNESIA_BASE", path("mnesia"));
        command.env("RABBITMQ_LOG_BASE", path("log"));
        command.env("RABBITMQ_PID_FILE", path("pid"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"));
        command.env("RABBITMQ_CONF_ENV_FILE", path("env.conf"));
        command.env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"));
        // The channels' own clock, which looks for what is unacknowledged for too long, ticks each minute by default.
        let arguments = "-kernel inet_dist_use_interface {127,0,0,1} -rabbit channel_tick_interval 1000";
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments);
    }

    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// The URL of a virtual host, as Celery reads it.
    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.ports.amqp)
    }

    /// A new virtual host; its name.
    pub fn new_vhost(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let vhost = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.api("PUT", &format!("/vhosts/{vhost}"), Some(&json!({})));
        vhost
    }

    /// What the queue holds; `None`: there is no such queue.
    pub fn depth(&self, vhost: &str, queue: &str) -> Option<Depth> {
        // Without `disable_stats` the figures are some seconds old.
        let queues = self.api(
            "GET",
            &format!("/queues/{vhost}?disable_stats=true&enable_queue_totals=true"),
            None,
        );
        let queue = queues.as_array()?.iter().find(|each| each["name"] == queue)?;
        let number = |name: &str| queue[name].as_u64().unwrap_or(0);
        Some(Depth {
            ready: number("messages_ready"),
            unacked: number("messages_unacknowledged"),
        })
    }

    /// Closes all client connections of a virtual host, as an administrator does.
    pub fn close_connections(&self, vhost: &str) {
        let output = self.ctl(&["close_all_connections", "--vhost", vhost, "test"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Asks the management interface: `path` stands below `/api`. Null where it answers nothing.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.management)).unwrap();
        // HTTP/1.0: the answer ends with the connection. The name and password are guest:guest.
        let head = format!(
            "{method} /api{path} HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap();
        assert!(status.starts_with('2'), "{method} {path}: {answer}");
        if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(body).unwrap()
        }
    }

    /// Runs `rabbitmqctl`, which takes most of a second.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(format!("{PROGRAMS}/rabbitmqctl"));
        self.surround(&mut command);
        command.env_remove("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS");
        command.arg("-q").args(arguments).output().unwrap()
    }

    /// While this holds, the server reads nothing more from who publishes, and says so.
    pub fn set_memory_alarm(&self, is_set: bool) {
        let level = if is_set { "0" } else { "0.9" };
        let output = self.ctl(&["set_vm_memory_high_watermark", level]);
        assert!(output.status.success(), "{output:?}");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// kill -9. What is durable is there again after `launch`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What it wrote while it started, and what it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("out")).unwrap_or_default()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
        self.epmd.kill().unwrap();
        self.epmd.wait().unwrap();
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn start_epmd(port: u16) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "epmd", "-address", "127.0.0.1", "-port"]);
    command
        .arg(port.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut epmd = command.spawn().expect("setpriv is installed");
    wait_for("epmd to listen", String::new, || {
        let ended = epmd.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "is rabbitmq-server installed, with epmd? {ended:?}"
        );
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    epmd
}

/// A new directory of this process. Those of processes that are gone are removed: a shared server is never dropped.
fn directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(parent).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let owner = name
            .strip_prefix("rabbit-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path()); // another process may be at it, too
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = parent.join(format!("rabbit-{}-{number}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
    dir
}
