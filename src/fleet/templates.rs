//! Templates come and go: load, take over, die, start again.

use crate::wire::message::LoadReport;

use super::worker::{Expiry, State};
use super::{Action, Fleet, Notice, Now, Template, TemplateState};

impl Fleet {
    /// Loads the app anew beside what runs; a load in progress is given up.
    pub(super) fn next_generation(&mut self, now: Now, out: &mut Vec<Action>) {
        for (id, template) in &mut self.templates {
            if template.state == TemplateState::Loading {
                template.state = TemplateState::Stopped;
                out.push(Action::KillTemplate { template: *id });
            }
        }
        self.generation += 1;
        self.restart_at = None;
        self.restarts.reset();
        self.start_template(self.generation, now, out);
    }

    pub(super) fn start_template(&mut self, generation: u64, now: Now, out: &mut Vec<Action>) {
        self.last_template += 1;
        let template = Template {
            generation,
            state: TemplateState::Loading,
            since: now.mono,
            error: None,
        };
        self.templates.insert(self.last_template, template);
        out.push(Action::StartTemplate {
            template: self.last_template,
            generation,
        });
    }

    pub(super) fn template_ready(&mut self, id: u64, report: LoadReport, now: Now, out: &mut Vec<Action>) {
        let Some(template) = self.templates.get_mut(&id) else {
            return;
        };
        if template.state != TemplateState::Loading || self.stop.is_stopping() {
            return;
        }
        template.state = TemplateState::Ready;
        template.since = now.mono;
        let generation = template.generation;
        if let Some(old) = self.current.replace(id)
            && let Some(old) = self.templates.get_mut(&old)
        {
            old.state = TemplateState::Leaving;
        }
        self.load_error = None;
        self.loaded = Some(generation);
        self.counted.loads += 1;
        self.declared_batches.clone_from(&report.batches);
        out.push(Action::Notice(Notice::AppLoaded { generation, report }));
        for worker in self.workers.values_mut() {
            if worker.generation < generation {
                worker.expiring = Some(Expiry::Outdated);
            }
        }
        self.stop_left_templates(out);
        self.balance_all(now, out);
    }

    pub(super) fn template_exited(&mut self, id: u64, how: &str, now: Now, out: &mut Vec<Action>) {
        let Some(template) = self.templates.remove(&id) else {
            return;
        };
        self.abandon_workers_of(id, now, out);
        if self.current == Some(id) {
            self.current = None;
        }
        if self.stop.is_stopping() {
            return;
        }
        match template.state {
            TemplateState::Loading => self.load_failed(&template, how, now, out),
            TemplateState::Ready => {
                let restart = self.restarts.ended(Some(now.mono.since(template.since)));
                self.restart_at = Some(now.mono + restart.wait);
                self.counted.deaths += 1;
                out.push(Action::Notice(Notice::TemplateDied {
                    generation: template.generation,
                    how: how.to_owned(),
                    retry_in: restart.wait,
                    crash_loop: restart.crash_loop_begins,
                }));
            }
            TemplateState::Leaving | TemplateState::Stopped => {}
        }
        self.balance_all(now, out);
    }

    /// Of workers that a dead template was asked for and never told of, nobody knows the process id: most were
    /// not forked; one that was can't be watched and must not stay.
    fn abandon_workers_of(&mut self, template: u64, now: Now, out: &mut Vec<Action>) {
        for (id, worker) in &mut self.workers {
            if worker.template == template && worker.pid.is_none() {
                worker.state = State::Dying;
                worker.since = now.mono;
                out.push(Action::Abandon { worker: *id });
            }
        }
    }

    /// A load that fails leaves what runs alone. Where nothing runs but something did, it is tried again;
    /// the very first load that fails ends the supervisor, which can't do its work.
    fn load_failed(&mut self, template: &Template, how: &str, now: Now, out: &mut Vec<Action>) {
        let error = template
            .error
            .clone()
            .unwrap_or_else(|| format!("the template {how} while it loaded the app"));
        self.load_error = Some(error.clone());
        self.counted.load_failures += 1;
        let staying = self
            .current
            .and_then(|id| self.templates.get(&id))
            .map(|current| current.generation);
        let mut notice = (None, false);
        if let Some(generation) = staying {
            self.generation = generation;
        } else if self.loaded.is_some() {
            let restart = self.restarts.ended(None);
            self.restart_at = Some(now.mono + restart.wait);
            notice = (Some(restart.wait), restart.crash_loop_begins);
        }
        let (retry_in, crash_loop) = notice;
        out.push(Action::Notice(Notice::LoadFailed {
            generation: template.generation,
            error,
            staying,
            retry_in,
            crash_loop,
        }));
    }

    /// A superseded template leaves with its last worker: until then it reaps them.
    pub(super) fn stop_left_templates(&mut self, out: &mut Vec<Action>) {
        for (id, template) in &mut self.templates {
            if template.state == TemplateState::Leaving
                && !self.workers.values().any(|worker| worker.template == *id)
            {
                template.state = TemplateState::Stopped;
                out.push(Action::StopTemplate { template: *id });
            }
        }
    }

    /// Everybody is gone or given up: the templates go too.
    pub(super) fn stop_templates(&mut self, out: &mut Vec<Action>) {
        for (id, template) in &mut self.templates {
            match template.state {
                TemplateState::Loading => out.push(Action::KillTemplate { template: *id }),
                TemplateState::Ready | TemplateState::Leaving => {
                    out.push(Action::StopTemplate { template: *id });
                }
                TemplateState::Stopped => {}
            }
            template.state = TemplateState::Stopped;
        }
    }
}
