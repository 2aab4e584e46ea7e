//! What the fleet decided is done.

use super::link::Link;
use super::template::Template;
use super::{Supervisor, notices};
use crate::fleet::{Action, Event, Notice, Now};
use crate::job::PoolName;
use crate::runtime;
use crate::telemetry::notify;
use crate::wire::frame::Run;
use crate::wire::message::ToTemplate;

impl Supervisor {
    pub(super) fn perform(&mut self, action: Action, now: Now) {
        match action {
            Action::StartTemplate { template, generation } => self.start_template(template, generation),
            Action::StopTemplate { template } => {
                let stopped = self
                    .templates
                    .get(&template)
                    .map(|live| live.send(&ToTemplate::Stop, &[]));
                if let Some(Err(_)) = stopped {
                    self.templates[&template].kill();
                }
            }
            Action::KillTemplate { template } => {
                if let Some(template) = self.templates.get(&template) {
                    template.kill();
                }
            }
            Action::Fork {
                template,
                worker,
                pool,
            } => {
                if let Err(error) = self.fork(template, worker, &pool) {
                    self.links.remove(&worker);
                    self.events.push_back(Event::ForkFailed { worker, error });
                }
            }
            Action::Send { worker, execution } => self.send(worker, execution, false),
            Action::SendBatch { worker, executions } => {
                for (at, execution) in executions.iter().enumerate() {
                    self.send(worker, *execution, at + 1 < executions.len());
                }
            }
            Action::TakeBack { worker } => {
                if let Some(link) = self.links.get(&worker) {
                    let unread = link.take_back();
                    self.events.push_back(Event::TakenBack { worker, unread });
                }
            }
            Action::Ping { worker, execution } => {
                if let Some(link) = self.links.get(&worker) {
                    link.ping(execution, &mut self.packets);
                }
            }
            Action::Retire { worker } => {
                if let Some(link) = self.links.get(&worker) {
                    link.retire();
                }
            }
            Action::Kill { worker } => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.kill();
                }
            }
            Action::Abandon { worker } => {
                // Dropping the link closes the lifeline.
                let link = self.links.remove(&worker);
                self.events.push_back(Event::Exited {
                    worker,
                    unread: link.map(|link| link.take_back()).unwrap_or_default(),
                    how: "ended with its template".into(),
                    status: None,
                });
            }
            Action::Settle(settlement) => self.traffic.settle(settlement),
            Action::Notice(notice) => self.notice(&notice, now),
            Action::Leave => self.leaving = true,
        }
    }

    pub(super) fn start_template(&mut self, template: u64, generation: u64) {
        let started = runtime::template_command(&self.config, generation)
            .map_err(|error| error.to_string())
            .and_then(|(command, load)| Template::start(template, &command, load, &self.inputs));
        match started {
            Ok(started) => {
                self.templates.insert(template, started);
            }
            Err(error) => {
                self.events.push_back(Event::TemplateFailed { template, error });
                self.events.push_back(Event::TemplateExited {
                    template,
                    how: "could not be started".into(),
                });
            }
        }
    }

    pub(super) fn fork(&mut self, template: u64, worker: u64, pool: &PoolName) -> Result<(), String> {
        let frame_len_max = self.config.broker.max_result.saturating_add(1 << 20);
        let live = self.templates.get(&template).ok_or("the template is gone")?;
        let (link, ends) =
            Link::open(worker, frame_len_max, &self.inputs).map_err(|error| error.to_string())?;
        let message = ToTemplate::Fork {
            worker,
            pool: pool.to_string(),
        };
        live.send(&message, &ends.descriptors())?;
        self.links.insert(worker, link);
        Ok(())
    }

    /// Sends one job; `another_follows`: the next one is of the same batch.
    pub(super) fn send(&mut self, worker: u64, execution: u64, another_follows: bool) {
        let (Some(link), Some(job)) = (self.links.get(&worker), self.fleet.execution(worker, execution))
        else {
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
        link.send(&run, another_follows, &mut self.packets);
    }

    pub(super) fn notice(&mut self, notice: &Notice, now: Now) {
        notices::tell(notice);
        match notice {
            Notice::AppLoaded { .. } => self.announced = true,
            Notice::Renewed { generation } => {
                notify::ready();
                let mut message =
                    format!("generation {generation} is loaded; no older worker gets another job");
                if !self.needs_restart.is_empty() {
                    message += &format!("; only a restart changes {}", self.needs_restart.join(", "));
                }
                self.reloaded(Ok(message));
            }
            Notice::LoadFailed { error, staying, .. } => {
                let kept = match staying {
                    Some(generation) => {
                        notify::ready();
                        format!("generation {generation} stays")
                    }
                    None => "it is tried again".to_owned(),
                };
                self.reloaded(Err(format!("the app does not load, {kept}: {error}")));
            }
            Notice::ForkFailed { error, .. } if self.fleet.is_renewing() => {
                let message =
                    "the new generation is loaded, and its workers do not start; those of the old one go on";
                self.reloaded(Err(format!("{message}: {error}")));
            }
            Notice::Scaled { .. } => notify::status(&self.summary(now)),
            _ => {}
        }
    }
}
