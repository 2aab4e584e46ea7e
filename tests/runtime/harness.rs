//! Plays the supervisor over a real template: control messages out, job frames out, everything else in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use pool::runtime::{TEMPLATE_ROLE, TemplateCommand};
use pool::sys::pidfd::PidFd;
use pool::sys::socket::{Received, Sent, Wait, recv, send, send_with_fds, seqpacket_pair};
use pool::sys::spawn::{Spawned, spawn_template};
use pool::sys::{lifeline, process};
use pool::time::Mono;
use pool::wire::frame::{Assembler, Code, FromWorker, PACKET_LEN_MAX, Packets, Ping, Run};
use pool::wire::message::{CONTROL_LEN_MAX, CommandTask, FromTemplate, Load, LoadReport, ToTemplate};

/// Generous: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which of this binary's apps a template loads.
pub const APP: &str = "POOL_TEST_APP";

/// A template, held as a supervisor holds it.
pub struct Template {
    pub spawned: Spawned,
    pub report: LoadReport,
    workers: u64,
}

/// How to start this binary as a template.
pub fn command(runtime: &str, app: &str) -> TemplateCommand {
    TemplateCommand {
        program: std::env::current_exe().unwrap(),
        args: vec![TEMPLATE_ROLE.into(), runtime.into(), "-".repeat(120).into()],
        environment: BTreeMap::from([(APP.into(), app.into())]),
        directory: std::env::temp_dir(),
        inherit: Vec::new(),
    }
}

/// What a template loads when a test says nothing else.
pub fn load() -> Load {
    Load {
        generation: 1,
        kill_grace_s: 0.2,
        max_result: 16 << 20,
        ..Load::default()
    }
}

impl Template {
    /// Starts the template of an app of this binary, loaded and ready.
    pub fn native(app: &str) -> Template {
        Template::start(&command("native", app), load())
    }

    /// Starts the template of the command runtime with one task.
    pub fn command(task: &str, command_line: &[&str]) -> Template {
        let task_config = CommandTask {
            command: command_line.iter().map(ToString::to_string).collect(),
            max_output: 8 << 20,
            ..CommandTask::default()
        };
        let commands = BTreeMap::from([(task.to_owned(), task_config)]);
        Template::start(&command("command", ""), Load { commands, ..load() })
    }

    pub fn start(command: &TemplateCommand, load: Load) -> Template {
        let mut template = Template {
            spawned: spawn_template(command).unwrap(),
            report: LoadReport::default(),
            workers: 0,
        };
        template.tell(&ToTemplate::Load(Box::new(load)), &[]);
        match template.hear() {
            Some(FromTemplate::Ready(report)) => template.report = *report,
            other => panic!("not ready: {other:?}; {}", text(&template.spawned.stderr)),
        }
        template
    }

    pub fn tell(&self, order: &ToTemplate, fds: &[BorrowedFd<'_>]) {
        let packet = serde_json::to_vec(order).unwrap();
        assert_eq!(
            send_with_fds(&self.spawned.control, &packet, fds, Wait::Block).unwrap(),
            Sent::Whole
        );
    }

    /// The next report; `None` when the template has left.
    pub fn hear(&self) -> Option<FromTemplate> {
        hear(&self.spawned.control)
    }

    /// Forks a worker and waits until it is ready.
    pub fn fork(&mut self) -> Worker {
        let mut worker = self.fork_unready();
        match worker.hear() {
            Some(Heard::Ready) => worker,
            other => panic!("not ready: {other:?}; {}", text(&worker.stderr)),
        }
    }

    pub fn fork_unready(&mut self) -> Worker {
        self.workers += 1;
        let (jobs, jobs_theirs) = seqpacket_pair().unwrap();
        let (lifeline, lifeline_theirs) = lifeline::pair().unwrap();
        let (stdout, stdout_theirs) = std::io::pipe().unwrap();
        let (stderr, stderr_theirs) = std::io::pipe().unwrap();
        let order = ToTemplate::Fork {
            worker: self.workers,
            pool: "default".into(),
        };
        let ends = [
            jobs_theirs.as_fd(),
            lifeline_theirs.as_fd(),
            stdout_theirs.as_fd(),
            stderr_theirs.as_fd(),
        ];
        self.tell(&order, &ends);
        let Some(FromTemplate::Forked { worker, pid }) = self.hear() else {
            panic!("not forked");
        };
        assert_eq!(worker, self.workers);
        Worker {
            number: worker,
            pid,
            pidfd: PidFd::open(pid).unwrap(),
            jobs,
            jobs_theirs,
            lifeline,
            stdout: stdout.into(),
            stderr: stderr.into(),
            frames: Assembler::new(64 << 20),
        }
    }

    /// The next report, which must be a worker's end: its number, and how it ended in words.
    pub fn hear_exit(&self) -> (u64, String) {
        match self.hear() {
            Some(FromTemplate::Exited { worker, status, .. }) => (worker, process::describe_status(status)),
            other => panic!("no exit: {other:?}"),
        }
    }

    pub fn kill(&self) {
        assert!(self.spawned.pidfd.send_signal(Signal::SIGKILL).unwrap());
        wait_for_end(&self.spawned.pidfd);
    }
}

/// A worker, held as a supervisor holds it.
pub struct Worker {
    pub number: u64,
    pub pid: i32,
    /// `None` when it had ended by the time that we heard of it.
    pub pidfd: Option<PidFd>,
    pub jobs: OwnedFd,
    /// A duplicate of its own end.
    pub jobs_theirs: OwnedFd,
    pub lifeline: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    frames: Assembler,
}

/// A job as a test asks for it.
pub struct Job<'a> {
    pub task: &'a str,
    pub payload: &'a [u8],
    pub timeout_ms: u64,
}

