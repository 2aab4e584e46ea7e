//! What comes from one worker: what it prints, its frames, its death.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::input::Input;
use super::output::Output;
use super::unsent::{Unsent, flush};
use crate::death::ProcessEnd;
use crate::fleet::Done;
use crate::job::{JobError, Outcome, Progress};
use crate::sys::pidfd::{PidFd, Waited};
use crate::sys::process;
use crate::sys::socket::{self, Received, Wait};
use crate::sys::watch::watch_process;
use crate::text::without_lone_surrogates;
use crate::wire::frame::{Assembler, Code, FrameError, FromWorker, PACKET_LEN_MAX};

/// Frames read from one worker before the others get their turn.
const FRAMES_A_TURN: usize = 128;
/// How long a dead worker's template may take to say how it died.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

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
pub(super) struct Reader {
    pub worker: u64,
    pub socket: Arc<AsyncFd<OwnedFd>>,
    pub unsent: Arc<Unsent>,
    pub output: Output,
    pub assembler: Assembler,
    pub inputs: UnboundedSender<Input>,
}

impl Reader {
    pub async fn run(
        mut self,
        born: oneshot::Receiver<Option<Arc<PidFd>>>,
        end: oneshot::Receiver<ProcessEnd>,
    ) {
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
        let (how, end) = how_it_ended(pidfd, end).await;
        self.output.end_of_process();
        let _ = self.inputs.send(Input::WorkerExited { worker, how, end });
    }

    /// Reads the frames that are there, some at most.
    fn read_frames(&mut self, buffer: &mut [u8]) -> Read {
        let mut has_ended = false;
        for _ in 0..FRAMES_A_TURN {
            match socket::recv(self.socket.get_ref(), buffer, Wait::Never) {
                Ok(Received::Packet(len)) => match self.decode(&buffer[..len]) {
                    Ok(Some(input)) => {
                        if matches!(input, Input::Done { .. }) && !std::mem::replace(&mut has_ended, true) {
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

    fn decode(&mut self, packet: &[u8]) -> Result<Option<Input>, FrameError> {
        let Some((kind, body)) = self.assembler.take(packet)? else {
            return Ok(None);
        };
        let worker = self.worker;
        Ok(Some(match FromWorker::decode(kind, body)? {
            FromWorker::Ready => Input::WorkerReady { worker },
            FromWorker::Pong(execution) => Input::Pong { worker, execution },
            FromWorker::Progress { execution, json } => match Progress::read(json) {
                Ok(progress) => Input::Progress {
                    worker,
                    execution,
                    progress,
                },
                Err(error) => Input::Garbage {
                    worker,
                    error: format!("a progress that can't be read: {error}"),
                },
            },
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

/// How a dead process ended, in words and as data: from the kernel when it is our child, else from its parent.
pub(super) async fn how_it_ended(
    pidfd: Option<AsyncFd<Arc<PidFd>>>,
    end: oneshot::Receiver<ProcessEnd>,
) -> (String, ProcessEnd) {
    let ours = pidfd.and_then(|pidfd| match pidfd.get_ref().wait() {
        Ok(Waited::Ended(end)) => Some(end),
        _ => None,
    });
    let end = match ours {
        Some(end) => end,
        None => match tokio::time::timeout(STATUS_PATIENCE, end).await {
            Ok(Ok(end)) => end,
            Ok(Err(_)) | Err(_) => ProcessEnd::default(),
        },
    };
    let how = end
        .status
        .map_or_else(|| "ended".to_owned(), process::describe_status);
    (how, end)
}
