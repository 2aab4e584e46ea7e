//! What a process prints, cut into lines.

use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

use super::printed::Stream;

/// A longer line is told in pieces of this length.
const LINE_LEN_MAX: usize = 16 * 1024;
/// Bytes a read.
const READ_LEN: usize = 8 * 1024;

/// One output pipe.
#[derive(Debug)]
pub(super) struct Lines {
    pipe: Option<pipe::Receiver>,
    pub stream: Stream,
    /// What was read and not told yet.
    bytes: Vec<u8>,
    /// There may be a whole line in `bytes`.
    has_more: bool,
}

impl Lines {
    /// Reads from the read end of a pipe.
    pub fn new(read_end: OwnedFd, stream: Stream) -> std::io::Result<Self> {
        Ok(Lines {
            pipe: Some(pipe::Receiver::from_owned_fd(read_end)?),
            stream,
            bytes: Vec::new(),
            has_more: false,
        })
    }

    /// Waits until there is something to read; for ever once the pipe is closed.
    pub async fn readable(&self) {
        if self.has_more {
            return;
        }
        match &self.pipe {
            Some(pipe) if pipe.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Tells whole lines that are there, at most `max`; reads once if none is at hand.
    pub fn tell_some(&mut self, max: usize, tell: &mut dyn FnMut(Stream, &[u8])) {
        if !self.has_more {
            self.read(|pipe, buffer| pipe.try_read(buffer));
        }
        self.tell(max, tell);
    }

    /// Tells all whole lines that were written up to this instant, of which the event loop may not know yet. Reads
    /// at most `reads` times: a writer that goes on must not hold us.
    pub fn tell_newest(&mut self, reads: usize, tell: &mut dyn FnMut(Stream, &[u8])) {
        self.tell(usize::MAX, tell);
        for _ in 0..reads {
            if !self.read(|pipe, buffer| Ok(nix::unistd::read(pipe, buffer)?)) {
                return;
            }
            self.tell(usize::MAX, tell);
        }
    }

    /// As [`Lines::tell_newest`], the last line even if it is unfinished, and closes the pipe.
    pub fn finish(&mut self, reads: usize, tell: &mut dyn FnMut(Stream, &[u8])) {
        self.tell_newest(reads, tell);
        self.pipe = None;
        if !self.bytes.is_empty() {
            tell(self.stream, &std::mem::take(&mut self.bytes));
        }
    }

    /// Returns whether something came.
    fn read(&mut self, read: impl Fn(&pipe::Receiver, &mut [u8]) -> std::io::Result<usize>) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut buffer = [0; READ_LEN];
        match read(pipe, &mut buffer) {
            Ok(len) if len > 0 => {
                self.bytes.extend_from_slice(&buffer[..len]);
                self.has_more = true;
                return true;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                // Nobody finishes the last line any more.
                self.pipe = None;
                if self.bytes.last().is_some_and(|last| *last != b'\n') {
                    self.bytes.push(b'\n');
                }
                self.has_more = !self.bytes.is_empty();
            }
        }
        false
    }

    fn tell(&mut self, max: usize, tell: &mut dyn FnMut(Stream, &[u8])) {
        let mut start = 0;
        let mut told = 0;
        while self.has_more && told < max {
            let rest = &self.bytes[start..];
            let window = &rest[..rest.len().min(LINE_LEN_MAX + 1)];
            let (len, end) = match window.iter().position(|byte| *byte == b'\n') {
                Some(len) => (len, len + 1),
                None if window.len() > LINE_LEN_MAX => (LINE_LEN_MAX, LINE_LEN_MAX),
                None => {
                    self.has_more = false;
                    break;
                }
            };
            tell(self.stream, &rest[..len]);
            told += 1;
            start += end;
        }
        self.bytes.drain(..start);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The lengths of the lines that each turn tells.
    async fn lines_of(written: &[u8], max: usize) -> Vec<Vec<usize>> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut lines = Lines::new(reader.into(), Stream::Stdout).unwrap();
        writer.write_all(written).unwrap();
        drop(writer);
        let mut turns = Vec::new();
        while lines.pipe.is_some() || lines.has_more {
            lines.readable().await;
            let mut turn = Vec::new();
            lines.tell_some(max, &mut |_, line| turn.push(line.len()));
            if !turn.is_empty() {
                turns.push(turn);
            }
        }
        turns
    }

    #[tokio::test]
    async fn a_turn_tells_so_many_lines_and_no_more() {
        assert_eq!(lines_of(b"a\n\nbcd\n\n", 3).await, [vec![1, 0, 3], vec![0]]);
        assert_eq!(lines_of(b"a\nbc", 3).await, [vec![1], vec![2]]);
    }

    #[tokio::test]
    async fn a_long_line_is_told_in_pieces() {
        let mut text = vec![b'x'; 2 * LINE_LEN_MAX + 5];
        text.push(b'\n');
        let pieces: Vec<usize> = lines_of(&text, 9).await.concat();
        assert_eq!(pieces, [LINE_LEN_MAX, LINE_LEN_MAX, 5]);
        text.truncate(LINE_LEN_MAX);
        text.push(b'\n');
        assert_eq!(lines_of(&text, 9).await.concat(), [LINE_LEN_MAX]);
    }
}
