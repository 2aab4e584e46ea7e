//! The frames on a worker's job socket.
//!
//! A packet is a 4-byte header and a part of a frame's body; all integers are little-endian.
//!
//! ```text
//! packet:  version u8 = 2 | kind u8 | flags u8 | number u8 | body part (up to 65,532 bytes)
//! flags:   bit 0 MORE: the next packet carries more of this frame
//!          bit 1 BATCH: another Run of the same batch comes behind this frame
//! number:  of a Run's packet in its frame: 0, then 1..=255, and 1 again; else 0
//! Run:     execution u64 | timeout_ms u64 (0: none) | attempt u32 | id_len u16 | queue_len u16 |
//!          task_len u16 | ordinal u16 | job_kind u8 | reserved [u8; 3] | id | queue | task |
//!          payload (the rest)
//!          a batch is a row of Runs, all but the last with BATCH
//! Ping:    execution u64
//! Ready:   empty
//! Pong:    execution u64, as in the Ping
//! Done:    execution u64 | started_ns u64 | ended_ns u64 | outcome u8 | reserved [u8; 3] |
//!          after_ms u32 (outcome Retry; 4294967295: as the policy says) | data (the rest)
//! ```

use crate::time::Mono;

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

const RUN_FIXED_LEN: usize = 32;
const DONE_FIXED_LEN: usize = 32;
const AFTER_BY_POLICY: u32 = u32::MAX;

/// Kind of a [`Run`].
pub const KIND_RUN: u8 = 1;
const KIND_PING: u8 = 2;
const KIND_READY: u8 = 16;
const KIND_DONE: u8 = 17;
const KIND_PONG: u8 = 18;

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

/// Run this job (supervisor to worker).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The supervisor's number for this execution; comes back in [`Done`].
    pub execution: u64,
    /// Longest run in milliseconds; 0: no limit.
    pub timeout_ms: u64,
    /// 1 for the first run.
    pub attempt: u32,
    /// The worker's ordinal in its supervisor; see `broker::WorkerView`.
    pub ordinal: u16,
    /// Which of its runtime's kinds of job it is; see [`crate::job::Job::kind`].
    pub job_kind: u8,
    /// The job's id.
    pub id: &'a str,
    /// The queue that it came from.
    pub queue: &'a str,
    /// What to run.
    pub task: &'a str,
    /// Its arguments.
    pub payload: &'a [u8],
}

/// Outcome of an execution as its worker tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Data: the result.
    Success = 0,
    /// Data: a JSON object with `kind`, `message`, `detail`.
    Failure = 1,
    /// As `Failure`, and another run can't help.
    Rejected = 2,
    /// The runtime interrupted the job at its timeout. Data: as `Failure`.
    TimedOut = 3,
    /// The job asks to be run again after `after_ms`. Data: the reason as text.
    Retry = 4,
    /// Not started, or interrupted at the worker's own wish: give it back.
    GivenBack = 5,
    /// The runtime has settled the job with the broker itself. No data.
    Settled = 6,
    /// As `Failure`, of a job in a batch that failed as a whole: it may be another one's fault.
    BatchFailure = 7,
}

impl Code {
    fn from_byte(byte: u8) -> Result<Self, FrameError> {
        [
            Code::Success,
            Code::Failure,
            Code::Rejected,
            Code::TimedOut,
            Code::Retry,
            Code::GivenBack,
            Code::Settled,
            Code::BatchFailure,
        ]
        .into_iter()
        .find(|code| *code as u8 == byte)
        .ok_or(FrameError::Outcome(byte))
    }
}

/// The end of an execution (worker to supervisor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<'a> {
    /// From [`Run`].
    pub execution: u64,
    /// When the job began.
    pub started: Mono,
    /// When it ended.
    pub ended: Mono,
    /// How.
    pub code: Code,
    /// For [`Code::Retry`]: how long to wait; `None`: as the policy says.
    pub after_ms: Option<u32>,
    /// Result, error or reason, as [`Code`] says.
    pub data: &'a [u8],
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWorker<'a> {
    /// It has run its `after_fork` hooks and takes jobs.
    Ready,
    /// A job ended.
    Done(Done<'a>),
    /// It has read a [`Ping`] of this execution: it runs nothing that was sent before.
    Pong(u64),
}

/// Are you between two jobs? (supervisor to worker.) It is sent behind the job that the worker should be running. Only a
/// worker that runs nothing reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping(
    /// The execution that the worker should be running.
    pub u64,
);

impl Ping {
    /// Writes the frame.
    pub fn encode(self, out: &mut Packets) {
        out.begin(KIND_PING);
        out.put(&self.0.to_le_bytes());
        out.finish();
    }

    /// Reads a frame's body; `None`: it is another kind of frame.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, FrameError> {
        if kind != KIND_PING {
            return Ok(None);
        }
        Ok(Some(Ping(u64::from_le_bytes(Rest(body).array()?))))
    }
}

