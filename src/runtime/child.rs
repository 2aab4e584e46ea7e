//! One run of a program: feed it, listen to it, and end it in time, its whole process group included.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::death::ProcessEnd;
use crate::sys::out_of_memory::OutOfMemory;
use crate::sys::pidfd::{PidFd, Waited, kill_group};
use crate::sys::{SysError, lifeline, spawn};
use crate::time::Mono;

/// Bytes of standard error that are kept: its end, for the error.
const STDERR_TAIL_LEN: usize = 8 * 1024;
/// Bytes a read.
const CHUNK_LEN: usize = 16 * 1024;
/// Reads after the end: twice what the largest pipe holds (1 MiB).
const LAST_READS_MAX: usize = 128;

/// What a run may take.
pub struct Limits {
    /// When it is asked to end; `None`: never.
    pub deadline: Option<Mono>,
    /// From then until it is killed.
    pub grace: Duration,
    /// Bytes of standard output; with more it is killed.
    pub output_len_max: usize,
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It ended by itself.
    Ended(ProcessEnd),
    /// It was ended at its deadline.
    TimedOut,
    /// It was killed because it printed too much.
    OutputTooLong,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub stop: Stop,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// The end of what it printed on standard error.
    pub stderr_tail: Vec<u8>,
}

/// Runs a program with `input` on its standard input until it has ended. What it started and left in its process
/// group is killed then. Its standard error goes to ours as it comes.
///
/// `output`: a file for its standard output, which is not listened to then.
///
/// Fails, in words, when it can't be started or attended.
pub fn run(
    command: &mut Command,
    input: &[u8],
    output: Option<File>,
    limits: &Limits,
) -> Result<Ended, String> {
    let mut memory = OutOfMemory::default();
    let mut child = Child::start(command, output)?;
    let attended = child.attend(input, limits);
    let finished = child.finish(limits);
    let lost = |error: SysError| format!("lost touch with the program: {error}");
    let (stopped, mut end) = (attended.map_err(lost)?, finished.map_err(lost)?);
    end.out_of_memory = end.was_killed() && memory.killed_one(Mono::now());
    // Its last words may have been too many.
    let too_long = child.stdout.bytes.len() > limits.output_len_max;
    let stopped = stopped.or(too_long.then_some(Stop::OutputTooLong));
    Ok(Ended {
        stop: stopped.unwrap_or(Stop::Ended(end)),
        stdout: child.stdout.bytes,
        stderr_tail: child.stderr.bytes,
    })
}

/// A program that was started.
struct Child {
    pidfd: PidFd,
    /// Its process id and process group.
    group: i32,
    /// Closed at the latest when we end: the kernel then kills the group.
    _lifeline: OwnedFd,
    /// Open until the input is written.
    stdin: Option<ChildStdin>,
    stdout: Listener<ChildStdout>,
    stderr: Listener<ChildStderr>,
}

