//! A job as the scripts hand it out, see `lua/job.lua`: read, or refused with the reason.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::held::{Held, KIND_CALLBACKS, KIND_PLAIN, KIND_WHOLE, Kind};
use super::text::{self, from_iso};
use crate::job::{Claim, Claimed, Job, JobId, Loss, QueueName, Work};
use crate::time::Unix;

/// What RQ's code may need beyond a job's own timeout: its callbacks, each with a timeout of its own.
const LIFECYCLE: Duration = Duration::from_secs(180);

/// The fields of a job.
pub(super) type Row = [Vec<u8>; 14];

/// One job of a script's answer.
pub(super) fn row(job: Value) -> Option<Row> {
    let fields: Vec<Vec<u8>> = redis::from_redis_value(job).ok()?;
    fields.try_into().ok()
}

/// A row as a job, with its number and what is kept of it while it is in hand. The error says why it can't be run.
pub(super) fn read(row: &Row) -> Result<(i64, Held, Claimed), String> {
    let [
        id,
        queue,
        number,
        kind,
        data,
        timeout,
        retries_left,
        retry_intervals,
        enqueued_at,
        description,
        stopped_callback,
        failures,
        returned,
        rate_limit,
    ] = row;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let utf8 = |name, field| std::str::from_utf8(field).map_err(|_| format!("its {name} is no UTF-8 text"));
    let job = JobId::new(utf8("id", id)?).map_err(|why| format!("its id {why}"))?;
    let queue = QueueName::new(utf8("queue", queue)?).map_err(|why| format!("its queue's name {why}"))?;
    let number: i64 = text(number).parse().map_err(|_| "its number can't be read")?;
    let kind = match kind.as_slice() {
        b"W" => KIND_WHOLE,
        b"C" => KIND_CALLBACKS,
        _ => KIND_PLAIN,
    };
    let plain = kind == KIND_PLAIN;
    if !plain {
        // RQ's own code reads it.
        utf8("description", description)?;
    }
    let limit = limit(&text(timeout))?;
    let retries_left = count(text(retries_left).trim())?;
    let failures: u32 = text(failures).parse().unwrap_or(0);
    let held = Held {
        job: job.to_string(),
        queue: queue.to_string(),
        kind: match kind {
            KIND_WHOLE => Kind::Whole,
            _ => Kind::Plain {
                stopped_callback: !stopped_callback.is_empty(),
            },
        },
        rate_limit: (!rate_limit.is_empty()).then(|| text(rate_limit)),
        shown: None,
        tried: false,
        returned: !returned.is_empty(),
    };
    let claim = Claim {
        job: job.clone(),
        handle: number,
        epoch: 0,
    };
    let job = Job {
        id: job,
        queue,
        task: task(&text(description), if plain { data } else { b"" }),
        kind,
        payload: data.as_slice().into(),
        timeout: limit.map(|limit| if plain { limit } else { limit + LIFECYCLE }),
        retries: Some(retries_left.saturating_add(failures)),
        retry_after: Some(retry_after(retry_intervals, retries_left)?),
        loss: Loss::Fails,
        work: Work::Job,
        // RQ's own code calls the function of any other job, and it knows of one job only.
        batches: plain,
        failures,
        losses: 0,
        ready: from_iso(&text(enqueued_at)).unwrap_or_else(Unix::now),
    };
    Ok((number, held, Claimed { claim, job }))
}

/// How many retries are left, by its hash.
fn count(retries_left: &str) -> Result<u32, String> {
    if retries_left.is_empty() {
        return Ok(0);
    }
    let left: i64 = retries_left
        .parse()
        .map_err(|_| format!("its retries_left, `{retries_left}`, is no whole number"))?;
    Ok(u32::try_from(left.max(0)).unwrap_or(u32::MAX))
}

/// How long a job may run by its hash; `None`: without limit. Source: `rq/utils.py`, `parse_timeout`;
/// `rq/worker/base.py`, `perform_job`: 0 is the default, and the alarm of less never comes.
fn limit(timeout: &str) -> Result<Option<Duration>, String> {
    const DEFAULT: i64 = 180;
    /// Sixty-eight years: what `signal.alarm` takes, and far from any overflow.
    const MAX: i64 = i32::MAX as i64;
    let unreadable = || format!("its timeout, `{timeout}`, is no number of seconds");
    let text = timeout.trim();
    let whole = |text: &str| text.parse::<i64>().ok();
    let fraction = || text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    let with_unit = || {
        let (at, unit) = text.char_indices().next_back()?;
        let unit = match unit.to_ascii_lowercase() {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        Some(whole(&text[..at])?.saturating_mul(unit))
    };
    let seconds = whole(text)
        .or_else(|| fraction().map(|seconds| seconds as i64))
        .or_else(with_unit)
        .ok_or_else(unreadable)?;
    Ok(match seconds {
        0 => Some(DEFAULT),
        1..=MAX => Some(seconds),
        _ => None,
    }
    .and_then(|seconds| u64::try_from(seconds).ok())
    .map(Duration::from_secs))
}

/// What a job is called in logs and counts: the function that its description begins with, else the one in its data.
fn task(description: &str, data: &[u8]) -> Arc<str> {
    let task = text::task(description)
        .map(str::to_owned)
        .or_else(|| text::function(data));
    task.as_deref().unwrap_or("rq").into()
}

/// The wait before the next retry. Source: `rq/job.py`, `Job.get_retry_interval`.
fn retry_after(intervals: &[u8], retries_left: u32) -> Result<Duration, String> {
    let unreadable = || {
        let shown = String::from_utf8_lossy(intervals);
        format!("its retry_intervals, `{shown}`, are no list of seconds")
    };
    let intervals: Option<Vec<f64>> = match intervals {
        b"" => None,
        json => serde_json::from_slice(json).map_err(|_| unreadable())?,
    };
    let intervals = intervals.unwrap_or_default();
    let at = intervals.len().saturating_sub(retries_left as usize);
    let seconds = intervals.get(at).copied().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_interval_holds_while_there_are_more_retries_than_intervals() {
        let wait = |left| retry_after(b"[10, 30]", left).unwrap().as_secs();
        assert_eq!([wait(4), wait(3), wait(2), wait(1)], [10, 10, 10, 30]);
        assert_eq!(retry_after(b"", 2), Ok(Duration::ZERO));
    }

    #[test]
    fn an_interval_is_read_as_python_writes_it_or_refused() {
        assert_eq!(retry_after(b"[0.5]", 1), Ok(Duration::from_millis(500)));
        assert_eq!(retry_after(b"null", 1), Ok(Duration::ZERO));
        for odd in [&b"5"[..], b"[\"5\"]", b"[Infinity]", b"[1e300]", b"no"] {
            assert!(retry_after(odd, 1).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_timeout_is_read_as_rq_reads_it_or_refused() {
        let seconds = |text| limit(text).unwrap().map(|limit| limit.as_secs());
        for (text, read) in [
            ("30", 30),
            (" 30 ", 30),
            ("1.9", 1),
            ("0", 180),
            ("1h", 3600),
            ("90d", 7_776_000),
        ] {
            assert_eq!(seconds(text), Some(read), "{text}");
        }
        for text in ["-1", "-7", "9223372036854775807", "1e30"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        for text in ["", "soon", "inf", "nan", "1w", "0x10"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
