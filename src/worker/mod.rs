//! A worker after its fork: read one job, run it, report how it ended; leave at end of file.
//!
//! Jobs of a batch are read together, and the runtime is called once for all of them (`batch`).
//!
//! A blocking loop in one thread. SIGTERM makes it leave when its job is done. It needs no broker, and its life hangs on its supervisor's by its lifeline.

mod batch;
mod outcome;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::job::Progress;
use crate::runtime::executor::Executor;
use crate::runtime::report::Tell;
use crate::sys::SysError;
use crate::sys::fork::exit_copy;
use crate::sys::signal::asked_to_leave;
use crate::sys::socket::{Received, Sent, Wait, recv, send};
use crate::sys::title::Title;
use crate::time::Mono;
use crate::wire::frame::{
    Assembler, FrameError, FromWorker, PACKET_LEN_MAX, Packets, Ping, Run, another_follows,
};

/// Longest frame that a worker takes: the supervisor bounds payloads well below.
const FRAME_LEN_MAX: usize = 1 << 30;
/// A result buffer that grew above this for one job is given back after it.
const RESULT_KEPT_MAX: usize = 1 << 20;

/// What a worker got for its life.
#[derive(Debug)]
pub struct Station {
    /// What its title says before its state: its number, its pool, its generation.
    pub about: String,
    /// Its end of the job socket.
    pub jobs: Rc<OwnedFd>,
    /// The read end of its lifeline, armed: open for as long as it lives.
    pub lifeline: OwnedFd,
    /// Where it shows what it does.
    pub title: Option<Title>,
    /// Largest result in bytes.
    pub max_result: usize,
}

/// Why a worker ends before its job socket does.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error("the supervisor sent something that is no job: {0}")]
    Frame(#[from] FrameError),
    #[error("`after_fork` failed: {0}")]
    AfterFork(String),
}

/// Works until the job socket ends. Never returns into the template's stack: what was loaded is not
/// dropped, which would copy the shared pages just to free them.
pub fn run(station: Station, executor: Box<dyn Executor>) -> ! {
    match Worker::new(station, executor).work() {
        Ok(()) => leave(0),
        Err(error) => refuse(&error),
    }
}

/// Ends a worker that can't work, with the reason on its standard error.
pub fn refuse(error: &dyn std::error::Error) -> ! {
    eprintln!("error: this worker can't go on: {error}");
    leave(1)
}

fn leave(code: i32) -> ! {
    let _ = std::io::stdout().flush();
    exit_copy(code)
}

struct Worker {
    station: Station,
    executor: Box<dyn Executor>,
    /// Packets on their way out.
    packets: Packets,
    result: Vec<u8>,
}

/// Sends how far a running job is. A supervisor that is gone is met by the job's answer.
fn teller(jobs: Rc<OwnedFd>) -> Tell {
    Rc::new(move |execution, progress: &Progress| {
        let json = progress.bounded_json();
        let mut packets = Packets::default();
        FromWorker::Progress {
            execution,
            json: &json,
        }
        .encode(&mut packets);
        for packet in packets.iter() {
            let _ = send(&*jobs, packet, Wait::Block);
        }
    })
}

/// A read of the job socket.
enum Read {
    /// A packet of so many bytes, and whether it had to be waited for.
    Packet(usize, bool),
    /// No more jobs.
    End,
}

impl Worker {
    fn new(station: Station, executor: Box<dyn Executor>) -> Self {
        Worker {
            station,
            executor,
            packets: Packets::default(),
            result: Vec::new(),
        }
    }

    fn work(&mut self) -> Result<(), WorkerError> {
        self.executor.report_to(teller(Rc::clone(&self.station.jobs)));
        self.executor.after_fork().map_err(WorkerError::AfterFork)?;
        FromWorker::Ready.encode(&mut self.packets);
        if self.send()? == Sent::Closed {
            return Ok(());
        }
        let mut buffer = vec![0; PACKET_LEN_MAX];
        let mut frames = Assembler::new(FRAME_LEN_MAX);
        // When the job before ended, if the next one was there by then: busy spans then touch.
        let mut free_since: Option<Mono> = None;
        loop {
            let len = match self.read(&mut buffer)? {
                Read::Packet(len, false) => len,
                Read::Packet(len, true) => {
                    free_since = None;
                    len
                }
                Read::End => return Ok(()),
            };
            let Some((kind, body)) = frames.take(&buffer[..len])? else {
                continue;
            };
            if another_follows(&buffer[..len]) {
                let first = body.to_vec();
                let Some(bodies) = self.read_batch(first, &mut frames, &mut buffer)? else {
                    return Ok(());
                };
                match self.run_batch(&bodies, free_since.unwrap_or_else(Mono::now))? {
                    Some(ended) => free_since = Some(ended),
                    None => return Ok(()),
                }
                continue;
            }
            if let Some(Ping(execution)) = Ping::decode(kind, body)? {
                FromWorker::Pong(execution).encode(&mut self.packets);
                if self.send()? == Sent::Closed {
                    return Ok(());
                }
                continue;
            }
            let run = Run::decode(kind, body)?;
            let started = free_since.unwrap_or_else(Mono::now);
            let ended = self.execute(&run, started);
            if self.send()? == Sent::Closed {
                return Ok(());
            }
            free_since = Some(ended);
        }
    }

    /// Takes the next packet: one that is there, else it shows that it is idle and waits.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, SysError> {
        if asked_to_leave() {
            return Ok(Read::End);
        }
        let jobs = &self.station.jobs;
        let waited = match recv(&**jobs, buffer, Wait::Never)? {
            Received::Packet(len) => return Ok(Read::Packet(len, false)),
            Received::Closed => return Ok(Read::End),
            Received::Nothing => {
                if let Some(title) = &mut self.station.title {
                    title.set(&["pool: ", &self.station.about, " idle"]);
                }
                recv(&**jobs, buffer, Wait::Block)?
            }
        };
        match waited {
            Received::Packet(len) => Ok(Read::Packet(len, true)),
            Received::Closed | Received::Nothing => Ok(Read::End),
        }
    }

    /// Runs one job and writes its outcome into `packets`. Returns when it ended.
    fn execute(&mut self, run: &Run<'_>, started: Mono) -> Mono {
        if let Some(title) = &mut self.station.title {
            title.set(&["pool: ", &self.station.about, " busy ", run.task]);
        }
        self.result.clear();
        self.result.shrink_to(RESULT_KEPT_MAX);
        let ending = self.executor.execute(run, started, &mut self.result);
        // What the job printed without a line's end is its own, not the next one's.
        let _ = std::io::stdout().flush();
        let ended = Mono::now();
        let ending = outcome::bounded(ending, self.result.len(), self.station.max_result);
        outcome::encode(
            run.execution,
            (started, ended),
            &ending,
            &self.result,
            &mut self.packets,
        );
        ended
    }

    fn send(&self) -> Result<Sent, SysError> {
        for packet in self.packets.iter() {
            if send(&*self.station.jobs, packet, Wait::Block)? == Sent::Closed {
                return Ok(Sent::Closed);
            }
        }
        Ok(Sent::Whole)
    }
}
