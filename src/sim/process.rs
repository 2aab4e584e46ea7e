//! Pretended templates and workers, and the supervisor's links to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::fleet::{Done, Execution, Unread};
use crate::job::{JobId, Outcome, PoolName, Token};
use crate::time::Mono;
use crate::wire::frame::PACKET_LEN_MAX;

/// A template process and the control socket to it.
#[derive(Debug, Default)]
pub struct Template {
    /// The generation of the application that it loads.
    pub generation: u64,
    pub(super) alive: bool,
    /// It does nothing, as under SIGSTOP.
    pub(super) frozen: bool,
    /// It has begun to load, or is loaded.
    pub(super) loads: bool,
    pub(super) inbox: VecDeque<ToTemplate>,
    pub(super) said: VecDeque<FromTemplate>,
}

impl Template {
    pub(super) fn acts(&self) -> bool {
        self.alive && !self.frozen
    }
}

#[derive(Debug)]
pub(super) enum ToTemplate {
    Fork(u64),
    Stop,
}

#[derive(Debug)]
pub(super) enum FromTemplate {
    Ready,
    Failed,
    Forked(u64),
    ForkFailed(u64),
}

/// Whether a process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The template has not read the request yet.
    Asked,
    /// It is.
    Alive,
    /// It was.
    Dead,
}

/// A worker process and the supervisor's link to it.
#[derive(Debug)]
pub struct Worker {
    /// The pool that it works for.
    pub pool: PoolName,
    /// The generation of its application.
    pub generation: u64,
    /// Whether it lives.
    pub process: Process,
    /// The supervisor closed its end: to leave.
    pub closed: bool,
    /// The rest of the job that it reads was taken back.
    pub torn: bool,
    /// The call that it is in.
    pub running: Option<Running>,
    /// Jobs that it began.
    pub begun: u32,
    /// What the supervisor has not read.
    pub(super) said: VecDeque<Said>,
    /// The supervisor knows its process id, and so would see its death.
    pub(super) pid_known: bool,
    pub(super) ready: bool,
    /// It does nothing, as under SIGSTOP.
    pub(super) frozen: bool,
    /// Jobs that it has not read.
    pub(super) socket: VecDeque<Frame>,
    /// A job of several packets that it has read in part.
    pub(super) reading: Option<Frame>,
    /// It said something that is no frame: nobody listens to it any more.
    pub(super) unheard: bool,
}

/// A job on its way to a worker.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Which execution: the number of its delivery.
    pub execution: u64,
    /// Which job.
    pub id: JobId,
    /// What it calls.
    pub task: Arc<str>,
    /// With what.
    pub payload: Arc<[u8]>,
    /// Longest run.
    pub timeout: Option<Duration>,
    /// It is longer than a packet.
    pub is_long: bool,
    /// The next frame is of the same batch.
    pub(super) another_follows: bool,
}

impl Frame {
    /// The delivery that it carries.
    pub(super) fn token(&self) -> Token {
        Token(self.execution)
    }

    pub(super) fn new(execution: u64, job: &Execution, another_follows: bool) -> Self {
        Frame {
            execution,
            id: job.job.id.clone(),
            task: job.job.task.clone(),
            payload: job.job.payload.clone(),
            timeout: job.timeout,
            is_long: job.job.payload.len() > PACKET_LEN_MAX - HEADERS_MAX,
            another_follows,
        }
    }
}

/// More than the frame of a job needs besides its payload, in bytes.
const HEADERS_MAX: usize = 4096;

/// How a call goes.
#[derive(Clone, Debug)]
pub struct Call {
    /// How long it takes.
    pub takes: Duration,
    /// How it ends.
    pub ends: Ends,
}

/// How a call ends.
#[derive(Clone, Debug)]
pub enum Ends {
    /// Each of its jobs ends so.
    Each(Outcome),
    /// The call fails, and with it each of its jobs.
    Whole(Outcome),
    /// With the worker.
    Death,
}

/// A call that goes on.
#[derive(Debug)]
pub struct Running {
    /// The job; the first one of a batch.
    pub frame: Frame,
    /// The other jobs of its batch.
    pub others: Vec<Frame>,
    pub(super) started: Mono,
    pub(super) until: Mono,
    pub(super) ends: Ends,
}

impl Running {
    /// Its jobs.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        std::iter::once(&self.frame).chain(&self.others)
    }
}

/// What a worker says.
#[derive(Clone, Debug)]
pub enum Said {
    /// It takes jobs.
    Ready,
    /// A job has ended.
    Done(Done),
    /// Something that is no frame.
    Garbage,
}

impl Worker {
    pub(super) fn asked(pool: PoolName, generation: u64) -> Self {
        Worker {
            pool,
            generation,
            process: Process::Asked,
            closed: false,
            torn: false,
            running: None,
            begun: 0,
            said: VecDeque::new(),
            pid_known: false,
            ready: false,
            frozen: false,
            socket: VecDeque::new(),
            reading: None,
            unheard: false,
        }
    }

    /// Jobs that it has in its process or on its socket.
    pub fn holds(&self) -> impl Iterator<Item = &Frame> {
        let running = self.running.iter().flat_map(Running::frames);
        running.chain(&self.reading).chain(&self.socket)
    }

    /// The last thing that it said and that was not heard yet.
    pub fn last_said(&self) -> Option<&Said> {
        self.said.back()
    }

    pub(super) fn unread(&self) -> Unread {
        Unread {
            executions: self.socket.iter().map(|frame| frame.execution).collect(),
            torn: self.reading.is_some(),
        }
    }

    /// Reads one frame, and all of its batch, which lies on the socket as a whole.
    pub(super) fn read(&mut self) -> Option<Vec<Frame>> {
        let mut frames = vec![self.reading.take().or_else(|| self.socket.pop_front())?];
        while frames.last().is_some_and(|last| last.another_follows)
            && let Some(next) = self.socket.pop_front()
        {
            frames.push(next);
        }
        let is_whole = frames.last().is_some_and(|last| !last.another_follows);
        assert!(is_whole, "a batch lies on the socket as a whole: {frames:?}");
        Some(frames)
    }

    pub(super) fn acts(&self) -> bool {
        self.process == Process::Alive && !self.frozen
    }
}