impl Child {
    fn start(command: &mut Command, output: Option<File>) -> Result<Child, String> {
        let sys = |error: SysError| error.to_string();
        let (lifeline, theirs) = lifeline::pair().map_err(sys)?;
        spawn::tie_to_lifeline(command, theirs);
        command
            .stdin(Stdio::piped())
            .stdout(output.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped());
        // Reaped through its pidfd, by `finish`.
        let mut child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            format!("cannot start `{program}`: {error}")
        })?;
        let group = i32::try_from(child.id()).expect("process ids are positive ints");
        let pidfd = PidFd::open(group).map_err(sys)?;
        let stdout = child.stdout.take();
        let (Some(stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            unreachable!("both were asked for as pipes");
        };
        nonblocking(&stdin).map_err(sys)?;
        Ok(Child {
            pidfd: pidfd.expect("nobody reaps our child but us"),
            group,
            _lifeline: lifeline,
            stdin: Some(stdin),
            stdout: Listener::new(stdout).map_err(sys)?,
            stderr: Listener::new(Some(stderr)).map_err(sys)?,
        })
    }

    /// Feeds and listens until it has ended. Returns why we ended it, if we did.
    fn attend(&mut self, mut input: &[u8], limits: &Limits) -> Result<Option<Stop>, SysError> {
        let mut stopped = None;
        let mut until = limits.deadline;
        loop {
            self.feed(&mut input);
            if self.wait(until)? {
                return Ok(stopped);
            }
            self.listen(limits);
            if stopped.is_none() && self.stdout.bytes.len() > limits.output_len_max {
                stopped = Some(Stop::OutputTooLong);
                until = None;
                self.signal(Signal::SIGKILL);
            }
            if until.is_none_or(|until| Mono::now() < until) {
                continue;
            }
            if stopped.is_none() {
                stopped = Some(Stop::TimedOut);
                until = Some(Mono::now() + limits.grace);
                self.signal(Signal::SIGTERM);
                // A stopped process gets to see the TERM.
                self.signal(Signal::SIGCONT);
            } else {
                until = None;
                self.signal(Signal::SIGKILL);
            }
        }
    }

    /// Until there is something to do, or `until` is over. Returns whether the program has ended.
    fn wait(&self, until: Option<Mono>) -> Result<bool, SysError> {
        let ended = PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN);
        let stdin = self
            .stdin
            .as_ref()
            .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        let sources = [stdin, self.stdout.source(), self.stderr.source()];
        let mut sources: Vec<PollFd<'_>> = std::iter::once(ended)
            .chain(sources.into_iter().flatten())
            .collect();
        match poll(&mut sources, timeout_until(until)) {
            Ok(_) => Ok(sources[0].any().unwrap_or(true)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(SysError::Call { call: "poll", errno }),
        }
    }

    /// Writes what the pipe takes; closes it when all is written or nobody reads.
    fn feed(&mut self, input: &mut &[u8]) {
        while let Some(pipe) = &mut self.stdin {
            if input.is_empty() {
                self.stdin = None;
                return;
            }
            match pipe.write(input) {
                Ok(len) => *input = &input[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.stdin = None,
            }
        }
    }

    /// Takes what was printed, a chunk at the most of each. Returns whether there was anything.
    fn listen(&mut self, limits: &Limits) -> bool {
        let printed = self.stdout.read(|_| {});
        // One byte above the limit tells that it was exceeded; nobody needs more.
        self.stdout
            .bytes
            .truncate(limits.output_len_max.saturating_add(1));
        let complained = self.stderr.read(|chunk| {
            // Gone is the supervisor when this fails, and we with it in a moment.
            let _ = io::stderr().write_all(chunk);
        });
        self.stderr.keep_tail(STDERR_TAIL_LEN);
        printed || complained
    }

    /// Signals the program and what it started. Whoever has changed its user can't be reached.
    fn signal(&self, signal: Signal) {
        let _ = kill_group(self.group, signal);
    }

    /// Kills what is left of the group, takes what was printed last, and reaps.
    fn finish(&mut self, limits: &Limits) -> Result<ProcessEnd, SysError> {
        // Not reaped yet, the program keeps its number and its group from being anybody else's.
        self.signal(Signal::SIGKILL);
        self.stdin = None;
        while !self.wait(None)? {
            self.listen(limits);
        }
        // A daemon that left the group may hold the pipes and print for ever: no wait for their end.
        let _ = (0..LAST_READS_MAX).find(|_| !self.listen(limits));
        match self.pidfd.wait()? {
            Waited::Ended(end) => Ok(end),
            Waited::Running | Waited::NotOurs => Err(SysError::Call {
                call: "waitid on our own child",
                errno: Errno::ECHILD,
            }),
        }
    }
}

