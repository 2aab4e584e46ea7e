//! What the supervisor needs of its surroundings and gives to them: systemd, a log that somebody reads or nobody.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kit::{PATIENCE, Place};

/// Where systemd listens.
struct Systemd {
    socket: UnixDatagram,
}

impl Systemd {
    fn listen(at: &Path) -> Self {
        let socket = UnixDatagram::bind(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Systemd { socket }
    }

    /// The next notification with this line.
    fn wait_for(&self, line: &str) -> String {
        let mut before = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length = self
                .socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{error}: no {line} after {before:?}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|found| found.starts_with(line)) {
                return text;
            }
            before.push(text);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn systemd_hears_of_every_turn() {
    let place = Place::new();
    let systemd = Systemd::listen(&place.path("notify"));
    let mut pool = place
        .command(["run"])
        .env("NOTIFY_SOCKET", place.path("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    systemd.wait_for("READY=1");
    systemd.wait_for("WATCHDOG=1");
    systemd.wait_for("WATCHDOG=1");
    signal(&pool, Signal::SIGHUP);
    let reloading = systemd.wait_for("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    systemd.wait_for("READY=1");
    signal(&pool, Signal::SIGTERM);
    systemd.wait_for("STOPPING=1");
    assert_eq!(pool.wait().unwrap().code(), Some(0));
}

#[test]
fn what_systemd_says_to_the_supervisor_is_not_for_jobs() {
    let place = Place::new();
    place.write(
        "config.toml",
        "[app]\nruntime = 'command'\n[tasks.env]\ncommand = ['env']\n",
    );
    let _systemd = Systemd::listen(&place.path("notify"));
    let mut pool = place
        .command(["run", "--config", "config.toml"])
        .env("NOTIFY_SOCKET", place.path("notify"))
        .env("WATCHDOG_USEC", "60000000")
        .env("LISTEN_FDS", "1")
        .env("GREETING", "hello")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let printed = place.lines(&["enqueue", "env", "--wait", "--raw"]);
    assert!(printed.contains(&"GREETING=hello".to_owned()), "{printed:?}");
    let private = ["NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_"];
    let is_private = |line: &String| private.iter().any(|name| line.starts_with(name));
    assert!(!printed.iter().any(is_private), "{printed:?}");
    signal(&pool, Signal::SIGTERM);
    assert_eq!(pool.wait().unwrap().code(), Some(0));
}

#[test]
fn a_process_list_shows_the_pools_and_no_password() {
    let place = Place::new();
    let systemd = Systemd::listen(&place.path("notify"));
    let mut pool = place
        .command(["run", "--broker", "sqlite:a-name-that-nobody-shall-see.db"])
        .env("NOTIFY_SOCKET", place.path("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    systemd.wait_for("READY=1");
    let shown = std::fs::read(format!("/proc/{}/cmdline", pool.id())).unwrap();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(shown.trim_end_matches('\0'), "pool: supervisor default");
    signal(&pool, Signal::SIGTERM);
    assert_eq!(pool.wait().unwrap().code(), Some(0));
}

#[test]
fn a_supervisor_whose_log_nobody_reads_goes_on() {
    let place = Place::new();
    // The read end stays open and is never read; the level makes sure that the pipe fills.
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut pool = place
        .command(["run", "--log-level", "trace"])
        .stderr(writer)
        .spawn()
        .unwrap();
    for _ in 0..10 {
        let lines = place.lines(&["enqueue", "fib", "94", "--count", "100"]);
        place.run(&[vec!["wait"], lines.iter().map(String::as_str).collect()].concat());
    }
    assert_eq!(place.lines(&["enqueue", "fib", "10", "--wait"]), ["55"]);
    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(pool.wait().unwrap().code(), Some(0));
}

#[test]
fn a_supervisor_whose_log_reader_left_goes_on() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut pool = place.command(["run"]).stderr(writer).spawn().unwrap();
    assert_eq!(place.lines(&["enqueue", "fib", "10", "--wait"]), ["55"]);
    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(pool.wait().unwrap().code(), Some(0));
}

#[test]
fn the_log_is_json_when_asked_for() {
    let place = Place::new();
    let pool = place
        .command(["run", "--burst", "--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = pool.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["message"], "starting");
    assert_eq!(lines[0]["level"], "INFO");
    assert!(
        lines
            .iter()
            .any(|line| line["message"] == "app loaded" && line["generation"] == 1)
    );
}

#[test]
fn the_demonstration_grows_and_falls_back() {
    let place = Place::new();
    let output = place.run(&["demo", "--load", "6s", "--period", "400ms", "--window", "2s"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}\n{log}");
    assert!(
        log.contains("scaled up pool=default workers=2→3 utilization="),
        "{log}"
    );
    assert!(
        log.contains("scaled down pool=default workers=3→2 utilization="),
        "{log}"
    );
    let verdict = said.lines().last().unwrap();
    assert!(verdict.starts_with("The pool grew from 2 to "), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
