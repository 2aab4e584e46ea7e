//! A supervisor under test: its own directory, its own broker file, its own processes, stopped by process id.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool::time::Mono;
use serde_json::Value;

/// Longest wait for anything; generous, for a busy machine. A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The Python application that the tests run.
const APP: &str = include_str!("app.py");

/// A running `pool` and its directory.
pub struct Pool {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Pool {
    /// Starts a supervisor of the Python app with these settings added to the file, and waits until it has loaded the app.
    pub fn start(settings: &str) -> Pool {
        let pool = Pool::new(settings);
        pool.wait_for("the app to load", |pool| {
            pool.state()["generation"].as_u64() >= Some(1)
        });
        pool
    }

    /// As [`Pool::start`], with keys added to `[app]`.
    pub fn start_with_app(app: &str, settings: &str) -> Pool {
        Pool::start(&format!("{app}{settings}"))
    }

    /// As [`Pool::start`], without waiting.
    pub fn new(settings: &str) -> Pool {
        Pool::new_with_flags(&[], settings)
    }

    /// The same, with flags of `pool run`.
    pub fn new_with_flags(flags: &[&str], settings: &str) -> Pool {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mut pool = Pool { dir, child: None };
        fs::write(pool.path("app.py"), APP).expect("the app is written");
        pool.configure(settings);
        pool.launch_with(flags);
        pool
    }

    /// Another supervisor, with settings, processes and socket of its own, on the same broker.
    pub fn new_beside(other: &Pool, settings: &str) -> Pool {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mut pool = Pool { dir, child: None };
        fs::write(pool.path("app.py"), APP).expect("the app is written");
        pool.configure_on(&other.path("jobs.db"), settings);
        pool.launch();
        pool.wait_for("the app to load", |pool| {
            pool.state()["generation"].as_u64() >= Some(1)
        });
        pool
    }

    /// Writes the configuration: the app and the broker's place, then `settings`.
    pub fn configure(&self, settings: &str) {
        self.configure_on(&self.path("jobs.db"), settings);
    }

    /// As [`Pool::start`], of programs that the settings name.
    pub fn start_commands(settings: &str) -> Pool {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mut pool = Pool { dir, child: None };
        pool.configure_commands(settings);
        pool.launch();
        pool.wait_for("the tasks to be known", |pool| {
            pool.state()["generation"].as_u64() >= Some(1)
        });
        pool
    }

    /// As [`Pool::start`], of a template of the test's own: a script.
    pub fn start_template(script: &str, settings: &str) -> Pool {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mut pool = Pool { dir, child: None };
        let program = pool.path("template");
        crate::program::script(script, &program);
        let app = format!(
            "runtime = \"native\"\nprogram = \"{}\"\n{settings}",
            program.display()
        );
        pool.write_settings(&pool.path("jobs.db"), &app);
        pool.launch();
        pool.wait_for("the template to be ready", |pool| {
            pool.state()["generation"].as_u64() >= Some(1)
        });
        pool
    }

    /// As [`Pool::configure`], of programs that the settings name.
    pub fn configure_commands(&self, settings: &str) {
        self.write_settings(
            &self.path("jobs.db"),
            &format!("runtime = \"command\"\n{settings}"),
        );
    }

    fn configure_on(&self, broker: &Path, settings: &str) {
        let python = "runtime = \"python\"\npython = \"python3\"\npreload = [\"app\"]\n";
        self.write_settings(broker, &format!("{python}{settings}"));
    }

    fn write_settings(&self, broker: &Path, app: &str) {
        let (dir, broker) = (self.dir.path().display(), broker.display());
        let text = format!(
            "socket = \"{dir}/jobs.db.sock\"\n[broker]\nurl = \"sqlite:{broker}\"\nlease = \"3s\"\nheartbeat = \"500ms\"\n\
             [app]\ndirectory = \"{dir}\"\n{app}"
        );
        fs::write(self.path("pool.toml"), text).expect("the configuration is written");
    }

    /// Starts the supervisor (again) on the same directory.
    pub fn launch(&mut self) {
        self.launch_with(&[]);
    }

    /// The same, with flags.
    fn launch_with(&mut self, flags: &[&str]) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("the log opens");
        let mut command = match fs::read_to_string(self.path("group")) {
            Ok(group) => within(&group, self.command(&[&["run"], flags].concat())),
            Err(_) => self.command(&[&["run"], flags].concat()),
        };
        let child = command
            .env("POOL_LOG_LEVEL", self.log_level())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pool starts");
        self.child = Some(child);
    }

