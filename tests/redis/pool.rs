//! A supervisor of RQ workers under test: its own directory and processes, stopped by process id.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::wait_for;

/// Tables for a pool that serves another queue, too.
pub const TWO_QUEUES: &str = "[pools.default]\nqueues = [\"high\", \"default\"]\n";

/// A running `pool --runtime rq` and its directory.
pub struct Pool {
    dir: tempfile::TempDir,
    child: Option<Child>,
    /// How often it was started.
    life: u32,
}

/// The interpreter that has RQ.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rq-venv");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        format!("{}/bin/python", String::from_utf8(output.stdout).unwrap().trim())
    })
}

impl Pool {
    /// A pool that is not started yet. `broker` holds keys of `[broker]` after the URL, and further tables.
    pub fn new(url: &str, broker: &str) -> Pool {
        Pool::configured("", &format!("[broker]\nurl = \"{url}\"\n{broker}"))
    }

    /// A pool that finds its server by a settings module of RQ's.
    pub fn with_settings(module: &str) -> Pool {
        let pool = Pool::configured("config = \"settings\"\n", "");
        fs::write(pool.path("settings.py"), module).unwrap();
        pool
    }

    /// `rq`: keys of `[rq]`; `more`: further tables.
    fn configured(rq: &str, more: &str) -> Pool {
        let pool = Pool {
            dir: tempfile::tempdir().unwrap(),
            child: None,
            life: 0,
        };
        let dir = pool.dir.path().display();
        fs::write(pool.path("app.py"), include_str!("app.py")).unwrap();
        let text = format!(
            "socket = \"{dir}/socket\"\n[app]\nruntime = \"rq\"\npython = \"{}\"\ndirectory = \"{dir}\"\n\
             preload = [\"app\"]\n[rq]\nserializer = \"json\"\n{rq}\
             [defaults]\nqueues = [\"default\"]\nmin_workers = 3\nmax_workers = 3\n{more}",
            python()
        );
        fs::write(pool.path("pool.toml"), text).unwrap();
        pool
    }

    /// The same with keys of `[rq]`.
    pub fn start_with(url: &str, rq: &str) -> Pool {
        let mut pool = Pool::configured(rq, &format!("[broker]\nurl = \"{url}\"\n"));
        pool.launch();
        pool
    }

    /// Starts a pool and waits until its application is loaded.
    pub fn start(url: &str, broker: &str) -> Pool {
        let mut pool = Pool::new(url, broker);
        pool.launch();
        pool
    }

    /// Starts the supervisor (again) and waits until the application is loaded.
    pub fn launch(&mut self) {
        self.spawn();
        self.wait_for("the application to load", |pool| {
            pool.state()["generation"].as_u64() >= Some(1)
        });
    }

    /// Starts the supervisor.
    pub fn spawn(&mut self) {
        self.life += 1;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = self.command("run");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// A file in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pool"));
        command
            .arg(verb)
            .arg("--config")
            .arg(self.path("pool.toml"))
            .current_dir(self.dir.path())
            .env("LEDGER", self.path("ledger"))
            .env("LIFE", self.life.to_string())
            // A server that is away or refuses is noticed by heartbeats, too: no test need wait long for them.
            .env("POOL_JOB_MONITORING_INTERVAL", "1s")
            .env("POOL_LOG_LEVEL", "debug");
        command
    }

    /// The snapshot of `pool status --json`; `Null` while nobody answers.
    pub fn state(&self) -> Value {
        let output = self.command("status").arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Runs a verb that the supervisor is asked to follow.
    pub fn ask(&self, verb: &str) {
        let output = self.command(verb).output().unwrap();
        assert!(output.status.success(), "{verb}: {output:?}\n{}", self.log());
    }

    /// What `pool check` says, and how it ends.
    pub fn check(&self) -> (String, ExitStatus) {
        let output = self.command("check").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status)
    }

    /// Waits until `check` holds.
    pub fn wait_for(&self, what: &str, mut check: impl FnMut(&Pool) -> bool) {
        wait_for(what, || self.log(), || check(self).then_some(()));
    }

    /// Waits until no worker has a job, not even the housekeeping that each pool begins with.
    pub fn wait_until_idle(&self) {
        self.wait_for("workers to be idle", |pool| {
            pool.state()["pools"]["default"]["busy"] == 0
        });
    }

    /// Process ids of the workers.
    pub fn workers(&self) -> BTreeSet<i32> {
        let state = self.state();
        let processes = state["pools"]["default"]["processes"].as_array().cloned();
        let pid = |worker: &Value| i32::try_from(worker["pid"].as_i64()?).ok();
        processes.unwrap_or_default().iter().filter_map(pid).collect()
    }

    /// The template's process id, if there is one.
    pub fn template(&self) -> Option<i32> {
        i32::try_from(self.state()["template_pid"].as_i64()?).ok()
    }

    /// How often the supervisor was started.
    pub fn life(&self) -> u32 {
        self.life
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// kill -9 of the supervisor.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    /// Waits for the supervisor's end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        wait_for(
            "the supervisor to end",
            || self.log(),
            || child.try_wait().unwrap(),
        )
    }

    /// TERM, and it ends well.
    pub fn assert_clean_stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// The end of what the supervisor logged, for failures.
    pub fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(100)..].join("\n")
    }

    /// All that the supervisor logged.
    pub fn whole_log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::env::var_os("POOL_KEEP").is_some() {
            let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
            eprintln!("kept: {}", dir.keep().display());
        }
    }
}
