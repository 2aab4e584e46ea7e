//! The supervisor's end of one worker: its socket, its lifeline, its output, its death.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};

use super::input::Input;
use super::output::Output;
use super::printed::Source;
use crate::fleet::{Done, Unread};
use crate::job::{JobError, Outcome};
use crate::sys::pidfd::{PidFd, Stranger, Waited};
use crate::sys::socket::{self, Received, Sent, Wait};
use crate::sys::watch::{watch, watch_process};
use crate::sys::{SysError, lifeline, process};
use crate::text::without_lone_surrogates;
use crate::wire::frame::{
    Assembler, Code, FromWorker, PACKET_LEN_MAX, Packets, Ping, Run, carries_on, execution_of,
};

/// Frames read from one worker before the others get their turn.
const FRAMES_A_TURN: usize = 128;
/// How long a dead worker's template may take to say how it died.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// One worker as the supervisor holds it. Dropping it closes the lifeline: what still lives of the worker is killed.
#[derive(Debug)]
pub(super) struct Link {
    socket: Arc<AsyncFd<OwnedFd>>,
    /// A duplicate of the worker's own end: reading it takes unread frames back.
    theirs: OwnedFd,
    _lifeline: OwnedFd,
    /// The process, once known; `None` also if it had ended before that.
    process: Option<Arc<PidFd>>,
    /// Hands the process over to the reader, which waits for its death; `None` once done.
    born: Option<oneshot::Sender<Option<Arc<PidFd>>>>,
    status: Option<oneshot::Sender<i32>>,
    /// Packets for which the socket had no room yet.
    unsent: Arc<Unsent>,
    /// It is to be killed as soon as its process id is known.
    doomed: bool,
}

/// What goes to a template with a `fork` message, in the order of `FORK_DESCRIPTORS`.
#[derive(Debug)]
pub(super) struct WorkerEnds {
    pub socket: OwnedFd,
    pub lifeline: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

#[derive(Debug, Default)]
struct Unsent {
    packets: std::sync::Mutex<VecDeque<Vec<u8>>>,
    added: Notify,
}

impl Unsent {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.packets
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Link {
    /// Makes the descriptors of a worker to be, and reads our ends from now on. `frame_len_max` bounds what it may say.
    pub fn open(
        worker: u64,
        frame_len_max: usize,
        inputs: &UnboundedSender<Input>,
    ) -> Result<(Link, WorkerEnds), LinkError> {
        let (ours, theirs) = socket::seqpacket_pair()?;
        let (lifeline, lifeline_theirs) = lifeline::pair()?;
        let (stdout, stdout_theirs) = pipe()?;
        let (stderr, stderr_theirs) = pipe()?;
        let socket = Arc::new(watch(ours, Interest::READABLE)?);
        let (born, on_birth) = oneshot::channel();
        let (status, on_status) = oneshot::channel();
        let unsent = Arc::new(Unsent::default());
        let reader = Reader {
            worker,
            socket: socket.clone(),
            unsent: unsent.clone(),
            output: Output::new(Source::Worker(worker), (stdout, stderr), inputs.clone())?,
            assembler: Assembler::new(frame_len_max),
            inputs: inputs.clone(),
        };
        tokio::spawn(reader.run(on_birth, on_status));
        let theirs_copy = theirs.try_clone()?;
        let link = Link {
            socket,
            theirs: theirs_copy,
            _lifeline: lifeline,
            process: None,
            born: Some(born),
            status: Some(status),
            unsent,
            doomed: false,
        };
        let ends = WorkerEnds {
            socket: theirs,
            lifeline: lifeline_theirs,
            stdout: stdout_theirs,
            stderr: stderr_theirs,
        };
        Ok((link, ends))
    }

    /// Its template says that the process exists, with this id. It must descend from us: we are to kill it one day.
    /// Returns false if that was said before.
    pub fn forked(&mut self, pid: i32) -> Result<bool, Stranger> {
        let Some(born) = self.born.take() else {
            return Ok(false);
        };
        // None: it is dead and reaped already; the reader takes it the same way.
        self.process = PidFd::open_descendant(pid)?.map(Arc::new);
        let _ = born.send(self.process.clone());
        if self.doomed {
            self.kill();
        }
        Ok(true)
    }

    /// Its process id, once known.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|process| process.number())
    }

