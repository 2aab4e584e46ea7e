//! Runs the binary in a directory of its own and writes down what it said.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest wait for anything, on a machine under load.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A place to run `pool` in, with nothing of the user's environment.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pool").tempdir().unwrap();
        Place { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The binary with its broker, socket and state in this place.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_pool"), args)
    }

    /// Another program in the same surroundings.
    pub fn command_of(&self, program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("STATE_DIRECTORY", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it with something on its standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs it and returns the lines of its standard output; it must succeed.
    pub fn lines(&self, args: &[&str]) -> Vec<String> {
        let output = self.run(args);
        assert!(output.status.success(), "{}", self.transcript(args, &output));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// A command line and all that came of it, for a snapshot; what differs between runs is replaced.
    pub fn transcript(&self, args: &[&str], output: &Output) -> String {
        let shown: Vec<String> = args
            .iter()
            .map(|arg| {
                if arg.contains([' ', '"', '{', '[']) {
                    format!("'{arg}'")
                } else {
                    (*arg).to_owned()
                }
            })
            .collect();
        let mut text = format!("$ pool {}\n", shown.join(" "));
        for (name, bytes) in [("", &output.stdout), ("2> ", &output.stderr)] {
            for line in String::from_utf8_lossy(bytes).lines() {
                text.push_str(format!("{name}{line}").trim_end());
                text.push('\n');
            }
        }
        text.push_str(&match output.status.code() {
            Some(code) => format!("=> {code}\n"),
            None => format!("=> {}\n", output.status),
        });
        let dir = self.dir.path().display().to_string();
        with_ids_hidden(&text.replace(&dir, "[DIR]"))
    }

    /// Runs each command line and returns all transcripts.
    pub fn transcripts(&self, lines: &[&[&str]]) -> String {
        let texts: Vec<String> = lines
            .iter()
            .map(|args| self.transcript(args, &self.run(args)))
            .collect();
        texts.join("\n")
    }
}

/// Generated job ids, which are UUIDs, as `[JOB]`.
fn with_ids_hidden(text: &str) -> String {
    let is_id = |word: &str| {
        word.len() == 36
            && word.char_indices().all(|(at, c)| {
                if [8, 13, 18, 23].contains(&at) {
                    c == '-'
                } else {
                    c.is_ascii_hexdigit()
                }
            })
    };
    let parts = text.split_inclusive(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
    parts
        .map(|part| {
            let word = part.trim_end_matches(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
            if is_id(word) {
                part.replace(word, "[JOB]")
            } else {
                part.to_owned()
            }
        })
        .collect()
}

/// A supervisor that runs the built-in tasks; stopped, and its log checked for a clean end, when dropped.
pub struct Supervisor {
    child: Child,
    log: mpsc::Receiver<String>,
}

impl Supervisor {
    /// Starts it and waits until the app is loaded.
    pub fn start(place: &Place, flags: &[&str]) -> Self {
        Supervisor::start_command(place.command(["run"].iter().chain(flags)))
    }

    /// Starts it by this command and waits until the app is loaded.
    pub fn start_command(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let supervisor = Supervisor { child, log };
        supervisor.wait_for_line("app loaded");
        supervisor
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next log line that contains `text`.
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("{error}: no log line with {text:?} after\n{}", before.join("\n")),
            }
        }
    }

    /// Waits for its end and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Holds the lock of a control socket, as a live supervisor does.
pub fn occupy(socket: &Path) -> std::fs::File {
    let mut lock_path = socket.as_os_str().to_owned();
    lock_path.push(".lock");
    std::fs::write(&lock_path, "4711\n").unwrap();
    let lock = std::fs::File::open(lock_path).unwrap();
    lock.lock().unwrap();
    lock
}
