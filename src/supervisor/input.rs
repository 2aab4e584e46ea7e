//! Everything that reaches the loop from outside, in one channel, in the order of its arrival.

use tokio::sync::mpsc::UnboundedSender;

use super::opened::Opened;
use super::printed::Printed;
use super::schedules::Told;
use crate::broker::{Backlog, BrokerError, Events, Order};
use crate::config::Config;
use crate::control::server::Call;
use crate::death::ProcessEnd;
use crate::fleet::{Command, Done, Memory};
use crate::job::{PoolName, Progress};
use crate::wire::message::FromTemplate;

/// What the source says is such a thing, too.
pub(super) fn events(inputs: &UnboundedSender<Input>) -> Events {
    let inputs = inputs.clone();
    Events::new(move |event| drop(inputs.send(Input::Broker(event))))
}

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A template speaks.
    Template {
        template: u64,
        message: Box<FromTemplate>,
    },
    /// A template's process ended.
    TemplateExited { template: u64, how: String },
    /// A worker takes jobs.
    WorkerReady { worker: u64 },
    /// A worker's job ended.
    Done { worker: u64, done: Box<Done> },
    /// A worker is between two jobs, where it should be running this execution.
    Pong { worker: u64, execution: u64 },
    /// A worker says how far its job is.
    Progress {
        worker: u64,
        execution: u64,
        progress: Progress,
    },
    /// A worker broke the protocol.
    Garbage { worker: u64, error: String },
    /// A worker's process ended, and its socket is read to the end.
    WorkerExited {
        worker: u64,
        how: String,
        end: ProcessEnd,
    },
    /// A process printed lines.
    Printed(Printed),
    /// A signal arrived.
    Signal(Signal),
    /// A child ended and was reaped.
    Reaped { pid: i32, end: ProcessEnd },
    /// Somebody asks something.
    Call(Call),
    /// The configuration was read again, because of a signal or for somebody who waits.
    Reread {
        result: Box<Result<Config, String>>,
        reply: Option<tokio::sync::oneshot::Sender<crate::control::Reply>>,
    },
    /// The broker that the application named is open, or it can't be.
    Opened(Result<Opened, BrokerError>),
    /// The source of jobs has something to say.
    Broker(crate::broker::source::Event),
    /// Something happened with a schedule.
    Scheduled(Told),
    /// Somebody asks something through the broker.
    Ordered(Order),
    /// What was measured, at the end of a scaling period or for a look.
    Measured {
        pool: PoolName,
        is_look: bool,
        backlog: Option<Result<Backlog, BrokerError>>,
        memory: Memory,
    },
    /// What a command needs to know of memory.
    Weighed {
        command: Command,
        memory: Memory,
        reply: tokio::sync::oneshot::Sender<crate::control::Reply>,
    },
    /// Fresh figures for readers.
    Counted {
        backlogs: Vec<(PoolName, Backlog)>,
        memory: Memory,
    },
}

/// The signals that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// TERM: drain; the second one stops.
    Terminate,
    /// INT: the same, from a keyboard.
    Interrupt,
    /// QUIT: stop.
    Quit,
    /// HUP: reload; the terminal is closed: drain.
    Hangup,
    /// USR1: status into the log.
    Status,
    /// TTIN: one worker more on `max`.
    More,
    /// TTOU: one less.
    Less,
    /// CHLD: somebody to reap.
    Child,
}