    /// The level that the settings ask for, or all that is worth reading after a failure.
    fn log_level(&self) -> &'static str {
        let settings = fs::read_to_string(self.path("pool.toml")).unwrap_or_default();
        // An empty variable counts as not set.
        if settings.contains("level =") { "" } else { "debug" }
    }

    /// Starts the supervisor as a member of a control group: `members` is the group's file of process ids.
    pub fn start_within(members: &std::path::Path, settings: &str) -> Pool {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mut pool = Pool { dir, child: None };
        fs::write(pool.path("app.py"), APP).expect("the app is written");
        fs::write(pool.path("group"), members.as_os_str().as_encoded_bytes()).expect("the group is noted");
        pool.configure(settings);
        pool.launch();
        pool
    }

    /// A file in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `pool VERB …` against this supervisor's configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pool"));
        command
            .args(args)
            .arg("--config")
            .arg(self.path("pool.toml"))
            .current_dir(self.dir.path())
            .env("LEDGER", self.path("ledger"));
        command
    }

    /// Runs a verb; its standard output and whether it exited 0.
    pub fn run(&self, args: &[&str]) -> (String, bool) {
        let output = self.command(args).output().expect("the verb runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.success())
    }

    /// Starts a verb that takes its time.
    pub fn begin(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).spawn().expect("the verb runs")
    }

    /// Runs a verb that is refused; what it says.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the verb runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Enqueues and returns the ids.
    pub fn enqueue(&self, args: &[&str]) -> Vec<String> {
        let (ids, ok) = self.run(&[&["enqueue"], args].concat());
        assert!(ok, "enqueue {args:?} failed\n{}", self.log());
        ids.lines().map(ToString::to_string).collect()
    }

    /// The snapshot of `pool status --json`; `Null` while nobody answers.
    pub fn state(&self) -> Value {
        let (text, _) = self.run(&["status", "--json"]);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The pool `default` in the snapshot.
    pub fn default_pool(&self) -> Value {
        self.state()["pools"]["default"].clone()
    }

    /// Waits until `check` holds.
    pub fn wait_for(&self, what: &str, check: impl Fn(&Pool) -> bool) {
        let until = Mono::now() + PATIENCE;
        while !check(self) {
            assert!(Mono::now() < until, "waited in vain for {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for jobs to end; each one's JSON line, by `pool wait`.
    pub fn wait(&self, ids: &[String]) -> Vec<Value> {
        let args: Vec<&str> = ["wait", "--timeout", "60s"]
            .into_iter()
            .chain(ids.iter().map(String::as_str))
            .collect();
        let (lines, _) = self.run(&args);
        let ended: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON lines"))
            .collect();
        assert_eq!(ended.len(), ids.len(), "not all jobs ended\n{}", self.log());
        ended
    }

    /// Asserts that every job finished well.
    pub fn assert_finished(&self, ids: &[String]) {
        for ended in self.wait(ids) {
            assert_eq!(ended["state"], "finished", "{ended}\n{}", self.log());
        }
    }

    /// Waits until this job runs; the worker's process id.
    pub fn pid_of(&self, job: &str) -> i32 {
        let running = |pool: &Pool| {
            let state = pool.default_pool();
            let processes = state["processes"].as_array()?.clone();
            let worker = processes
                .iter()
                .find(|worker| worker["job"] == job && worker["state"] == "busy")?;
            i32::try_from(worker["pid"].as_i64()?).ok()
        };
        self.wait_for("the job to run", |pool| running(pool).is_some());
        running(self).unwrap_or_else(|| panic!("the job ended while it was looked at\n{}", self.log()))
    }

    /// Process ids of the workers.
    pub fn workers(&self) -> BTreeSet<i32> {
        let state = self.default_pool();
        let processes = state["processes"].as_array().cloned().unwrap_or_default();
        processes
            .iter()
            .filter_map(|worker| i32::try_from(worker["pid"].as_i64()?).ok())
            .collect()
    }

    /// The template's process id.
    pub fn template(&self) -> i32 {
        i32::try_from(self.state()["template_pid"].as_i64().unwrap_or(0)).unwrap_or(0)
    }

    /// The supervisor's process id.
    pub fn pid(&self) -> i32 {
        let child = self.child.as_ref().expect("the supervisor was started");
        i32::try_from(child.id()).expect("a process id")
    }

    /// Limits the size of files that the supervisor writes, in bytes.
    pub fn limit_files(&self, bytes: &str) {
        let status = Command::new("prlimit")
            .arg(format!("--pid={}", self.pid()))
            .arg(format!("--fsize={bytes}:unlimited"))
            .status()
            .expect("prlimit runs (util-linux)");
        assert!(status.success());
    }

    /// Signals the supervisor.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for the supervisor's end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the supervisor was started");
        let until = Mono::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the supervisor is our child") {
                return status;
            }
            assert!(Mono::now() < until, "the supervisor does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// TERM: exit 0, no process, no socket left.
    pub fn assert_clean_stop(&mut self) {
        let pids = self.workers();
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.log());
        for pid in pids {
            wait_gone(pid);
        }
        assert!(
            !self.path("jobs.db.sock").exists(),
            "the control socket stays\n{}",
            self.log()
        );
    }

    /// Lines that jobs wrote into the ledger: what ran, as often as it ran.
    pub fn ledger(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("ledger")).unwrap_or_default();
        text.lines().map(ToString::to_string).collect()
    }

    /// What the supervisor logged, for failures.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }

    /// Waits until the log holds this text.
    pub fn wait_log(&self, text: &str) {
        self.wait_for(text, |pool| {
            fs::read_to_string(pool.path("log"))
                .unwrap_or_default()
                .contains(text)
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process that is there.
pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
}

/// Waits until a process is no more, or is a zombie that nobody has reaped.
pub fn wait_gone(pid: i32) {
    let until = Mono::now() + PATIENCE;
    while is_alive(pid) {
        assert!(Mono::now() < until, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The same command, run by a process that has joined a control group.
fn within(members: &str, command: Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\"", members])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    shell
}
