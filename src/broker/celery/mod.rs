//! Celery's tasks, in the messages that kombu writes: producers, stock workers and `celery inspect` see nothing unusual.
//!
//! The installed `celery` and `kombu` packages (5.7) are the specification; each key and rule names its source there. The
//! supervisor reads of a message what says when and how it runs; its body and its headers go to a worker as they are, where
//! Celery's own tracer runs it. A *task* is one whose final result the worker hands over, to be stored and acknowledged in
//! one step; a *whole* task stores its result itself; a *chore* is what Celery's parent process does with the
//! application's objects: the end of a task whose worker died, of one that expired.
//!
//! - [`options`]: what it is told, made of the application's facts; addresses as kombu reads them;
//! - `envelope`, `iso`: messages; `outcome`: what a worker says of a task's end; `held`: what is in hand;
//! - `redis`: the transport over Redis; `remote`: what `celery inspect` and `celery control` ask.

mod address;
mod envelope;
mod facts;
mod held;
mod iso;
pub mod options;
mod outcome;
mod redis;
mod remote;

pub use self::redis::CeleryBroker;

use self::options::Options;
use super::BrokerError;

/// Opens the broker that the application names.
///
/// # Errors
/// [`BrokerError::Unreachable`] when nobody answers, [`BrokerError::Refused`] when the server is too old or a
/// certificate can't be read.
pub async fn open(options: &Options) -> Result<CeleryBroker, BrokerError> {
    CeleryBroker::open(options).await
}
