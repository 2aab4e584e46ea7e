//! The supervisor's end of one worker: its socket, its lifeline, its output, its death.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::input::Input;
use super::output::Output;
use super::printed::Source;
use super::reader::Reader;
use super::unsent::Unsent;
use crate::death::ProcessEnd;
use crate::fleet::Unread;
use crate::sys::pidfd::{PidFd, Stranger};
use crate::sys::socket::{self, Received, Sent, Wait};
use crate::sys::watch::watch;
use crate::sys::{SysError, lifeline};
use crate::wire::frame::{
    Assembler, HEADER_LEN, PACKET_LEN_MAX, Packets, Ping, Run, carries_on, execution_of,
};

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
    end: Option<oneshot::Sender<ProcessEnd>>,
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
        let (end, on_end) = oneshot::channel();
        let unsent = Arc::new(Unsent::default());
        let reader = Reader {
            worker,
            socket: socket.clone(),
            unsent: unsent.clone(),
            output: Output::new(Source::Worker(worker), (stdout, stderr), inputs.clone())?,
            assembler: Assembler::new(frame_len_max),
            inputs: inputs.clone(),
        };
        tokio::spawn(reader.run(on_birth, on_end));
        let theirs_copy = theirs.try_clone()?;
        let link = Link {
            socket,
            theirs: theirs_copy,
            _lifeline: lifeline,
            process: None,
            born: Some(born),
            end: Some(end),
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
    pub fn ended(&mut self, end: ProcessEnd) {
        if let Some(tell) = self.end.take() {
            let _ = tell.send(end);
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
            self.unsent.wake();
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

    /// What lies first of what the worker has not read, and stays there; `None` where that can't be told.
    pub fn first_unread(&self) -> Option<Unread> {
        let mut start = [0; HEADER_LEN + size_of::<u64>()];
        let len = socket::peek(&self.theirs, &mut start).ok()?;
        let unsent = self.unsent.lock();
        let packet = match len {
            0 => unsent.front().map_or(&[][..], Vec::as_slice),
            len => &start[..len],
        };
        // A question lies behind what was read, and says nothing of what comes after it.
        let is_run = packet.is_empty() || carries_on(packet) || execution_of(packet).is_some();
        is_run.then(|| Unread {
            executions: execution_of(packet).into_iter().collect(),
            torn: carries_on(packet),
        })
    }

    /// Closes our sending half: the worker reads end of file and leaves.
    pub fn retire(&self) {
        let fd = std::os::fd::AsRawFd::as_raw_fd(self.socket.get_ref());
        let _ = nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Write);
    }

    /// Sends it a signal, and nobody else.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = process.send_signal(signal); // it may just have ended
        }
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
        let first_unread = || link.first_unread().unwrap();
        assert_eq!(first_unread(), vec![1].into());
        assert!(!reads(&socket, &mut frames));
        assert!(first_unread().torn, "it can't begin yet");
        assert!(reads(&socket, &mut frames));
        assert_eq!(first_unread(), vec![2].into(), "looking takes nothing");
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
