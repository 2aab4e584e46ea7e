//! What a process prints on its way to the log: no faster than the loop takes it, and cut where it is a flood.
//!
//! A process that prints faster than the loop logs waits in its `write`, as at any pipe. One that prints more than
//! its [`Allowance`] is not held up any longer: what is above is read, counted and left out.

use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allowance::{Allowance, Amount, Rate};
use super::input::Input;
use super::lines::Lines;
use super::printed::{Printed, Source, Stream};
use crate::time::Mono;

/// What one process may print: a long report at once, and more than anybody reads from then on.
const EACH: Rate = Rate {
    burst: Amount {
        lines: 10_000,
        bytes: 8 << 20,
    },
    each_second: Amount {
        lines: 1_000,
        bytes: 1 << 20,
    },
};
/// What each job may print at least, whatever the one before it printed.
const EACH_JOB: Amount = Amount {
    lines: 100,
    bytes: 64 << 10,
};
/// What all processes may print together: a fraction of what the loop can log.
const ALL: Rate = Rate {
    burst: Amount {
        lines: 50_000,
        bytes: 32 << 20,
    },
    each_second: Amount {
        lines: 10_000,
        bytes: 8 << 20,
    },
};
/// How long a cut lasts: a flood costs a line about it a second, not one for each line that still fits.
const CUT: Duration = Duration::from_secs(1);
/// Lines of one stream that go to the loop together.
const LINES_A_BATCH: usize = 256;
/// Batches of one process on their way to the loop.
const BATCHES_MAX: usize = 2;
/// Reads of what is there when a job has ended: more than a pipe holds by default (64 KiB).
const READS_AFTER_JOB: usize = 16;
/// Reads of what is there when a process has ended: it may have made its pipes larger.
const READS_AFTER_END: usize = 64;

static LEFT_OF_ALL: LazyLock<Mutex<Allowance>> =
    LazyLock::new(|| Mutex::new(Allowance::new(ALL, Mono::now())));

/// The two output pipes of one process.
#[derive(Debug)]
pub(super) struct Output {
    from: Source,
    pipes: [Lines; 2],
    limit: Limit,
    batches: Arc<Semaphore>,
    inputs: UnboundedSender<Input>,
}

/// What of the output is passed on.
#[derive(Debug)]
struct Limit {
    allowance: Allowance,
    /// Nothing is passed on before.
    cut_until: Option<Mono>,
    left_out: Amount,
}

impl Limit {
    /// Whether a line of this length is passed on. It is counted if not.
    fn admits(&mut self, len: usize, now: Mono) -> bool {
        let admits = self.cut_until.is_none() && self.allowance.take(len, now) && {
            let mut all = LEFT_OF_ALL.lock().unwrap_or_else(PoisonError::into_inner);
            all.take(len, now)
        };
        if !admits {
            self.cut_until = self.cut_until.or(Some(now + CUT));
            self.left_out.lines += 1;
            self.left_out.bytes += len as u64;
        }
        admits
    }

    /// The next job is not cut for what this one printed.
    fn forgive(&mut self) {
        self.cut_until = None;
        self.allowance.leave_at_least(EACH_JOB);
    }

    /// Ends a cut that has lasted long enough. Returns whether it did.
    fn ends_cut(&mut self, now: Mono) -> bool {
        self.cut_until.take_if(|until| *until <= now).is_some()
    }
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Ready {
    /// There is something to read, and room for it.
    ToRead(OwnedSemaphorePermit),
    /// A cut is over, and what it left out is to be told.
    CutIsOver,
}

impl Output {
    /// Reads from the read ends of these pipes.
    pub fn new(
        from: Source,
        (stdout, stderr): (OwnedFd, OwnedFd),
        inputs: UnboundedSender<Input>,
    ) -> std::io::Result<Self> {
        Ok(Output {
            from,
            pipes: [
                Lines::new(stdout, Stream::Stdout)?,
                Lines::new(stderr, Stream::Stderr)?,
            ],
            limit: Limit {
                allowance: Allowance::new(EACH, Mono::now()),
                cut_until: None,
                left_out: Amount::default(),
            },
            batches: Arc::new(Semaphore::new(BATCHES_MAX)),
            inputs,
        })
    }

    /// Waits until there is something to do.
    pub async fn ready(&self) -> Ready {
        let to_read = async {
            let Ok(permit) = self.batches.clone().acquire_owned().await else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = self.pipes[0].readable() => permit,
                () = self.pipes[1].readable() => permit,
            }
        };
        let cut_is_over = async {
            match self.limit.cut_until {
                Some(until) => tokio::time::sleep(until.since(Mono::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            permit = to_read => Ready::ToRead(permit),
            () = cut_is_over => Ready::CutIsOver,
        }
    }

    /// Does it.
    pub fn serve(&mut self, ready: Ready) {
        match ready {
            Ready::ToRead(permit) => {
                self.pass_on(Some(permit), |lines, tell| lines.tell_some(LINES_A_BATCH, tell))
            }
            Ready::CutIsOver => self.pass_on(None, |_, _| {}),
        }
    }

    /// Passes on all that was printed up to this instant: a job has ended, and these lines are its own.
    pub fn end_of_job(&mut self) {
        self.pass_on(None, |lines, tell| lines.tell_newest(READS_AFTER_JOB, tell));
        self.tell_left_out();
        self.limit.forgive();
    }

    /// Passes on what is left, and closes the pipes.
    pub fn end_of_process(&mut self) {
        self.pass_on(None, |lines, tell| lines.finish(READS_AFTER_END, tell));
        self.tell_left_out();
    }

    fn pass_on(
        &mut self,
        taken: Option<OwnedSemaphorePermit>,
        read: impl Fn(&mut Lines, &mut dyn FnMut(Stream, &[u8])),
    ) {
        let now = Mono::now();
        if self.limit.ends_cut(now) {
            self.tell_left_out();
        }
        let mut lines = Vec::new();
        let limit = &mut self.limit;
        for pipe in &mut self.pipes {
            read(pipe, &mut |stream, line| {
                if limit.admits(line.len(), now) {
                    lines.push((stream, text(line)));
                }
            });
        }
        if !lines.is_empty() {
            self.send(Amount::default(), lines, taken);
        }
    }

    fn tell_left_out(&mut self) {
        let left_out = std::mem::take(&mut self.limit.left_out);
        if left_out.lines > 0 {
            self.send(left_out, Vec::new(), None);
        }
    }

    fn send(&self, left_out: Amount, lines: Vec<(Stream, String)>, taken: Option<OwnedSemaphorePermit>) {
        // A loop that has ended logs nothing any more.
        let _ = self.inputs.send(Input::Printed(Printed {
            from: self.from,
            left_out,
            lines,
            _taken: taken,
        }));
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}
