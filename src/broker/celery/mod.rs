//! Celery's tasks, in the messages that kombu writes: producers, stock workers and `celery inspect` see nothing unusual.
//!
//! The installed `celery` and `kombu` packages (5.7) are the specification; each key and rule names its source there. The
//! supervisor reads of a message what says when and how it runs; its body and its headers go to a worker as they are, where
//! Celery's own tracer runs it. A *task* is one whose final result the worker hands over, to be stored and acknowledged in
//! one step; a *whole* task stores its result itself; a *chore* is what Celery's parent process does with the
//! application's objects: the end of a task whose worker died, of one that expired.
//!
//! - [`options`]: what it is told, made of the application's facts; addresses as kombu reads them;
//! - `envelope`, `iso`, `base64_text`: messages that come; `new_task`: one that is sent; `outcome`: what a worker says of a task's end;
//! - `consumer`, `held`, `ending`: what is known, what is in hand, and what outcomes ask for, whatever the transport;
//! - `mark`: states that no worker can store any more; `answers`: what chores answer; `state_file`: what a node
//!   remembers from one start to the next;
//! - `remote`, `control`: what `celery inspect` and `celery control` ask, and how it is carried out; `results`: looking
//!   them up, and waiting for them; `search`, `shown`: looking through them, and through messages; `abilities`: what Celery has otherwise;
//! - `cancel`: tasks that are not to run; `nodes`: what all nodes answer; `events`: what monitors are told; `clock`: the time by which events and answers are ordered; `publish`: a message that
//!   we send by ourselves; `limits`: how often tasks begin;
//! - `redis`, `amqp`: the transports over Redis and RabbitMQ.

mod abilities;
mod address;
mod amqp;
mod answers;
mod base64_text;
mod cancel;
mod clock;
mod consumer;
mod control;
mod ending;
mod envelope;
mod events;
mod facts;
mod held;
mod iso;
mod limits;
mod mark;
mod new_task;
mod nodes;
pub mod options;
mod outcome;
mod publish;
mod redis;
mod remote;
mod results;
mod search;
mod shown;
mod state_file;
mod url;

use std::sync::Arc;

pub use self::amqp::AmqpBroker;
pub use self::redis::RedisBroker;

use self::facts::Facts;
use self::options::{Application, Options, Transport};
use super::{Broker, BrokerError};

/// Opens the broker that the application names.
///
/// # Errors
/// [`BrokerError::Unreachable`] when nobody answers, [`BrokerError::Refused`] when the server is too old or a
/// certificate can't be read.
pub async fn open(options: &Options) -> Result<Arc<dyn Broker>, BrokerError> {
    let app = Application::read(&options.facts)?;
    Ok(match app.transport.clone() {
        Transport::Redis(transport) => Arc::new(RedisBroker::open(options, app, *transport).await?),
        Transport::Amqp(transport) => Arc::new(AmqpBroker::open(options, app, *transport).await?),
    })
}

/// How often a server that is away at the start is tried again, as the application says; `None`: until it is there.
///
/// The pauses of the supervisor are Celery's, too. Source: `kombu/utils/functional.py`, `retry_over_time`.
pub fn retries_at_start(options: &Options) -> Option<u32> {
    // What can't be read is told by `open`.
    Facts::read(&options.facts).map_or(Some(0), |facts| facts.broker.retries_at_start)
}

/// Opens the broker, where it is one that is asked for messages.
///
/// # Errors
/// As [`open`]; [`BrokerError::Refused`] where it pushes them.
pub async fn open_pulled(options: &Options) -> Result<RedisBroker, BrokerError> {
    let app = Application::read(&options.facts)?;
    match app.transport.clone() {
        Transport::Redis(transport) => RedisBroker::open(options, app, *transport).await,
        Transport::Amqp(_) => Err(BrokerError::Refused(
            "RabbitMQ pushes messages: it can't be asked for some".to_owned(),
        )),
    }
}
