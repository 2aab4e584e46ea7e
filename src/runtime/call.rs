//! Calling user code: its arguments, and its panics.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;

use super::task::{TaskError, TaskResult};
use crate::job::JobError;

/// A job's arguments. One without a payload has none: `null`, or for a task that takes fields, `{}`.
pub(super) fn arguments<A: DeserializeOwned>(payload: &[u8]) -> TaskResult<A> {
    let payload = payload.trim_ascii();
    if payload.is_empty() || payload == b"null" {
        if let Ok(arguments) = serde_json::from_slice(b"null") {
            return Ok(arguments);
        }
        return serde_json::from_slice(b"{}").map_err(|_| wrong_arguments::<A>(b"{}"));
    }
    serde_json::from_slice(payload).map_err(|_| wrong_arguments::<A>(payload))
}

/// Reads the arguments again, slowly, to name the place that does not fit.
fn wrong_arguments<A: DeserializeOwned>(payload: &[u8]) -> TaskError {
    let mut reader = serde_json::Deserializer::from_slice(payload);
    let message = match serde_path_to_error::deserialize::<_, A>(&mut reader) {
        Ok(_) => match reader.end() {
            Ok(()) => "the arguments are read differently each time".to_owned(),
            Err(error) => error.to_string(),
        },
        Err(error) => match error.path().to_string().as_str() {
            "." | "?" => error.inner().to_string(),
            path => format!("`{path}`: {}", error.inner()),
        },
    };
    TaskError::rejected_arguments(message)
}

thread_local! {
    /// Where the last panic of this thread happened.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers where a panic happens, beside what the program's own hook does.
pub(super) fn record_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PANICKED_AT.set(place);
        before(info);
    }));
}

/// Calls user code; a panic in it becomes an error with its message and place.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, JobError> {
    // What a panic leaves half changed is the app's own: its state, its statics. It may go on with it
    // just as a program that catches the panic of one of its threads.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| JobError {
        kind: "panic".into(),
        message: panic_message(&*panic),
        detail: match PANICKED_AT.take() {
            place if place.is_empty() => place,
            place => format!("at {place}"),
        },
        death: None,
        broker: String::new(),
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
