//! What a process prints, line by line.

use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

use super::input::Stream;

/// A longer line is told in pieces of this length.
const LINE_LEN_MAX: usize = 16 * 1024;

/// One output pipe, cut into lines.
#[derive(Debug)]
pub(super) struct Lines {
    pipe: Option<pipe::Receiver>,
    pub stream: Stream,
    rest: Vec<u8>,
}

impl Lines {
    /// Reads from the read end of a pipe.
    pub fn new(read_end: OwnedFd, stream: Stream) -> std::io::Result<Self> {
        Ok(Lines {
            pipe: Some(pipe::Receiver::from_owned_fd(read_end)?),
            stream,
            rest: Vec::new(),
        })
    }

    /// Waits until there is something to read; for ever once the pipe is closed.
    pub async fn readable(&self) {
        match &self.pipe {
            Some(pipe) if pipe.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Reads what is there, at most one buffer, and gives each whole line to `tell`.
    pub fn read(&mut self, tell: impl FnMut(Stream, String)) {
        self.read_by(tell, |pipe, buffer| pipe.try_read(buffer));
    }

    /// As [`Lines::read`], for what was written this instant, of which the event loop does not know yet.
    pub fn read_newest(&mut self, tell: impl FnMut(Stream, String)) {
        self.read_by(tell, |pipe, buffer| Ok(nix::unistd::read(pipe, buffer)?));
    }

    fn read_by(
        &mut self,
        mut tell: impl FnMut(Stream, String),
        read: impl Fn(&pipe::Receiver, &mut [u8]) -> std::io::Result<usize>,
    ) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0; 8192];
        match read(pipe, &mut buffer) {
            Ok(0) => self.close(tell),
            Ok(len) => {
                for byte in &buffer[..len] {
                    if *byte == b'\n' || self.rest.len() >= LINE_LEN_MAX {
                        tell(self.stream, text(&std::mem::take(&mut self.rest)));
                    }
                    if *byte != b'\n' {
                        self.rest.push(*byte);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(tell),
        }
    }

    /// Reads to the end of what is there and gives an unfinished line too.
    pub fn finish(&mut self, mut tell: impl FnMut(Stream, String)) {
        let before = |lines: &Self| (lines.pipe.is_some(), lines.rest.len());
        // A writer that lives on (a daemon that the job left) must not hold us: what is there, bounded.
        for _ in 0..64 {
            let was = before(self);
            self.read_newest(&mut tell);
            if was == before(self) {
                break;
            }
        }
        self.close(tell);
    }

    fn close(&mut self, mut tell: impl FnMut(Stream, String)) {
        self.pipe = None;
        if !self.rest.is_empty() {
            tell(self.stream, text(&std::mem::take(&mut self.rest)));
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}