    /// How it ended, as its parent learned.
    pub fn ended(&mut self, status: i32) {
        if let Some(tell) = self.status.take() {
            let _ = tell.send(status);
        }
    }

    /// Sends a job; what does not fit now goes out when the worker has read some.
    /// `another_follows`: the next one is of the same batch.
    pub fn send(&self, run: &Run<'_>, another_follows: bool, packets: &mut Packets) {
        run.encode_in_batch(another_follows, packets);
        self.send_all(packets);
    }

    fn send_all(&self, packets: &Packets) {
        let mut unsent = self.unsent.lock();
        for packet in packets.iter() {
            if !unsent.is_empty() || !self.send_now(packet) {
                unsent.push_back(packet.to_vec());
            }
        }
        if !unsent.is_empty() {
            self.unsent.added.notify_one();
        }
    }

    /// Whether the packet is gone: sent, or of no use to anybody since the worker is dead.
    fn send_now(&self, packet: &[u8]) -> bool {
        !matches!(
            socket::send(self.socket.get_ref(), packet, Wait::Never),
            Ok(Sent::Full)
        )
    }

    /// Asks whether it is between two jobs, behind the job that it should be running.
    pub fn ping(&self, execution: u64, packets: &mut Packets) {
        Ping(execution).encode(packets);
        self.send_all(packets);
    }

    /// Takes back every frame that the worker has not read, in order, and what it has not read of a frame in
    /// the middle of which it stands: that job can't begin any more.
    pub fn take_back(&self) -> Unread {
        let mut unread = Unread::default();
        let mut buffer = vec![0; PACKET_LEN_MAX];
        let mut first = true;
        let mut take = |packet: &[u8]| {
            unread.torn |= std::mem::take(&mut first) && carries_on(packet);
            unread.executions.extend(execution_of(packet));
        };
        while let Ok(Received::Packet(len)) = socket::recv(&self.theirs, &mut buffer, Wait::Never) {
            take(&buffer[..len]);
        }
        for packet in self.unsent.lock().drain(..) {
            take(&packet);
        }
        unread
    }

    /// Closes our sending half: the worker reads end of file and leaves.
    pub fn retire(&self) {
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.socket.get_ref());
        let _ = nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Write);
    }

    /// Kills the worker and the processes that its job started.
    pub fn kill(&mut self) {
        match &self.process {
            Some(process) => {
                let _ = process.signal_group(Signal::SIGKILL);
                // Before it has made its group, it is alone.
                let _ = process.send_signal(Signal::SIGKILL);
            }
            None => self.doomed = true,
        }
    }
}

/// Why a worker's descriptors could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error("cannot watch a descriptor: {0}")]
    Watch(#[from] std::io::Error),
    #[error("pipe2 failed: {}", .0.desc())]
    Pipe(#[from] nix::errno::Errno),
}

fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}

/// How far frames were read.
#[derive(PartialEq, Eq)]
enum Read {
    /// All that were there.
    All,
    /// As many as are read in one turn: there may be more.
    Some,
    /// To the end of file, or to what is no frame.
    End,
}

/// Reads everything that comes from one worker, in an order that makes sense: what a job
/// printed before its outcome, its outcome before its worker's death.
struct Reader {
    worker: u64,
    socket: Arc<AsyncFd<OwnedFd>>,
    unsent: Arc<Unsent>,
    output: Output,
    assembler: Assembler,
    inputs: UnboundedSender<Input>,
}

impl Reader {
    async fn run(mut self, born: oneshot::Receiver<Option<Arc<PidFd>>>, status: oneshot::Receiver<i32>) {
        let mut buffer = vec![0; PACKET_LEN_MAX];
        let mut death = std::pin::pin!(death(born));
        let (socket, unsent) = (self.socket.clone(), self.unsent.clone());
        let mut flush = std::pin::pin!(flush(&socket, &unsent));
        let pidfd = loop {
            tokio::select! {
                ready = self.output.ready() => self.output.serve(ready),
                _ = &mut flush => break None,
                ready = socket.readable() => match ready {
                    Ok(mut ready) => match self.read_frames(&mut buffer) {
                        Read::All => ready.clear_ready(),
                        Read::Some => {}
                        Read::End => break death.await,
                    },
                    Err(_) => break None,
                },
                pidfd = &mut death => break pidfd,
            }
            tokio::task::coop::consume_budget().await;
        };
        while self.read_frames(&mut buffer) == Read::Some {}
        let worker = self.worker;
        let (how, status) = how_it_ended(pidfd, status).await;
        self.output.end_of_process();
        let _ = self.inputs.send(Input::WorkerExited { worker, how, status });
    }

