//! How RQ writes times and errors.

use std::io::{Read, Write};

use base64::Engine;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::time::Unix;

/// Bytes at the beginning of a job's data in which its function's name stands.
const HEAD_LEN_MAX: usize = 512;

/// `2026-03-01T09:05:00.250000Z`. Source: `rq/utils.py`, `utcformat`.
pub(super) fn iso(at: Unix) -> String {
    let text = at.to_string();
    format!("{}000Z", text.trim_end_matches('Z'))
}

/// Seconds with their fraction. Source: `datetime.timestamp()`.
pub(super) fn seconds(at: Unix) -> String {
    format!("{}.{:03}", at.0.div_euclid(1000), at.0.rem_euclid(1000))
}

/// What [`seconds`] wrote.
pub(super) fn from_seconds(text: &str) -> Option<Unix> {
    let seconds: f64 = text.parse().ok()?;
    seconds
        .is_finite()
        .then(|| Unix((seconds * 1000.0).round() as i64))
}

/// Whole seconds, as scores are. Source: `rq/utils.py`, `current_timestamp`.
pub(super) fn score(at: Unix) -> i64 {
    at.0.div_euclid(1000)
}

/// The second at which a job is due, as its score is: never before its time.
pub(super) fn due(at: Unix) -> i64 {
    score(at) + i64::from(at.0.rem_euclid(1000) > 0)
}

/// Bytes as the fields `data` and `exc_info` hold them. Source: `rq/job.py`, `Job.to_dict`.
pub(super) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// Bytes as entries of the results stream hold them. Source: `rq/results.py`, `Result.serialize`.
pub(super) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes that [`base64`] wrote.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// The name of the function that a description such as `shop.send('a')` begins with.
/// Source: `rq/utils.py`, `get_call_string`.
pub(super) fn task(description: &str) -> Option<&str> {
    let (name, _) = description.split_once('(')?;
    is_name(name).then_some(name)
}

/// The name of the function that a job's `data` begins with, as far as it is written by pickle or as JSON.
/// Source: `rq/job.py`, `Job._serialize`; Python's `pickletools`, opcodes of protocol 2 and later.
pub(super) fn function(data: &[u8]) -> Option<String> {
    let mut head = Vec::with_capacity(HEAD_LEN_MAX);
    let mut unpacked = ZlibDecoder::new(data).take(HEAD_LEN_MAX as u64);
    if unpacked.read_to_end(&mut head).is_err() {
        head = data[..data.len().min(HEAD_LEN_MAX)].to_vec(); // it was never compressed
    }
    let name = match &*head {
        [b'[', b'"', rest @ ..] => rest.split(|byte| *byte == b'"').next()?,
        [0x80, _, rest @ ..] => {
            // Protocol 4 begins with a frame: its opcode and eight bytes of length.
            let rest = match rest {
                [0x95, framed @ ..] => framed.get(8..)?,
                _ => rest,
            };
            match rest {
                // The tuple's mark, then a text: short, or with four bytes of length.
                [b'(', 0x8c, len, text @ ..] => text.get(..usize::from(*len))?,
                [b'(', b'X', a, b, c, d, text @ ..] => {
                    text.get(..usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?)?
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    let name = std::str::from_utf8(name).ok()?;
    is_name(name).then(|| name.to_owned())
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    !name.is_empty() && name.len() <= crate::job::NAME_LEN_MAX && name.chars().all(plain)
}

/// What RQ says of a worker that died, from its wait status.
/// Source: `rq/worker/worker_classes.py`, `Worker.monitor_work_horse`.
pub(super) fn lost(status: Option<i32>) -> String {
    let status = match status {
        // The low seven bits are the signal. Source: wait(2).
        Some(raw) if raw & 0x7f != 0 => format!("{raw} (signal {})", raw & 0x7f),
        Some(raw) => raw.to_string(),
        None => "None".to_owned(),
    };
    format!("Work-horse terminated unexpectedly; waitpid returned {status}; ")
}

/// Reads what [`text::iso`] writes, to the millisecond.
pub(super) fn from_iso(text: &str) -> Option<Unix> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let millis = number(20..23).unwrap_or(0);
    // Days since 1970 of the proleptic Gregorian calendar, with years that begin in March.
    let years = if month <= 2 { year - 1 } else { year };
    let of_era = years.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = years.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(Unix(
        (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_python_writes_them() {
        let at = Unix(1_772_355_900_250);
        assert_eq!(iso(at), "2026-03-01T09:05:00.250000Z");
        assert_eq!(seconds(at), "1772355900.250");
        assert_eq!(score(at), 1_772_355_900);
    }

    #[test]
    fn a_description_gives_the_task_only_where_it_is_a_call() {
        assert_eq!(task("shop.mail.send('a', b=1)"), Some("shop.mail.send"));
        assert_eq!(task("Send the mail (now)"), None);
        assert_eq!(task("no call"), None);
    }

    #[test]
    fn data_names_its_function_in_each_format() {
        let framed = b"\x80\x05\x95\x19\0\0\0\0\0\0\0(\x8c\x0bshop.insert\x94NK\x01\x85\x94}\x94t\x94.";
        let unframed = b"\x80\x02(X\x0b\0\0\0shop.insertq\0NK\x01\x85q\x01}q\x02tq\x03.";
        let json = br#"["shop.insert", null, [1], {}]"#;
        for data in [&framed[..], unframed, json] {
            assert_eq!(function(data).as_deref(), Some("shop.insert"));
            assert_eq!(
                function(&{
                    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                    encoder.write_all(data).unwrap();
                    encoder.finish().unwrap()
                })
                .as_deref(),
                Some("shop.insert")
            );
        }
    }

    #[test]
    fn data_of_another_kind_names_nothing() {
        for data in [
            &b""[..],
            b"\x80",
            b"\x80\x05\x95\0",
            b"\x80\x05(\x8c\xff",
            b"[\"no name\"]",
            b"\xff\xfe\x01",
        ] {
            assert_eq!(function(data), None, "{data:?}");
        }
    }

    #[test]
    fn a_lost_worker_is_told_in_the_words_of_rq() {
        let told =
            |status| lost(Some(status)).replace("Work-horse terminated unexpectedly; waitpid returned ", "");
        assert_eq!(told(9), "9 (signal 9); ");
        assert_eq!(told(256), "256; ");
    }

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        for millis in [0, 951_782_400_001, 1_772_355_900_250, 4_107_542_399_999] {
            assert_eq!(from_iso(&iso(Unix(millis))), Some(Unix(millis)));
        }
        assert_eq!(from_iso("yesterday"), None);
    }
}
