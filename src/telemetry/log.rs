//! The log: `tracing` events to standard error, as text for people or JSON for machines.
//!
//! An event carries all that it says in its own fields; spans are not printed. A log that nobody
//! reads, or whose reader is gone, costs lines and never holds the supervisor up.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, filter};

use super::line::{Line, Value};
use super::sink::{Sink, Stderr};
use crate::config::{LogConfig, LogFormat};
use crate::fleet::snapshot::Decision;
use crate::time::Unix;

/// Why the log can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "`log.level` is {level:?}, expected a level such as `info` or a filter such as `pool=debug`: {reason}"
    )]
    Filter {
        /// What was given.
        level: String,
        /// What is wrong with it.
        reason: filter::ParseError,
    },
    /// Something in this process has set up another log.
    #[error("the log is set up already")]
    Twice,
}

/// A library that prints each failure as an error and returns it, too: we say what it means, in one line. It also prints each
/// message that a server returns, whole.
const PRINTS_ITS_FAILURES: &str = "lapin";

/// Checks a filter such as `info` or `pool=debug`.
pub fn check_level(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|reason| LogError::Filter {
            level: level.to_owned(),
            reason,
        })
}

/// What is printed. Lines of a library that speaks of its own failures are, if the filter names it.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let asked = check_level(level)?;
    if level.contains(PRINTS_ITS_FAILURES) {
        return Ok(asked);
    }
    let quiet = format!("{PRINTS_ITS_FAILURES}=off");
    Ok(asked.add_directive(quiet.parse().expect("a directive of our own")))
}

/// Sends every event of this process to standard error from now on.
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let layer = StderrLayer {
        format: config.format,
        is_colored: wants_color(),
        sink: Mutex::new(Sink::new(Stderr::new())),
    };
    tracing_subscriber::registry()
        .with(filter(&config.level)?)
        .with(layer)
        .try_init()
        .map_err(|_| LogError::Twice)
}

/// Whether standard error is a terminal whose user has not declined colours (`NO_COLOR`).
fn wants_color() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal()
        && !is_set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Logs a change of a pool's size: the line that people look for when they ask why it grew.
/// `decision` is the very record that `status` shows.
pub fn scaled(pool: &str, decision: &Decision) {
    // `tracing` wants the message at compile time.
    macro_rules! scaled {
        ($($field:tt)*) => {
            match (decision.to > decision.from, decision.dry_run) {
                (true, false) => tracing::info!($($field)* "scaled up"),
                (false, false) => tracing::info!($($field)* "scaled down"),
                (true, true) => tracing::info!($($field)* "would scale up"),
                (false, true) => tracing::info!($($field)* "would scale down"),
            }
        };
    }
    let limit = decision.limit.as_deref();
    // However far a limit let it go.
    let is_jump = decision.term.as_deref() == Some("clears what waits");
    if is_jump && decision.from > 0 && decision.to > decision.from {
        return scaled!(
            pool,
            workers = decision.from,
            workers_to = decision.to,
            busy = decision.busy,
            waiting = decision.waiting,
            work_s = decision.work_s,
            oldest_s = decision.oldest_waiting_s,
            target_wait_s = decision.target_wait_s,
            limit,
        );
    }
    // The usual reason is said by the figures themselves.
    let reason = (decision.reason != "utilization").then_some(decision.reason.as_str());
    scaled!(
        pool,
        workers = decision.from,
        workers_to = decision.to,
        utilization = decision.utilization,
        busy_average = decision.busy_average,
        threshold = decision.threshold,
        window_s = decision.window_s,
        waiting = decision.waiting,
        growth_gain = decision.growth_gain,
        reason,
    );
}

struct StderrLayer {
    format: LogFormat,
    is_colored: bool,
    sink: Mutex<Sink<Stderr>>,
}

impl StderrLayer {
    fn render(&self, line: &Line) -> String {
        match self.format {
            LogFormat::Text => line.text(self.is_colored),
            LogFormat::Json => line.json(),
        }
    }
}

impl<S: Subscriber> Layer<S> for StderrLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let at = Unix::now();
        let line = self.render(&Line::of(event, at));
        // A panic elsewhere in the middle of a write costs at most a torn line.
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dropped) = sink.dropped() {
            sink.write(&self.render(&lines_dropped(dropped, at)));
        }
        sink.write(&line);
    }
}

fn lines_dropped(dropped: u64, at: Unix) -> Line {
    Line {
        at,
        level: Level::WARN,
        target: module_path!().to_owned(),
        message: "log lines were dropped, since nobody read them".to_owned(),
        fields: vec![("lines", Value::Int(dropped.into()))],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Notes whose events are printed.
    struct Targets(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Targets {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            self.0.lock().unwrap().push(event.metadata().target().to_owned());
        }
    }

    fn printed(level: &str) -> Vec<String> {
        let targets = Arc::default();
        let subscriber = tracing_subscriber::registry()
            .with(filter(level).unwrap())
            .with(Targets(Arc::clone(&targets)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "lapin::channels", "Connection error");
            tracing::warn!(target: "lapin::returned_messages", "Server returned us a message");
            tracing::error!(target: "pool::supervisor", "cannot reach the server");
        });
        let targets = targets.lock().unwrap();
        targets.clone()
    }

    #[test]
    fn a_failure_that_a_library_returns_is_printed_once() {
        assert_eq!(printed("info"), ["pool::supervisor"]);
        assert_eq!(printed("trace"), ["pool::supervisor"]);
        assert_eq!(
            printed("error,lapin=error"),
            ["lapin::channels", "pool::supervisor"]
        );
    }
}