/// What a worker said.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Ready,
    Done(Done),
    Pong(u64),
    /// How far an execution is, as JSON.
    Progress(u64, String),
}

/// How a job ended.
#[derive(Debug, PartialEq)]
pub struct Done {
    pub execution: u64,
    pub started: Mono,
    pub ended: Mono,
    pub code: Code,
    pub after_ms: Option<u32>,
    pub data: String,
}

impl Worker {
    /// Runs one job to its end.
    pub fn run(&mut self, task: &str, payload: &str) -> Done {
        self.run_job(&Job {
            task,
            payload: payload.as_bytes(),
            timeout_ms: 0,
        })
    }

    pub fn run_job(&mut self, job: &Job<'_>) -> Done {
        self.send(1, job);
        self.done()
    }

    pub fn send(&self, execution: u64, job: &Job<'_>) {
        let mut packets = Packets::default();
        let run = Run {
            execution,
            timeout_ms: job.timeout_ms,
            attempt: 1,
            ordinal: 1,
            job_kind: 0,
            id: "job-1",
            queue: "mail",
            task: job.task,
            payload: job.payload,
        };
        run.encode(&mut packets);
        for packet in packets.iter() {
            assert_eq!(send(&self.jobs, packet, Wait::Block).unwrap(), Sent::Whole);
        }
    }

    /// Asks whether it is between two jobs.
    pub fn ping(&self, execution: u64) {
        let mut packets = Packets::default();
        Ping(execution).encode(&mut packets);
        for packet in packets.iter() {
            assert_eq!(send(&self.jobs, packet, Wait::Block).unwrap(), Sent::Whole);
        }
    }

    pub fn done(&mut self) -> Done {
        match self.hear() {
            Some(Heard::Done(done)) => done,
            other => panic!("not done: {other:?}; {}", text(&self.stderr)),
        }
    }

    /// What it says next; `None` when it has left.
    pub fn hear(&mut self) -> Option<Heard> {
        let mut buffer = vec![0; PACKET_LEN_MAX];
        loop {
            // Our duplicate keeps its end of the socket open, so its death shows at the process.
            self.wait_for_words_or_end();
            let Received::Packet(len) = recv(&self.jobs, &mut buffer, Wait::Never).unwrap() else {
                return None;
            };
            let Some((kind, body)) = self.frames.take(&buffer[..len]).unwrap() else {
                continue;
            };
            return Some(match FromWorker::decode(kind, body).unwrap() {
                FromWorker::Ready => Heard::Ready,
                FromWorker::Pong(execution) => Heard::Pong(execution),
                FromWorker::Progress { execution, json } => {
                    Heard::Progress(execution, String::from_utf8(json.to_vec()).unwrap())
                }
                FromWorker::Done(done) => Heard::Done(Done {
                    execution: done.execution,
                    started: done.started,
                    ended: done.ended,
                    code: done.code,
                    after_ms: done.after_ms,
                    data: String::from_utf8(done.data.to_vec()).unwrap(),
                }),
            });
        }
    }

    fn wait_for_words_or_end(&self) {
        let Some(pidfd) = &self.pidfd else {
            return;
        };
        let mut polled = [
            PollFd::new(self.jobs.as_fd(), PollFlags::POLLIN),
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(PATIENCE).unwrap();
        assert!(
            poll(&mut polled, timeout).unwrap() > 0,
            "nothing came in {PATIENCE:?}"
        );
    }

    /// Asks it to leave, as a supervisor does that retires it.
    pub fn retire(&self) {
        use std::os::fd::AsRawFd;
        nix::sys::socket::shutdown(self.jobs.as_raw_fd(), nix::sys::socket::Shutdown::Write).unwrap();
    }

    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        wait_for_end(self.pidfd.as_ref().unwrap());
    }

    pub fn signal(&self, signal: Signal) {
        assert!(self.pidfd.as_ref().unwrap().send_signal(signal).unwrap());
    }

    /// What `ps` shows.
    pub fn title(&self) -> String {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.trim_end_matches('\0').to_owned()
    }
}

/// The next report on a control socket; `None` when the template has left.
pub fn hear(control: &OwnedFd) -> Option<FromTemplate> {
    let mut buffer = vec![0; CONTROL_LEN_MAX];
    wait_readable(control);
    match recv(control, &mut buffer, Wait::Block).unwrap() {
        Received::Packet(len) => Some(serde_json::from_slice(&buffer[..len]).unwrap()),
        Received::Closed => None,
        Received::Nothing => unreachable!("a blocking read found nothing"),
    }
}

/// Everything that was printed; the writer must have ended.
pub fn text(fd: &OwnedFd) -> String {
    let mut text = String::new();
    let mut pipe = File::from(fd.try_clone().unwrap());
    wait_readable(&pipe);
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// One line that was printed.
pub fn line(fd: &OwnedFd) -> String {
    let mut pipe = File::from(fd.try_clone().unwrap());
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        wait_readable(&pipe);
        assert_eq!(pipe.read(&mut byte).unwrap(), 1, "no whole line: {line:?}");
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

pub fn wait_readable(fd: impl AsFd) {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(
        poll(&mut polled, timeout).unwrap(),
        1,
        "nothing came in {PATIENCE:?}"
    );
}

pub fn wait_for_end(pidfd: &PidFd) {
    wait_readable(pidfd);
}

/// Waits until a process that is no child of ours is gone.
pub fn wait_until_gone(pid: i32) {
    if let Some(pidfd) = PidFd::open(pid).unwrap() {
        wait_for_end(&pidfd);
    }
}