impl Run<'_> {
    /// Length of the frame's body.
    pub fn body_len(&self) -> usize {
        RUN_FIXED_LEN + self.id.len() + self.queue.len() + self.task.len() + self.payload.len()
    }

    /// Writes the frame as packets into `out`, each `(start, end)` of one packet into `packets`.
    ///
    /// Names longer than 65,535 bytes can't occur: [`crate::job::NAME_LEN_MAX`] bounds them.
    pub fn encode(&self, out: &mut Packets) {
        self.encode_in_batch(false, out);
    }

    /// As [`Run::encode`]; `another_follows`: the next frame is another job of the same batch.
    pub fn encode_in_batch(&self, another_follows: bool, out: &mut Packets) {
        out.begin_with(KIND_RUN, if another_follows { BATCH } else { 0 });
        out.put(&self.execution.to_le_bytes());
        out.put(&self.timeout_ms.to_le_bytes());
        out.put(&self.attempt.to_le_bytes());
        for name in [self.id, self.queue, self.task] {
            let len = u16::try_from(name.len()).expect("names are bounded by NAME_LEN_MAX");
            out.put(&len.to_le_bytes());
        }
        out.put(&self.ordinal.to_le_bytes());
        out.put(&[self.job_kind, 0, 0, 0]);
        for name in [self.id, self.queue, self.task] {
            out.put(name.as_bytes());
        }
        out.put(self.payload);
        out.finish();
    }

    /// Reads a frame's body.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Run<'_>, FrameError> {
        if kind != KIND_RUN {
            return Err(FrameError::Kind(kind));
        }
        let mut rest = Rest(body);
        let execution = u64::from_le_bytes(rest.array()?);
        let timeout_ms = u64::from_le_bytes(rest.array()?);
        let attempt = u32::from_le_bytes(rest.array()?);
        let id_len = u16::from_le_bytes(rest.array()?);
        let queue_len = u16::from_le_bytes(rest.array()?);
        let task_len = u16::from_le_bytes(rest.array()?);
        let ordinal = u16::from_le_bytes(rest.array()?);
        let [job_kind, ..] = rest.array::<4>()?;
        Ok(Run {
            execution,
            timeout_ms,
            attempt,
            ordinal,
            job_kind,
            id: rest.text(id_len.into())?,
            queue: rest.text(queue_len.into())?,
            task: rest.text(task_len.into())?,
            payload: rest.0,
        })
    }
}

