//! Writes log lines to a descriptor without ever being held up by its reader.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long the first line that finds its reader stalled waits; those after it do not wait.
const PATIENCE: Duration = Duration::from_millis(100);

/// Most bytes a write: what a pipe that polls writable takes without blocking (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// A descriptor that is shared with other processes, and so can't be made non-blocking.
#[derive(Debug)]
pub(super) struct Sink<F> {
    to: F,
    /// Lines lost since the last that was written.
    dropped: u64,
    /// A line was cut off in its midst.
    is_torn: bool,
}

impl<F: AsFd> Sink<F> {
    pub fn new(to: F) -> Self {
        Sink {
            to,
            dropped: 0,
            is_torn: false,
        }
    }

    /// Lines lost since the last that was written, when there is room again to say so.
    pub fn dropped(&self) -> Option<u64> {
        (self.dropped > 0 && self.is_writable(Duration::ZERO)).then_some(self.dropped)
    }

    /// Writes the line and a line break, or counts it as dropped: when nobody reads, and on any error
    /// of the descriptor, since there is nobody left to tell.
    pub fn write(&mut self, line: &str) {
        let patience = if self.dropped == 0 {
            PATIENCE
        } else {
            Duration::ZERO
        };
        let torn = if self.is_torn { "\n" } else { "" };
        let bytes = format!("{torn}{line}\n").into_bytes();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if !self.is_writable(patience) {
                break;
            }
            match nix::unistd::write(&self.to, &rest[..rest.len().min(CHUNK)]) {
                Ok(written) => rest = &rest[written..],
                Err(nix::Error::EINTR) => {}
                Err(_) => break,
            }
        }
        if rest.is_empty() {
            (self.dropped, self.is_torn) = (0, false);
        } else {
            self.dropped += 1;
            self.is_torn |= rest.len() < bytes.len();
        }
    }

    fn is_writable(&self, patience: Duration) -> bool {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        // An error on the descriptor is for the write to find.
        poll(&mut fds, patience).is_ok_and(|ready| ready > 0)
    }
}

/// Standard error by its descriptor: the lock of `std::io::stderr` is not needed, and a closed one is no error.
#[derive(Debug)]
pub(super) struct Stderr(io::Stderr);

impl Stderr {
    pub fn new() -> Self {
        Stderr(io::stderr())
    }
}

impl AsFd for Stderr {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_stalled_reader_costs_lines_and_never_blocks() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut sink = Sink::new(writer);
        let line = "x".repeat(1000);
        for _ in 0..1000 {
            sink.write(&line); // 1 MB into a pipe of 64 KiB
        }
        assert_eq!(sink.dropped(), None, "there is no room to say so");
        let mut some = vec![0; 40_000];
        reader.read_exact(&mut some).unwrap();
        assert!(sink.dropped().is_some_and(|dropped| dropped > 900));
        sink.write("back");
        assert_eq!(sink.dropped(), None);
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("x\nback\n"));
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut sink = Sink::new(writer);
        sink.write("nobody reads this");
        assert_eq!(sink.dropped(), Some(1));
    }
}
