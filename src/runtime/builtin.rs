//! The app that the `pool` binary carries: tasks to try a pool with, and to measure it.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::native::App;
use super::task::{Context, TaskResult};
use crate::time::seconds_to_duration;

/// The largest number whose Fibonacci number fits 64 bits.
const FIB_MAX: u64 = 93;
/// Below this the recursion is too short to look at the clock.
const FIB_UNCHECKED: u64 = 22;

impl App {
    /// The built-in app: `noop`, `echo`, `sleep` (`{"seconds": 1}` or `1`), `fib` (`{"n": 30}` or `30`).
    pub fn builtin() -> App {
        App::new()
            .task("noop", |_: IgnoredAny, _: &Context| Ok(()))
            .task("echo", |args: Box<RawValue>, _: &Context| Ok(args))
            .task("sleep", |Seconds(time), ctx: &Context| sleep(time, ctx))
            .task("fib", |Number(n), ctx: &Context| fib(n, ctx))
    }
}

/// Sleeps, at most until the job is overdue.
fn sleep(time: Duration, ctx: &Context) -> TaskResult<()> {
    match ctx.remaining() {
        Some(left) if left < time => {
            std::thread::sleep(left);
            ctx.check()
        }
        _ => {
            std::thread::sleep(time);
            Ok(())
        }
    }
}

/// The Fibonacci number, by as much work as it is large.
fn fib(n: u64, ctx: &Context) -> TaskResult<u64> {
    if n < FIB_UNCHECKED {
        return Ok(fib_unchecked(n));
    }
    ctx.check()?;
    Ok(fib(n - 1, ctx)? + fib(n - 2, ctx)?)
}

fn fib_unchecked(n: u64) -> u64 {
    if n < 2 {
        n
    } else {
        fib_unchecked(n - 1) + fib_unchecked(n - 2)
    }
}

/// `{"seconds": 1.5}` or `1.5`.
struct Seconds(Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            seconds: f64,
        }
        let seconds = deserializer.deserialize_any(NumberOr {
            expected: "a number of seconds or an object with `seconds`",
            field: |fields: Fields| fields.seconds,
        })?;
        let wrong = |_| D::Error::custom(format!("{seconds} seconds is no time to sleep"));
        seconds_to_duration(seconds).map(Seconds).map_err(wrong)
    }
}

/// `{"n": 30}` or `30`.
struct Number(u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            n: f64,
        }
        let n = deserializer.deserialize_any(NumberOr {
            expected: "a number or an object with `n`",
            field: |fields: Fields| fields.n,
        })?;
        if !(0.0..=FIB_MAX as f64).contains(&n) || n.fract() != 0.0 {
            let wrong = format!("`n` is {n}, expected a whole number from 0 to {FIB_MAX}");
            return Err(D::Error::custom(wrong));
        }
        Ok(Number(n as u64))
    }
}

/// Reads a bare number, or an object `F` with a field for it.
struct NumberOr<F> {
    expected: &'static str,
    field: fn(F) -> f64,
}

impl<'de, F: Deserialize<'de>> Visitor<'de> for NumberOr<F> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<f64, A::Error> {
        F::deserialize(MapAccessDeserializer::new(map)).map(self.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobError;
    use crate::runtime::executor::Ending;
    use crate::time::Mono;
    use crate::wire::frame::Run;

    fn run(task: &str, payload: &str, timeout_ms: u64) -> (Ending, String) {
        let mut result = Vec::new();
        let run = Run {
            execution: 1,
            timeout_ms,
            attempt: 1,
            ordinal: 1,
            job_kind: 0,
            id: "a",
            queue: "q",
            task,
            payload: payload.as_bytes(),
        };
        let mut app = App::builtin().load().unwrap();
        let ending = app.execute(&run, Mono::now(), &mut result);
        (ending, String::from_utf8(result).unwrap())
    }

    #[test]
    fn every_built_in_task_answers() {
        for (task, payload, result) in [
            ("noop", r#"{"any": ["thing"]}"#, "null"),
            ("echo", r#"{"b": 1.50, "a": []}"#, r#"{"b": 1.50, "a": []}"#),
            ("sleep", r#"{"seconds": 0.001}"#, "null"),
            ("sleep", "0", "null"),
            ("fib", r#"{"n": 24}"#, "46368"),
            ("fib", "1", "1"),
        ] {
            let expected = (Ending::Success, result.to_owned());
            assert_eq!(run(task, payload, 0), expected, "{task} {payload}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_rejected_in_words() {
        for (task, payload, message) in [
            ("fib", "94", "`n` is 94, expected a whole number from 0 to 93"),
            (
                "fib",
                r#"{"n": 1.5}"#,
                "`n` is 1.5, expected a whole number from 0 to 93",
            ),
            (
                "fib",
                r#""x""#,
                "invalid type: string \"x\", expected a number or an object with `n` at line 1 column 3",
            ),
            ("fib", "{}", "missing field `n` at line 1 column 2"),
            ("sleep", "-1", "-1 seconds is no time to sleep"),
        ] {
            let expected = Ending::Rejected(JobError::new("wrong arguments", message));
            assert_eq!(run(task, payload, 0).0, expected, "{task} {payload}");
        }
    }

    #[test]
    fn long_tasks_end_at_their_timeout() {
        for (task, payload) in [("sleep", "1000"), ("fib", "80")] {
            let (ending, _) = run(task, payload, 20);
            assert!(matches!(ending, Ending::TimedOut(_)), "{task}: {ending:?}");
        }
    }
}