impl FromWorker<'_> {
    /// Writes the frame as packets.
    pub fn encode(&self, out: &mut Packets) {
        match self {
            FromWorker::Ready => out.begin(KIND_READY),
            FromWorker::Done(done) => {
                out.begin(KIND_DONE);
                out.put(&done.execution.to_le_bytes());
                out.put(&done.started.0.to_le_bytes());
                out.put(&done.ended.0.to_le_bytes());
                out.put(&[done.code as u8, 0, 0, 0]);
                out.put(&done.after_ms.unwrap_or(AFTER_BY_POLICY).to_le_bytes());
                out.put(done.data);
            }
            FromWorker::Pong(execution) => {
                out.begin(KIND_PONG);
                out.put(&execution.to_le_bytes());
            }
        }
        out.finish();
    }

    /// Reads a frame's body.
    pub fn decode(kind: u8, body: &[u8]) -> Result<FromWorker<'_>, FrameError> {
        match kind {
            KIND_READY => Ok(FromWorker::Ready),
            KIND_PONG => Ok(FromWorker::Pong(u64::from_le_bytes(Rest(body).array()?))),
            KIND_DONE => {
                if body.len() < DONE_FIXED_LEN {
                    return Err(FrameError::Short(body.len()));
                }
                let mut rest = Rest(body);
                let execution = u64::from_le_bytes(rest.array()?);
                let started = Mono(u64::from_le_bytes(rest.array()?));
                let ended = Mono(u64::from_le_bytes(rest.array()?));
                let [code, _, _, _] = rest.array()?;
                let after_ms = u32::from_le_bytes(rest.array()?);
                Ok(FromWorker::Done(Done {
                    execution,
                    started,
                    ended,
                    code: Code::from_byte(code)?,
                    after_ms: (after_ms != AFTER_BY_POLICY).then_some(after_ms),
                    data: rest.0,
                }))
            }
            kind => Err(FrameError::Kind(kind)),
        }
    }
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

    fn begin(&mut self, kind: u8) {
        self.begin_with(kind, 0);
    }

    fn begin_with(&mut self, kind: u8, flags: u8) {
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

    fn put(&mut self, mut part: &[u8]) {
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

    fn finish(&mut self) {
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

/// The unread rest of a body.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (now, later) = self.0.split_at_checked(len).ok_or(FrameError::Length)?;
        self.0 = later;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take returns the length asked for"))
    }

    fn text(&mut self, len: usize) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.take(len)?).map_err(|_| FrameError::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assemble(packets: &Packets, len_max: usize) -> Result<(u8, Vec<u8>), FrameError> {
        let mut assembler = Assembler::new(len_max);
        let mut frame = None;
        for packet in packets.iter() {
            assert!(frame.is_none(), "a frame ended before its last packet");
            assert!(packet.len() <= PACKET_LEN_MAX);
            frame = assembler.take(packet)?.map(|(kind, body)| (kind, body.to_vec()));
        }
        Ok(frame.expect("the last packet completes the frame"))
    }

    fn run(payload: &[u8]) -> Run<'_> {
        Run {
            execution: 1,
            timeout_ms: 0,
            attempt: 1,
            ordinal: 1,
            job_kind: 0,
            id: "a",
            queue: "q",
            task: "t",
            payload,
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused() {
        let mut packets = Packets::default();
        let payload = vec![7; 200_000];
        run(&payload).encode(&mut packets);
        assert_eq!(assemble(&packets, 100_000), Err(FrameError::TooLong(100_000)));
    }

    #[test]
    fn all_frames_of_a_batch_but_the_last_say_that_another_follows() {
        let payload = vec![7; 70_000];
        let (mut packets, mut assembler) = (Packets::default(), Assembler::new(1 << 20));
        for (another, payload) in [(true, &payload[..]), (true, b""), (false, b""), (true, b"")] {
            run(payload).encode_in_batch(another, &mut packets);
            for packet in packets.iter() {
                assembler.take(packet).unwrap();
                assert_eq!(another_follows(packet), another);
            }
        }
    }

    #[test]
    fn a_frame_of_which_a_packet_was_taken_back_is_refused() {
        let payload = vec![7; 300 * PACKET_LEN_MAX];
        let mut packets = Packets::default();
        run(&payload).encode(&mut packets);
        assert!(assemble(&packets, 1 << 30).is_ok());
        for missing in [0, 1, 2, 255, 256, 257] {
            let mut assembler = Assembler::new(1 << 30);
            let mut rest = packets.iter().enumerate().filter(|(at, _)| *at != missing);
            let gap = rest.find_map(|(_, packet)| assembler.take(packet).err());
            assert_eq!(gap, Some(FrameError::Gap), "without packet {missing}");
        }
    }

    #[test]
    fn a_ping_is_no_job() {
        let mut packets = Packets::default();
        Ping(7).encode(&mut packets);
        assert_eq!(packets.iter().filter_map(execution_of).count(), 0);
        let (kind, body) = assemble(&packets, 1000).unwrap();
        assert_eq!(Ping::decode(kind, &body), Ok(Some(Ping(7))));
        assert_eq!(Run::decode(kind, &body), Err(FrameError::Kind(KIND_PING)));
        FromWorker::Pong(7).encode(&mut packets);
        let (kind, body) = assemble(&packets, 1000).unwrap();
        assert_eq!(FromWorker::decode(kind, &body), Ok(FromWorker::Pong(7)));
        assert_eq!(Ping::decode(KIND_PING, b"short"), Err(FrameError::Length));
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        let mut assembler = Assembler::new(1000);
        assert_eq!(assembler.take(b"x"), Err(FrameError::Short(1)));
        assert_eq!(assembler.take(b"hello"), Err(FrameError::Version(b'h')));
        assert_eq!(FromWorker::decode(99, b""), Err(FrameError::Kind(99)));
        assert_eq!(FromWorker::decode(KIND_DONE, b"short"), Err(FrameError::Short(5)));
        assert_eq!(Run::decode(KIND_RUN, &[255; 32]), Err(FrameError::Length));
    }

    proptest! {
        #[test]
        fn a_run_survives_the_wire(
            execution: u64, timeout_ms: u64, attempt: u32, ordinal: u16, job_kind: u8,
            id in "[a-z0-9-]{1,40}", queue in "\\PC{1,20}", task in "[a-z._]{1,40}",
            payload_len in prop_oneof![0usize..2000, 65_000usize..66_000, 130_000usize..140_000],
        ) {
            let payload: Vec<u8> = (0..payload_len).map(|i| i as u8).collect();
            let run = Run {
                execution, timeout_ms, attempt, ordinal, job_kind, id: &id, queue: &queue, task: &task, payload: &payload,
            };
            let mut packets = Packets::default();
            run.encode(&mut packets);
            let (kind, body) = assemble(&packets, 1 << 20)?;
            prop_assert_eq!(body.len(), run.body_len());
            prop_assert_eq!(Run::decode(kind, &body)?, run);
        }

        #[test]
        fn an_outcome_survives_the_wire(
            execution: u64, started: u64, ended: u64, code in 0u8..8,
            after_ms in proptest::option::of(0u32..u32::MAX), data: Vec<u8>,
        ) {
            let done = FromWorker::Done(Done {
                execution, started: Mono(started), ended: Mono(ended),
                code: Code::from_byte(code)?, after_ms, data: &data,
            });
            let mut packets = Packets::default();
            done.encode(&mut packets);
            let (kind, body) = assemble(&packets, 1 << 20)?;
            prop_assert_eq!(FromWorker::decode(kind, &body)?, done);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(kind: u8, packets: Vec<Vec<u8>>) {
            let mut assembler = Assembler::new(4096);
            for packet in &packets {
                let _ = FromWorker::decode(kind, packet);
                let _ = Run::decode(kind, packet);
                if assembler.take(packet).is_err() {
                    break;
                }
            }
        }
    }
}
