//! The packets on a worker's job socket, and frames put together from them. `frame.rs` says what they carry.

/// Protocol version, first byte of each packet.
pub const VERSION: u8 = 2;
/// Longest packet, header included.
pub const PACKET_LEN_MAX: usize = 65_536;
/// Length of a packet's header.
pub const HEADER_LEN: usize = 4;
/// Where a packet's kind and flags are.
const KIND_AT: usize = 1;
const FLAGS_AT: usize = 2;
const NUMBER_AT: usize = 3;
/// Flag: the next packet carries more of this frame.
const MORE: u8 = 1;
/// Flag of a `Run`: the next frame is another job of the same batch.
pub const BATCH: u8 = 2;

/// Kind of a `Run`.
pub const KIND_RUN: u8 = 1;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header or its fixed fields.
    #[error("a frame of {0} bytes is shorter than its fixed fields")]
    Short(usize),
    /// Another protocol version.
    #[error("frame version {0}, expected {VERSION}")]
    Version(u8),
    /// A kind that the receiver does not expect.
    #[error("unexpected frame kind {0}")]
    Kind(u8),
    /// A length field points past the end.
    #[error("a length field points past the end of the frame")]
    Length,
    /// A text field is not UTF-8.
    #[error("a text field is not UTF-8")]
    Text,
    /// An unknown outcome code.
    #[error("unknown outcome code {0}")]
    Outcome(u8),
    /// The frame grows past the limit of its receiver.
    #[error("a frame of more than {0} bytes")]
    TooLong(usize),
    /// A packet of another frame before the last part of this one.
    #[error("a frame was interrupted by another one")]
    Interrupted,
    /// A packet that is not the next one of its frame.
    #[error("a packet is missing in a frame")]
    Gap,
}

/// The packets of one frame, reusable: clear by the next `encode`.
#[derive(Debug, Default)]
pub struct Packets {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    kind: u8,
    flags: u8,
    /// Number of the packet that is written.
    number: u8,
}

impl Packets {
    /// The packets in order; each goes out with one `send`.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[start..*end])
    }

    /// Number of packets.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn begin(&mut self, kind: u8) {
        self.begin_with(kind, 0);
    }

    pub(super) fn begin_with(&mut self, kind: u8, flags: u8) {
        self.bytes.clear();
        self.ends.clear();
        self.kind = kind;
        self.flags = flags;
        self.number = 0;
        self.header();
    }

    fn header(&mut self) {
        self.bytes.extend([VERSION, self.kind, self.flags, self.number]);
    }

    fn packet_start(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(super) fn put(&mut self, mut part: &[u8]) {
        loop {
            let room = PACKET_LEN_MAX - (self.bytes.len() - self.packet_start());
            let (now, later) = part.split_at(part.len().min(room));
            self.bytes.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            let start = self.packet_start();
            self.bytes[start + FLAGS_AT] |= MORE;
            self.ends.push(self.bytes.len());
            self.number = number_after(self.number);
            self.header();
            part = later;
        }
    }

    pub(super) fn finish(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// Whether the frame of this packet is a job of a batch, and not its last one: another frame of it follows.
pub fn another_follows(packet: &[u8]) -> bool {
    packet.get(FLAGS_AT).is_some_and(|flags| flags & BATCH != 0)
}

/// Whether this packet carries on the frame of an earlier one.
pub fn carries_on(packet: &[u8]) -> bool {
    packet.get(NUMBER_AT).is_some_and(|number| *number != 0)
}

/// The execution that a `Run`'s first packet names; `None`: it carries on another one's frame, or is no `Run`.
pub fn execution_of(packet: &[u8]) -> Option<u64> {
    let bytes = packet.get(HEADER_LEN..)?.first_chunk()?;
    let begins_run = packet[KIND_AT] == KIND_RUN && !carries_on(packet);
    begins_run.then(|| u64::from_le_bytes(*bytes))
}

/// The number of the packet behind the one of this number; 0 is a frame's first one alone.
fn number_after(number: u8) -> u8 {
    number % u8::MAX + 1
}

/// Puts packets together into frames, up to a limit.
#[derive(Debug)]
pub struct Assembler {
    body: Vec<u8>,
    kind: u8,
    more: bool,
    /// Number of the last packet, while more of its frame follow.
    number: u8,
    len_max: usize,
}

impl Assembler {
    /// Frames with a body of more than `len_max` bytes are an error.
    pub fn new(len_max: usize) -> Self {
        Assembler {
            body: Vec::new(),
            kind: 0,
            more: false,
            number: 0,
            len_max,
        }
    }

    /// Takes one packet. Returns kind and body when it completes a frame. After an error the
    /// stream has no meaning any more: the caller drops the peer.
    pub fn take<'a>(&'a mut self, packet: &'a [u8]) -> Result<Option<(u8, &'a [u8])>, FrameError> {
        let (header, part) = packet
            .split_at_checked(HEADER_LEN)
            .ok_or(FrameError::Short(packet.len()))?;
        let [version, kind, flags, number] = [header[0], header[1], header[2], header[3]];
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let expected = if self.more { number_after(self.number) } else { 0 };
        if kind == KIND_RUN && number != expected {
            return Err(FrameError::Gap);
        }
        self.number = number;
        let more = flags & MORE != 0;
        let known = if self.more { self.body.len() } else { 0 };
        if known + part.len() > self.len_max {
            return Err(FrameError::TooLong(self.len_max));
        }
        if !self.more && !more {
            return Ok(Some((kind, part)));
        }
        if !self.more {
            self.body.clear();
            self.kind = kind;
        } else if kind != self.kind {
            return Err(FrameError::Interrupted);
        }
        self.body.extend_from_slice(part);
        self.more = more;
        Ok((!more).then_some((self.kind, &self.body)))
    }
}
