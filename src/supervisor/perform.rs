//! What the fleet decided is done.

use super::told_jobs::JobLines;
use super::{Supervisor, notices};
use crate::config::RuntimeKind;
use crate::death::ProcessEnd;
use crate::fleet::{Action, Event, Notice, Now};
use crate::runtime;
use crate::telemetry::history::record::Decided;
use crate::telemetry::notify;
use crate::wire::frame::Run;

impl Supervisor {
    pub(super) fn perform(&mut self, action: Action, now: Now) {
        match action {
            Action::StartTemplate { template, generation } => self.start_template(template, generation),
            Action::StopTemplate { template } => self.processes.stop_template(template),
            Action::KillTemplate { template } => self.processes.kill_template(template),
            Action::Fork {
                template,
                worker,
                pool,
            } => {
                let frame_len_max = self.config.broker.max_result.saturating_add(1 << 20);
                let asked = self.processes.fork(template, worker, &pool, frame_len_max);
                if let Err(error) = asked {
                    self.events.push_back(Event::ForkFailed { worker, error });
                }
            }
            Action::Send { worker, execution } => {
                tracing::trace!(worker, execution, sent_ns = now.mono.0, "job sent");
                self.send(worker, execution, false);
            }
            Action::SendBatch { worker, executions } => {
                for (at, execution) in executions.iter().enumerate() {
                    self.send(worker, *execution, at + 1 < executions.len());
                }
            }
            Action::TakeBack { worker } => {
                if let Some(unread) = self.processes.take_back(worker) {
                    for execution in &unread.executions {
                        tracing::trace!(worker, taken_back = execution, "job taken back");
                    }
                    self.events.push_back(Event::TakenBack { worker, unread });
                }
            }
            Action::Peek { worker } => {
                if let Some(unread) = self.processes.first_unread(worker) {
                    self.events.push_back(Event::Peeked { worker, unread });
                }
            }
            Action::Began(begun) => self.traffic.began(begun),
            Action::Progress(token, progress) => self.traffic.progressed(token, progress),
            Action::Ping { worker, execution } => self.processes.ping(worker, execution),
            Action::Retire { worker } => self.processes.retire(worker),
            Action::Kill { worker } => self.processes.kill(worker),
            Action::Abandon { worker } => self.events.push_back(Event::Exited {
                worker,
                unread: self.processes.abandon(worker),
                how: "ended with its template".into(),
                end: ProcessEnd::default(),
            }),
            Action::Look { pool } => self.measure(&pool, true),
            Action::Keep {
                pool,
                decision,
                queues,
            } => {
                if let Some(history) = &self.history {
                    history.keep(Decided {
                        pool: pool.to_string(),
                        decision: *decision,
                        queues,
                    });
                }
            }
            Action::Settle(settlement) => self.traffic.settle(settlement),
            Action::Notice(notice) => self.notice(&notice, now),
            Action::Leave => self.ending.leave(),
        }
    }

    fn start_template(&mut self, template: u64, generation: u64) {
        let started = runtime::template_command(&self.config, generation)
            .map_err(|error| error.to_string())
            .and_then(|(command, load)| self.processes.start_template(template, &command, load));
        if let Err(error) = started {
            self.events.push_back(Event::TemplateFailed { template, error });
            self.events.push_back(Event::TemplateExited {
                template,
                how: "could not be started".into(),
            });
        }
    }

    /// Sends one job; `another_follows`: the next one is of the same batch.
    fn send(&mut self, worker: u64, execution: u64, another_follows: bool) {
        let Some(job) = self.fleet.execution(worker, execution) else {
            return;
        };
        let timeout_ms = job
            .timeout
            .map_or(0, |timeout| timeout.as_millis().clamp(1, u128::from(u64::MAX)));
        let run = Run {
            execution,
            timeout_ms: u64::try_from(timeout_ms).unwrap_or(u64::MAX),
            attempt: job.attempt,
            ordinal: self.fleet.ordinal_of(worker),
            job_kind: job.job.kind,
            id: job.job.id.as_str(),
            queue: job.job.queue.as_str(),
            task: &job.job.task,
            payload: &job.job.payload,
        };
        self.processes.send(worker, &run, another_follows);
    }

    fn job_lines(&self) -> JobLines {
        JobLines {
            of_all: self.config.log.jobs,
            with_detail: self.config.app.runtime != RuntimeKind::Command,
        }
    }

    fn notice(&mut self, notice: &Notice, now: Now) {
        notices::tell(notice);
        self.job_lines().tell(notice);
        match notice {
            Notice::AppLoaded { report, .. } => {
                notices::none_immortal(report, self.config.app.immortal);
                self.ending.loaded();
            }
            Notice::Renewed { generation } => {
                notify::ready();
                self.reloads.succeed(*generation);
            }
            Notice::LoadFailed { error, staying, .. } => {
                let kept = match staying {
                    Some(generation) => {
                        notify::ready();
                        format!("generation {generation} stays")
                    }
                    None => "it is tried again".to_owned(),
                };
                self.reloads
                    .fail(format!("the app does not load, {kept}: {error}"));
            }
            Notice::GoneBack {
                to, report, error, ..
            } => {
                self.app_is(report);
                notify::ready();
                let message = format!(
                    "the new generation is loaded, and its workers do not start; generation {to} stays"
                );
                self.reloads.fail(format!("{message}: {error}"));
            }
            Notice::ForkFailed { error, .. } if self.fleet.is_renewing() => {
                let message = "the new generation is loaded, and its workers do not start; it is tried again";
                self.reloads.fail(format!("{message}: {error}"));
            }
            Notice::Scaled { .. } => notify::status(&self.summary(now)),
            _ => {}
        }
    }
}
