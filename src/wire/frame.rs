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
//! Progress: execution u64 | JSON (the rest)
//! Done:    execution u64 | started_ns u64 | ended_ns u64 | outcome u8 | reserved [u8; 3] |
//!          after_ms u32 (outcome Retry; 4294967295: as the policy says) | data (the rest)
//! ```

use crate::time::Mono;

pub use super::packets::{
    Assembler, BATCH, FrameError, HEADER_LEN, KIND_RUN, PACKET_LEN_MAX, Packets, VERSION, another_follows,
    carries_on, execution_of,
};

const RUN_FIXED_LEN: usize = 32;
const DONE_FIXED_LEN: usize = 32;
const AFTER_BY_POLICY: u32 = u32::MAX;

const KIND_PING: u8 = 2;
const KIND_READY: u8 = 16;
const KIND_DONE: u8 = 17;
const KIND_PONG: u8 = 18;
const KIND_PROGRESS: u8 = 19;

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
    /// How far a job is.
    Progress {
        /// The execution.
        execution: u64,
        /// A JSON object with `fraction` and `message`, see [`crate::job::Progress`].
        json: &'a [u8],
    },
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
            FromWorker::Progress { execution, json } => {
                out.begin(KIND_PROGRESS);
                out.put(&execution.to_le_bytes());
                out.put(json);
            }
        }
        out.finish();
    }

    /// Reads a frame's body.
    pub fn decode(kind: u8, body: &[u8]) -> Result<FromWorker<'_>, FrameError> {
        match kind {
            KIND_READY => Ok(FromWorker::Ready),
            KIND_PONG => Ok(FromWorker::Pong(u64::from_le_bytes(Rest(body).array()?))),
            KIND_PROGRESS => {
                let mut rest = Rest(body);
                let execution = u64::from_le_bytes(rest.array()?);
                Ok(FromWorker::Progress {
                    execution,
                    json: rest.0,
                })
            }
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
