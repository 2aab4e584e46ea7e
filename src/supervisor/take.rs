//! What happened becomes an event of the fleet, or is answered here.

use super::input::{Input, Signal};
use super::printed::{Printed, Source};
use super::{Supervisor, SupervisorError, notices, signals};
use crate::broker::Backlog;
use crate::broker::source::{self, StopHow};
use crate::death::ProcessEnd;
use crate::fleet::{CallOff, Command, Done, Event, Memory, Now};
use crate::job::PoolName;
use crate::telemetry::notify;
use crate::wire::message::FromTemplate;

impl Supervisor {
    pub(super) fn take(&mut self, input: Input, now: Now) {
        let event = match input {
            Input::Template { template, message } => self.template_speaks(template, *message),
            Input::TemplateExited { template, how } => {
                self.processes.forget_template(template);
                Some(Event::TemplateExited { template, how })
            }
            Input::WorkerReady { worker } => Some(Event::WorkerReady { worker }),
            Input::Done { worker, done } => Some(done_by(worker, *done)),
            Input::Pong { worker, execution } => Some(Event::Pong { worker, execution }),
            Input::Progress {
                worker,
                execution,
                progress,
            } => Some(Event::Progress {
                worker,
                execution,
                progress,
            }),
            Input::Garbage { worker, error } => Some(Event::Garbage { worker, error }),
            Input::WorkerExited { worker, how, end } => self.worker_exited(worker, (how, end), now),
            Input::Printed(printed) => {
                self.printed(&printed);
                None
            }
            Input::Signal(signal) => {
                self.signal(signal, now);
                None
            }
            Input::Reaped { pid, end } => {
                self.processes.reaped(pid, end);
                None
            }
            Input::Call(call) => {
                self.call(call, now);
                None
            }
            Input::Reread { result, reply } => {
                self.reread(*result, reply, now);
                None
            }
            Input::Opened(opened) => {
                self.opened(opened, now);
                None
            }
            Input::Broker(event) => self.hear(event),
            Input::Scheduled(told) => {
                self.schedules.count(told);
                None
            }
            Input::Ordered(order) => {
                self.ordered(order, now);
                None
            }
            Input::Measured {
                pool,
                is_look,
                backlog,
                memory,
            } => {
                let backlog = self.backlog_of(&pool, backlog);
                Some(measured((pool, is_look), backlog, memory, now))
            }
            Input::Weighed {
                command,
                memory,
                reply,
            } => {
                self.fleet.weigh(&memory);
                self.answer(Ok(command), reply, now);
                None
            }
            Input::Counted { backlogs, memory } => {
                self.counted(&backlogs, &memory, now);
                None
            }
        };
        if let Some(event) = event {
            self.fleet.on(event, now, &mut self.actions);
        }
    }

    /// What the source says.
    fn hear(&mut self, event: source::Event) -> Option<Event> {
        match event {
            source::Event::Delivered { pool, jobs } => {
                self.traffic.delivered(&pool, &jobs);
                return Some(Event::Delivered { pool, jobs });
            }
            source::Event::Settled { count, late } => self.traffic.settled(count, &late),
            source::Event::Waiting { pool } => {
                self.traffic.filled(&pool);
                if self.fleet.asleep(&pool) {
                    self.traffic.told(&pool, true);
                    self.measure(&pool, false);
                } else {
                    return Some(Event::Waiting { pool });
                }
            }
            source::Event::Stop { token, how } => {
                let how = match how {
                    StopHow::IfNotBegun => CallOff::Canceled,
                    StopHow::ForGood => CallOff::Stopped,
                };
                return Some(Event::CalledOff { token, how });
            }
            source::Event::Recall { token } => {
                let how = CallOff::Recalled;
                return Some(Event::CalledOff { token, how });
            }
            source::Event::Empty { pool, seen, settled } => self.traffic.emptied(&pool, seen, settled),
            source::Event::Trouble { doing, error } => self.traffic.trouble(doing, &error),
            source::Event::Well { doing } => self.traffic.well(doing),
            source::Event::Ended { why } => {
                tracing::error!(why, "a defect of pool itself: please report it");
                self.ending.fail(SupervisorError::System(format!(
                    "the source of jobs ended: {why}"
                )));
            }
        }
        None
    }