/// The end of a pipe that a program prints to, and what was kept of it.
struct Listener<P> {
    /// Open until the program has closed it.
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P: Read + AsFd> Listener<P> {
    /// Without a pipe there is nothing to listen to.
    fn new(pipe: Option<P>) -> Result<Self, SysError> {
        pipe.as_ref().map_or(Ok(()), nonblocking)?;
        Ok(Listener {
            pipe,
            bytes: Vec::new(),
        })
    }

    fn source(&self) -> Option<PollFd<'_>> {
        let pipe = self.pipe.as_ref()?;
        Some(PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
    }

    /// Takes one chunk if there is one, and shows it to `pass`. Returns whether there was.
    fn read(&mut self, pass: impl FnOnce(&[u8])) -> bool {
        let Some(pipe) = &mut self.pipe else {
            return false;
        };
        let mut chunk = [0; CHUNK_LEN];
        match pipe.read(&mut chunk) {
            Ok(len) if len > 0 => {
                self.bytes.extend_from_slice(&chunk[..len]);
                pass(&chunk[..len]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Ok(_) | Err(_) => {
                self.pipe = None;
                false
            }
        }
    }

    fn keep_tail(&mut self, len: usize) {
        let surplus = self.bytes.len().saturating_sub(len);
        self.bytes.drain(..surplus);
    }
}

/// Makes our end of a pipe non-blocking; the program's end is an open description of its own.
fn nonblocking(pipe: impl AsFd) -> Result<(), SysError> {
    let answer = fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    answer.map(drop).map_err(|errno| SysError::Call {
        call: "fcntl(O_NONBLOCK)",
        errno,
    })
}

fn timeout_until(until: Option<Mono>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    // Rounded up: woken too early, it would wait again.
    let left = until.since(Mono::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], limits: &Limits) -> Ended {
        run(Command::new("sh").args(["-c", script]), input, None, limits).unwrap()
    }

    fn exit(code: i32) -> Stop {
        Stop::Ended(ProcessEnd {
            status: Some(code << 8),
            ..ProcessEnd::default()
        })
    }

    /// Without the memory that it took, which differs.
    fn stop(ended: &Ended) -> Stop {
        match ended.stop {
            Stop::Ended(end) => Stop::Ended(ProcessEnd {
                peak_memory: None,
                ..end
            }),
            other => other,
        }
    }

    fn unlimited() -> Limits {
        Limits {
            deadline: None,
            grace: Duration::from_secs(60),
            output_len_max: 1 << 24,
        }
    }

    fn soon() -> Option<Mono> {
        Some(Mono::now() + Duration::from_millis(50))
    }

    /// Runs a script that prints something and goes on; once more, with more time, if its deadline came before the words.
    fn shell_past_its_words(script: &str, grace: Duration) -> Ended {
        let mut patience = Duration::from_millis(50);
        loop {
            let limits = Limits {
                deadline: Some(Mono::now() + patience),
                grace,
                ..unlimited()
            };
            let ended = shell(script, b"", &limits);
            if !ended.stdout.is_empty() || patience > Duration::from_secs(30) {
                return ended;
            }
            patience *= 2;
        }
    }

    fn is_gone(pid: &str) -> bool {
        let pidfd = PidFd::open(pid.trim().parse().unwrap()).unwrap();
        pidfd.is_none_or(|pidfd| {
            let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::from(20_000u16)).unwrap() == 1
        })
    }

    #[test]
    fn a_program_gets_its_input_whole_and_gives_its_output_whole() {
        let input: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
        let ended = shell("cat; echo done >&2; exit 3", &input, &unlimited());
        assert_eq!(stop(&ended), exit(3));
        assert!(ended.stdout == input);
        assert_eq!(ended.stderr_tail, b"done\n");
    }

    #[test]
    fn a_program_need_not_read_its_input() {
        let ended = shell("exit 0", &[7; 1_000_000], &unlimited());
        assert_eq!(stop(&ended), exit(0));
    }

    #[test]
    fn at_its_deadline_a_program_is_asked_to_end() {
        let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let ended = shell_past_its_words(script, unlimited().grace);
        assert_eq!(ended.stop, Stop::TimedOut);
        assert_eq!(ended.stdout, b"ready\nbye\n");
    }

    #[test]
    fn a_program_that_does_not_end_when_asked_is_killed_with_its_children() {
        let ended = shell_past_its_words(
            "trap '' TERM; (trap '' TERM; sleep 1000) & echo $!; wait",
            Duration::from_millis(50),
        );
        assert_eq!(ended.stop, Stop::TimedOut);
        assert!(is_gone(&String::from_utf8(ended.stdout).unwrap()));
    }

    #[test]
    fn a_stopped_program_is_woken_to_be_asked() {
        let limits = Limits {
            deadline: soon(),
            ..unlimited()
        };
        let ended = shell("kill -STOP $$; sleep 1000", b"", &limits);
        assert_eq!(ended.stop, Stop::TimedOut);
    }

    #[test]
    fn what_a_program_leaves_running_ends_with_it() {
        let ended = shell("sleep 1000 & echo $!", b"", &unlimited());
        assert_eq!(stop(&ended), exit(0));
        assert!(is_gone(&String::from_utf8(ended.stdout).unwrap()));
    }

    #[test]
    fn a_program_that_prints_too_much_is_killed() {
        let limits = Limits {
            output_len_max: 1000,
            ..unlimited()
        };
        for script in ["yes", "head -c 1001 /dev/zero"] {
            let ended = shell(script, b"", &limits);
            assert_eq!(ended.stop, Stop::OutputTooLong, "{script}");
            assert_eq!(ended.stdout.len(), 1001, "{script}");
        }
        let ended = shell("head -c 1000 /dev/zero", b"", &limits);
        assert_eq!((stop(&ended), ended.stdout.len()), (exit(0), 1000));
    }

    #[test]
    fn only_the_end_of_standard_error_is_kept() {
        let ended = shell("seq 3000 >&2", b"", &unlimited());
        assert_eq!(ended.stderr_tail.len(), STDERR_TAIL_LEN);
        assert!(ended.stderr_tail.ends_with(b"2999\n3000\n"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program"), b"", None, &unlimited()).unwrap_err();
        assert!(error.starts_with("cannot start `no-such-program`: "), "{error}");
    }
}
