//! How an execution ended, as a `Done` frame.

use crate::job::JobError;
use crate::runtime::executor::Ending;
use crate::text::{head, tail};
use crate::time::Mono;
use crate::wire::frame::{Code, Done, FromWorker, Packets};

/// Longest text of an error that travels, in bytes; of a longer one, its end.
const DETAIL_LEN_MAX: usize = 64 * 1024;
/// Longest message, in bytes; of a longer one, its beginning.
const MESSAGE_LEN_MAX: usize = 16 * 1024;

/// A success whose result is above the limit is a failure.
pub fn bounded(ending: Ending, result_len: usize, result_len_max: usize) -> Ending {
    if ending == Ending::Success && result_len > result_len_max {
        return Ending::Failure(JobError::new(
            "result too large",
            format!(
                "the result of {result_len} bytes is above the limit of {result_len_max} (`broker.max_result`)"
            ),
        ));
    }
    ending
}

/// Writes the frame into `packets`.
pub fn encode(
    execution: u64,
    (started, ended): (Mono, Mono),
    ending: &Ending,
    result: &[u8],
    packets: &mut Packets,
) {
    encode_answer(execution, (started, ended), (ending, false), result, packets);
}

/// As [`encode`]; `whole_batch`: it is the failure of the batch that the job was part of.
pub fn encode_answer(
    execution: u64,
    (started, ended): (Mono, Mono),
    (ending, whole_batch): (&Ending, bool),
    result: &[u8],
    packets: &mut Packets,
) {
    let told;
    let (code, after_ms, data): (Code, Option<u32>, &[u8]) = match ending {
        Ending::Success => (Code::Success, None, result),
        Ending::Failure(error) | Ending::Rejected(error) | Ending::TimedOut(error) => {
            told = tell(error);
            let code = match code(ending) {
                Code::Failure if whole_batch => Code::BatchFailure,
                own => own,
            };
            (code, None, &told)
        }
        Ending::Retry { after, reason } => {
            // The largest number means that the policy decides.
            let after_ms = after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX - 1));
            (Code::Retry, after_ms, head(reason, MESSAGE_LEN_MAX).as_bytes())
        }
    };
    let done = Done {
        execution,
        started,
        ended,
        code,
        after_ms: after_ms.map(|after| after.min(u32::MAX - 1)),
        data,
    };
    FromWorker::Done(done).encode(packets);
}

fn code(ending: &Ending) -> Code {
    match ending {
        Ending::Success => Code::Success,
        Ending::Failure(_) => Code::Failure,
        Ending::Rejected(_) => Code::Rejected,
        Ending::TimedOut(_) => Code::TimedOut,
        Ending::Retry { .. } => Code::Retry,
    }
}

fn tell(error: &JobError) -> Vec<u8> {
    let bounded = JobError {
        kind: head(&error.kind, MESSAGE_LEN_MAX).to_owned(),
        message: head(&error.message, MESSAGE_LEN_MAX).to_owned(),
        detail: tail(&error.detail, DETAIL_LEN_MAX).to_owned(),
        death: error.death.clone(),
        broker: error.broker.clone(),
    };
    serde_json::to_vec(&bounded).expect("strings are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Assembler;
    use std::time::Duration;

    fn sent(ending: &Ending, result: &[u8]) -> (Code, Option<u32>, Vec<u8>) {
        let mut packets = Packets::default();
        encode(7, (Mono(1), Mono(2)), ending, result, &mut packets);
        let mut frames = Assembler::new(1 << 20);
        let mut sent = None;
        for packet in packets.iter() {
            if let Some((kind, body)) = frames.take(packet).unwrap() {
                let FromWorker::Done(done) = FromWorker::decode(kind, body).unwrap() else {
                    panic!("not a Done");
                };
                assert_eq!((done.execution, done.started, done.ended), (7, Mono(1), Mono(2)));
                sent = Some((done.code, done.after_ms, done.data.to_vec()));
            }
        }
        sent.unwrap()
    }

    #[test]
    fn each_ending_has_its_code_and_data() {
        let error = JobError::new("panic", "oops");
        let told = br#"{"kind":"panic","message":"oops"}"#.to_vec();
        let retry = |after| Ending::Retry {
            after,
            reason: "busy".into(),
        };
        for (ending, expected) in [
            (Ending::Success, (Code::Success, None, b"42".to_vec())),
            (
                Ending::Failure(error.clone()),
                (Code::Failure, None, told.clone()),
            ),
            (
                Ending::Rejected(error.clone()),
                (Code::Rejected, None, told.clone()),
            ),
            (Ending::TimedOut(error), (Code::TimedOut, None, told)),
            (retry(None), (Code::Retry, None, b"busy".to_vec())),
            (
                retry(Some(Duration::from_millis(1500))),
                (Code::Retry, Some(1500), b"busy".to_vec()),
            ),
            (
                retry(Some(Duration::from_millis(u32::MAX.into()))),
                (Code::Retry, Some(u32::MAX - 1), b"busy".to_vec()),
            ),
        ] {
            assert_eq!(sent(&ending, b"42"), expected, "{ending:?}");
        }
    }

    #[test]
    fn a_result_above_the_limit_is_a_failure() {
        assert_eq!(bounded(Ending::Success, 10, 10), Ending::Success);
        let Ending::Failure(error) = bounded(Ending::Success, 11, 10) else {
            panic!("not a failure");
        };
        assert_eq!(
            error.message,
            "the result of 11 bytes is above the limit of 10 (`broker.max_result`)"
        );
    }

    #[test]
    fn a_long_error_keeps_the_end_of_its_detail() {
        let error = JobError {
            kind: "x".into(),
            message: "ä".repeat(MESSAGE_LEN_MAX),
            detail: format!("{}the end", "ä".repeat(DETAIL_LEN_MAX)),
            death: None,
            broker: String::new(),
        };
        let (_, _, data) = sent(&Ending::Failure(error), b"");
        let told: JobError = serde_json::from_slice(&data).unwrap();
        assert!(told.message.len() <= MESSAGE_LEN_MAX && told.detail.len() <= DETAIL_LEN_MAX);
        assert!(told.detail.ends_with("the end"));
    }
}