    fn worker_exited(
        &mut self,
        worker: u64,
        (how, mut end): (String, ProcessEnd),
        now: Now,
    ) -> Option<Event> {
        // A job that was to be sent to it is one that it has not read: it must be on the socket by now.
        self.act(now);
        let unread = self.processes.bury(worker)?;
        if end.was_killed() {
            end.out_of_memory = self.out_of_memory.killed_one(now.mono);
        }
        Some(Event::Exited {
            worker,
            unread,
            how,
            end,
        })
    }

    pub(super) fn template_speaks(&mut self, template: u64, message: FromTemplate) -> Option<Event> {
        match message {
            FromTemplate::Facts { .. } => None, // they come with `ready`
            FromTemplate::Ready(report) => self.loaded(template, *report),
            FromTemplate::Failed { error, detail } => {
                let separator = if detail.is_empty() { "" } else { "\n" };
                Some(Event::TemplateFailed {
                    template,
                    error: format!("{error}{separator}{detail}"),
                })
            }
            FromTemplate::Forked { worker, pid } => match self.processes.is_born(worker, pid) {
                Ok(is_new) => is_new.then_some(Event::Forked { worker, pid }),
                Err(error) => Some(Event::ForkFailed { worker, error }),
            },
            FromTemplate::ForkFailed { worker, error } => {
                self.processes.forget_worker(worker);
                Some(Event::ForkFailed { worker, error })
            }
            FromTemplate::Exited {
                worker,
                status,
                peak_memory,
            } => {
                self.processes.worker_ended(
                    worker,
                    ProcessEnd {
                        status: Some(status),
                        peak_memory,
                        ..ProcessEnd::default()
                    },
                );
                None
            }
        }
    }

    /// Lines of a process go to the log under its name and that of its job.
    pub(super) fn printed(&mut self, printed: &Printed) {
        let (pool, job) = match printed.from {
            Source::Template(_) => (None, None),
            Source::Worker(worker) => (
                self.fleet.pool_of(worker).map(ToString::to_string),
                self.fleet.printed(worker).map(|job| job.job.id.to_string()),
            ),
        };
        notices::printed(printed, pool.as_deref(), job.as_deref());
    }

    pub(super) fn signal(&mut self, signal: Signal, now: Now) {
        match signal {
            Signal::Terminate | Signal::Interrupt if self.signals.repeats_a_stop(now.mono) => {
                tracing::debug!("the same signal again within a second: once is enough");
            }
            Signal::Terminate | Signal::Interrupt => self.stop(Command::Drain { patient: false }, now),
            Signal::Quit => self.stop(Command::Stop, now),
            Signal::Hangup if self.signals.terminal_is_closed() => {
                tracing::info!("the terminal was closed");
                self.stop(Command::Drain { patient: false }, now);
            }
            Signal::Hangup => self.reload(None, now),
            Signal::Status => self.log_status(now),
            Signal::More => self.change_max(1, now),
            Signal::Less => self.change_max(-1, now),
            Signal::Child => signals::reap(&self.inputs),
        }
    }

    pub(super) fn stop(&mut self, command: Command, now: Now) {
        notify::stopping();
        let patient = matches!(command, Command::Drain { patient: true });
        let limits = self.config.pools.values().map(|pool| pool.stop_timeout);
        let _ = self.fleet.command(command, now, &mut self.actions);
        notices::stopping(&self.snapshot(now), limits.max().filter(|_| !patient));
    }
}

fn done_by(worker: u64, done: Done) -> Event {
    let (started_ns, ended_ns) = (done.started.0, done.ended.0);
    tracing::trace!(
        worker,
        execution = done.execution,
        started_ns,
        ended_ns,
        "job ended"
    );
    Event::Done { worker, done }
}

/// What waits was counted for a pool: because it looks, or at the end of its scaling period.
fn measured((pool, is_look): (PoolName, bool), backlog: Option<Backlog>, memory: Memory, now: Now) -> Event {
    if is_look {
        return Event::Looked {
            pool,
            backlog,
            memory,
        };
    }
    tracing::trace!(pool = %pool, now_ns = now.mono.0, at = now.unix.0, "scaling period");
    Event::Period {
        pool,
        backlog,
        memory,
    }
}
