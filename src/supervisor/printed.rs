//! What processes print.

use tokio::sync::OwnedSemaphorePermit;

use super::allowance::Amount;

/// Lines that a process printed, and what of it was left out before them.
#[derive(Debug)]
pub(super) struct Printed {
    pub from: Source,
    pub left_out: Amount,
    pub lines: Vec<(Stream, String)>,
    /// Lets the next batch come, once this one is logged.
    pub _taken: Option<OwnedSemaphorePermit>,
}

/// Who printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Template(u64),
    Worker(u64),
}

/// Where it printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}