    /// Reads the frames that are there, some at most.
    fn read_frames(&mut self, buffer: &mut [u8]) -> Read {
        for turn in 0..FRAMES_A_TURN {
            match socket::recv(self.socket.get_ref(), buffer, Wait::Never) {
                Ok(Received::Packet(len)) => match self.decode(&buffer[..len]) {
                    Ok(Some(input)) => {
                        if turn == 0 {
                            // What a job printed comes before its outcome, so that the lines are known to be its own.
                            // Once a turn is enough: a task that prints is sent one job at a time.
                            self.output.end_of_job();
                        }
                        let _ = self.inputs.send(input);
                    }
                    Ok(None) => {}
                    Err(error) => return self.garbage(&error),
                },
                Ok(Received::Nothing) => return Read::All,
                Ok(Received::Closed) => return Read::End,
                Err(error) => return self.garbage(&error),
            }
        }
        Read::Some
    }

    fn garbage(&self, error: &dyn std::fmt::Display) -> Read {
        let _ = self.inputs.send(Input::Garbage {
            worker: self.worker,
            error: error.to_string(),
        });
        Read::End
    }

    fn decode(&mut self, packet: &[u8]) -> Result<Option<Input>, crate::wire::frame::FrameError> {
        let Some((kind, body)) = self.assembler.take(packet)? else {
            return Ok(None);
        };
        let worker = self.worker;
        Ok(Some(match FromWorker::decode(kind, body)? {
            FromWorker::Ready => Input::WorkerReady { worker },
            FromWorker::Pong(execution) => Input::Pong { worker, execution },
            FromWorker::Done(answer) => Input::Done {
                worker,
                done: Box::new(Done {
                    execution: answer.execution,
                    started: answer.started,
                    ended: answer.ended,
                    outcome: outcome(answer.code, answer.after_ms, answer.data),
                    whole_batch: answer.code == Code::BatchFailure,
                }),
            },
        }))
    }
}

/// How a job ended, as its worker says.
fn outcome(code: Code, after_ms: Option<u32>, data: &[u8]) -> Outcome {
    match code {
        Code::Success => Outcome::Success(data.to_vec()),
        Code::Failure | Code::BatchFailure => Outcome::Failure {
            error: job_error(data),
            retryable: true,
        },
        Code::Rejected => Outcome::Failure {
            error: job_error(data),
            retryable: false,
        },
        // The fleet knows after how long.
        Code::TimedOut => Outcome::TimedOut {
            after: Duration::ZERO,
            detail: job_error(data).detail,
        },
        Code::Retry => Outcome::Retry {
            after: after_ms.map(|ms| Duration::from_millis(ms.into())),
            reason: String::from_utf8_lossy(data).into_owned(),
        },
        Code::GivenBack => Outcome::GivenBack,
        Code::Settled => Outcome::Settled,
    }
}

/// The error that a worker reports: JSON, or else whatever it sent as text.
fn job_error(data: &[u8]) -> JobError {
    serde_json::from_slice(&without_lone_surrogates(data))
        .unwrap_or_else(|_| JobError::new("error", String::from_utf8_lossy(data)))
}

/// Waits until there is a frame.
pub(super) async fn readable(socket: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    loop {
        let mut guard = socket.readable().await?;
        if socket::unread_bytes(socket.get_ref()).is_ok_and(|bytes| bytes > 0)
            || guard.ready().is_read_closed()
        {
            return Ok(());
        }
        guard.clear_ready();
    }
}

/// Sends what did not fit before, as the worker reads; returns only when the socket is broken.
async fn flush(socket: &AsyncFd<OwnedFd>, unsent: &Unsent) -> std::io::Result<()> {
    loop {
        while unsent.lock().is_empty() {
            unsent.added.notified().await;
        }
        // Room is waited for only where there was none: who always does is woken by each packet that a worker reads.
        let full = watch(socket.get_ref().try_clone()?, Interest::WRITABLE)?;
        while !unsent.lock().is_empty() {
            let mut guard = full.writable().await?;
            if !send_all(full.get_ref(), &mut unsent.lock()) {
                guard.clear_ready();
            }
        }
    }
}

/// Returns whether there was room for all of them.
fn send_all(socket: &OwnedFd, packets: &mut VecDeque<Vec<u8>>) -> bool {
    while let Some(packet) = packets.front() {
        match socket::send(socket, packet, Wait::Never) {
            Ok(Sent::Full) => return false,
            Ok(Sent::Whole | Sent::Closed) | Err(_) => {
                packets.pop_front();
            }
        }
    }
    true
}

/// Waits for the end of the process.
async fn death(born: oneshot::Receiver<Option<Arc<PidFd>>>) -> Option<AsyncFd<Arc<PidFd>>> {
    match born.await {
        Ok(Some(pidfd)) => {
            let pidfd = watch_process(pidfd).ok()?;
            let _ = pidfd.readable().await;
            Some(pidfd)
        }
        Ok(None) => None,
        // The link was dropped: nobody wants to know.
        Err(_) => None,
    }
}

/// How a dead process ended, in words and as its raw wait status: from the kernel when it is our child, else from its parent.
pub(super) async fn how_it_ended(
    pidfd: Option<AsyncFd<Arc<PidFd>>>,
    status: oneshot::Receiver<i32>,
) -> (String, Option<i32>) {
    if let Some(pidfd) = pidfd
        && let Ok(Waited::Ended(status)) = pidfd.get_ref().wait()
    {
        return (process::describe_status(status), Some(status));
    }
    match tokio::time::timeout(STATUS_PATIENCE, status).await {
        Ok(Ok(status)) => (process::describe_status(status), Some(status)),
        Ok(Err(_)) | Err(_) => ("ended".to_owned(), None),
    }
}

impl WorkerEnds {
    /// The descriptors in the order in which a template expects them.
    pub fn descriptors(&self) -> [std::os::fd::BorrowedFd<'_>; 4] {
        [
            self.socket.as_fd(),
            self.lifeline.as_fd(),
            self.stdout.as_fd(),
            self.stderr.as_fd(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Assembler;

    /// A worker that holds these jobs, of as many packets each; the test is its process.
    fn worker_with(packets_each: &[usize]) -> (Link, OwnedFd) {
        let (inputs, _) = tokio::sync::mpsc::unbounded_channel();
        let (link, ends) = Link::open(1, 1 << 20, &inputs).unwrap();
        for (execution, packets) in (1..).zip(packets_each) {
            let payload = vec![7; (packets - 1) * PACKET_LEN_MAX];
            let run = Run {
                execution,
                timeout_ms: 0,
                attempt: 1,
                ordinal: 1,
                job_kind: 0,
                id: "a",
                queue: "q",
                task: "t",
                payload: &payload,
            };
            link.send(&run, false, &mut Packets::default());
        }
        (link, ends.socket)
    }

    /// The worker reads a packet. Returns whether it ends a frame.
    fn reads(socket: &OwnedFd, frames: &mut Assembler) -> bool {
        let mut buffer = vec![0; PACKET_LEN_MAX];
        let Ok(Received::Packet(len)) = socket::recv(socket, &mut buffer, Wait::Never) else {
            panic!("a packet was sent")
        };
        frames.take(&buffer[..len]).unwrap().is_some()
    }

    #[tokio::test]
    async fn a_worker_that_read_nothing_gives_everything_back() {
        let (link, _socket) = worker_with(&[1, 20, 1]);
        assert_eq!(link.take_back(), vec![1, 2, 3].into());
        assert_eq!(link.take_back(), Unread::default());
    }

    #[tokio::test]
    async fn a_job_that_was_read_whole_is_not_given_back() {
        let (link, socket) = worker_with(&[2, 1]);
        let mut frames = Assembler::new(1 << 20);
        assert!(!reads(&socket, &mut frames) && reads(&socket, &mut frames));
        assert_eq!(link.take_back(), vec![2].into());
    }

    #[tokio::test]
    async fn a_worker_that_stopped_in_the_middle_of_a_job_can_not_begin_it() {
        // In the first case all the rest lies on the socket, in the second most of it had no room there.
        for packets in [2, 20] {
            let (link, socket) = worker_with(&[packets, 1]);
            assert!(!reads(&socket, &mut Assembler::new(2 << 20)));
            let expected = Unread {
                executions: vec![2],
                torn: true,
            };
            assert_eq!(link.take_back(), expected, "{packets} packets");
        }
    }
}
