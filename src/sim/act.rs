//! What templates and workers do by themselves, what befalls them, and what the supervisor hears of them.

use std::ops::Range;

use super::World;
use super::process::{Call, Ends, FromTemplate, Process, Running, Said, ToTemplate};
use super::script::{Script, Seen};
use super::time::Happening;
use crate::death::ProcessEnd;
use crate::fleet::{Done, Event};
use crate::job::Outcome;
use crate::wire::message::LoadReport;

impl<S: Script> World<S> {
    /// One of the rare things that go wrong by themselves.
    fn mishap(&mut self) -> bool {
        let rare = self.conditions.mishaps;
        rare.is_some_and(|rare| self.rng.u8(..rare.max(1)) == 0)
    }

    // ---- what befalls them ----

    /// Kills a template.
    pub fn kill_template(&mut self, id: u64) {
        if let Some(template) = self.templates.get_mut(&id) {
            template.alive = false;
            self.soon(Happening::HearTemplate(id));
        }
    }

    /// SIGSTOP for a template.
    pub fn freeze_template(&mut self, id: u64) {
        if let Some(template) = self.templates.get_mut(&id) {
            template.frozen = true;
        }
    }

    /// SIGCONT: it does what it was asked meanwhile.
    pub fn thaw_template(&mut self, id: u64) {
        let Some(template) = self.templates.get_mut(&id).filter(|template| template.frozen) else {
            return;
        };
        template.frozen = false;
        let asked = template.inbox.len();
        if !std::mem::replace(&mut template.loads, true) {
            self.soon(Happening::TemplateLoads(id));
        }
        for _ in 0..asked {
            self.soon(Happening::TemplateActs(id));
        }
    }

    /// Kills a worker.
    pub fn kill_worker(&mut self, id: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.process = Process::Dead;
            if let Some(processors) = &mut self.processors {
                processors.leaves(id, self.now.mono);
            }
            self.soon(Happening::Reap(id));
        }
    }

    /// SIGSTOP for a worker.
    pub fn freeze_worker(&mut self, id: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.frozen = true;
        }
    }

    /// SIGCONT: it goes on where it stood.
    pub fn thaw_worker(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.frozen = false;
        let running = worker.running.as_ref();
        if let Some((execution, until)) = running.map(|running| (running.frame.execution, running.until)) {
            let ends = Happening::CallEnds {
                worker: id,
                execution,
            };
            self.after(until.since(now), ends);
        }
        self.soon(Happening::WorkerActs(id));
    }

    /// A worker says this, true or not, and is heard at once.
    pub fn speak_for_worker(&mut self, id: u64, said: Said) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.said.push_back(said);
        }
        self.hear_worker(id);
    }

    // ---- templates ----

    pub(super) fn template_loads(&mut self, id: u64) {
        let (broken, mishap) = (self.conditions.app_broken, self.mishap());
        let Some(template) = self.templates.get_mut(&id).filter(|template| template.acts()) else {
            return;
        };
        match (broken, mishap) {
            _ if std::mem::replace(&mut template.loads, true) => return,
            (true, _) => {
                template.said.push_back(FromTemplate::Failed);
                template.alive = false;
            }
            // Without a word; or it hangs until somebody kills it.
            (false, true) if self.rng.bool() => template.alive = false,
            (false, true) => return,
            (false, false) => template.said.push_back(FromTemplate::Ready),
        }
        self.soon(Happening::HearTemplate(id));
    }

    /// It reads one message of its socket.
    pub(super) fn template_acts(&mut self, id: u64) {
        let mishap = self.mishap();
        let Some(template) = self.templates.get_mut(&id).filter(|template| template.acts()) else {
            return;
        };
        match template.inbox.pop_front() {
            Some(ToTemplate::Fork(worker)) if self.conditions.forks_fail || mishap && self.rng.bool() => {
                template.said.push_back(FromTemplate::ForkFailed(worker));
            }
            Some(ToTemplate::Fork(worker)) => {
                if mishap {
                    // Killed between the fork and the message that tells of it.
                    template.alive = false;
                } else {
                    template.said.push_back(FromTemplate::Forked(worker));
                }
                self.worker_is_forked(worker);
            }
            Some(ToTemplate::Stop) => template.alive = false,
            None => {}
        }
        self.soon(Happening::HearTemplate(id));
    }

    pub(super) fn hear_template(&mut self, template: u64) {
        while let Some(said) = self.templates.get_mut(&template).and_then(|t| t.said.pop_front()) {
            match said {
                FromTemplate::Ready => self.tell(Event::TemplateReady {
                    template,
                    report: LoadReport::default(),
                }),
                FromTemplate::Failed => self.tell(Event::TemplateFailed {
                    template,
                    error: "no module named `shop`".into(),
                }),
                FromTemplate::Forked(worker) => {
                    if let Some(known) = self.workers.get_mut(&worker) {
                        known.pid_known = true;
                    }
                    let pid = 1000_i32.saturating_add(i32::try_from(worker).unwrap_or(i32::MAX));
                    self.tell(Event::Forked { worker, pid });
                    self.soon(Happening::Reap(worker));
                }
                FromTemplate::ForkFailed(worker) => {
                    self.workers.remove(&worker);
                    self.tell(Event::ForkFailed {
                        worker,
                        error: "out of memory".into(),
                    });
                }
            }
        }
        let known = self.templates.get(&template);
        if known.is_some_and(|template| !template.alive) {
            self.templates.remove(&template);
            self.tell(Event::TemplateExited {
                template,
                how: "was killed by signal 9".into(),
            });
        }
    }

    // ---- workers ----

    fn worker_is_forked(&mut self, id: u64) {
        let Range { start, end } = self.conditions.pace.start;
        let after = self.between(start, end);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.process = Process::Alive;
        // Its lifeline has hung up already if it was killed before it was forked.
        if worker.closed {
            self.kill_worker(id);
        } else {
            self.after(after, Happening::WorkerActs(id));
        }
    }

    pub(super) fn worker_acts(&mut self, id: u64) {
        let stops = self.mishap();
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.acts()) else {
            return;
        };
        if !worker.ready {
            worker.ready = true;
            worker.said.push_back(Said::Ready);
            self.soon(Happening::HearWorker(id));
            self.soon(Happening::WorkerActs(id));
        } else if worker.running.is_some() {
            // It reads the next one when this one ends.
        } else if worker.torn {
            // It meets the hole in what it reads.
            self.kill_worker(id);
        } else if worker.reading.is_none() && worker.socket.front().is_some_and(|next| next.is_long) {
            worker.reading = worker.socket.pop_front();
            worker.frozen |= stops;
            self.soon(Happening::WorkerActs(id));
        } else if worker.reading.is_some() || !worker.socket.is_empty() {
            self.call_begins(id);
        } else if worker.closed {
            self.kill_worker(id);
        }
    }

    /// It reads what lies on its socket, and calls the application with it.
    fn call_begins(&mut self, id: u64) {
        let now = self.now.mono;
        let read = self.workers.get_mut(&id).and_then(|worker| {
            let frames = worker.read()?;
            worker.begun += u32::try_from(frames.len()).unwrap_or(u32::MAX);
            Some(frames)
        });
        let Some(mut frames) = read else { return };
        self.show(&Seen::Begins {
            worker: id,
            jobs: &frames,
        });
        for frame in &frames {
            let settings = self.config.tasks.get(&*frame.task);
            let of_a_batch = settings.is_some_and(|task| task.batch_size.is_some());
            self.supply.ledger.begins(frame.token(), of_a_batch);
        }
        let Call { takes, ends } = self.script.call(&frames, &mut self.rng);
        let shares = self.processors.is_some();
        let others = frames.split_off(1);
        let Some(frame) = frames.pop() else { return };
        let execution = frame.execution;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.running = Some(Running {
                frame,
                others,
                started: now,
                // A call that shares the processors has no certain end.
                until: if shares { now } else { now + takes },
                ends,
            });
        }
        if let Some(processors) = &mut self.processors {
            processors.begins((id, execution), takes, now);
            return self.wait_for_computed();
        }
        let ends = Happening::CallEnds {
            worker: id,
            execution,
        };
        self.after(takes, ends);
    }

    /// Waits for the next end of a call that shares the processors. What was waited for before comes too, and finds nothing.
    fn wait_for_computed(&mut self) {
        let next = self.processors.as_ref().and_then(|processors| processors.next());
        if let Some(at) = next {
            self.after(at.since(self.now.mono), Happening::ComputedEnds);
        }
    }

    pub(super) fn computed_ends(&mut self) {
        let now = self.now.mono;
        let mut any = false;
        while let Some((worker, execution)) = self.processors.as_mut().and_then(|host| host.take_ended(now)) {
            any = true;
            self.call_ends(worker, execution);
        }
        if any {
            self.wait_for_computed();
        }
    }

    pub(super) fn call_ends(&mut self, id: u64, execution: u64) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.acts()) else {
            return;
        };
        let ended = |running: &mut Running| running.frame.execution == execution && running.until <= now;
        let Some(running) = worker.running.take_if(ended) else {
            return;
        };
        let (outcome, whole_batch): (&Outcome, bool) = match &running.ends {
            Ends::Death => {
                worker.running = Some(running);
                return self.kill_worker(id);
            }
            Ends::Each(outcome) => (outcome, false),
            Ends::Whole(outcome) => (outcome, true),
        };
        let done = running.frames().map(|frame| {
            Said::Done(Done {
                execution: frame.execution,
                started: running.started,
                ended: now,
                outcome: outcome.clone(),
                whole_batch,
            })
        });
        worker.said.extend(done);
        self.show(&Seen::Ended { worker: id });
        self.soon(Happening::HearWorker(id));
        self.soon(Happening::WorkerActs(id));
    }

    pub(super) fn hear_worker(&mut self, id: u64) {
        while let Some(worker) = self.workers.get_mut(&id)
            && let Some(said) = worker.said.pop_front()
        {
            match said {
                _ if worker.unheard => {}
                Said::Ready => self.tell(Event::WorkerReady { worker: id }),
                Said::Done(done) => self.tell(Event::Done { worker: id, done }),
                Said::Garbage => {
                    worker.unheard = true;
                    self.tell(Event::Garbage {
                        worker: id,
                        error: "frame version 71, expected 1".into(),
                    });
                }
            }
        }
    }

    /// The supervisor sees a worker's death: it reads what the worker said, then what it had not read.
    pub(super) fn reap(&mut self, id: u64) {
        let worker = self.workers.get(&id);
        if !worker.is_some_and(|worker| worker.process == Process::Dead && worker.pid_known) {
            return;
        }
        self.hear_worker(id);
        // A job that was to be sent to it is one that it has not read.
        self.perform_all();
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        self.tell(Event::Exited {
            worker: id,
            unread: worker.unread(),
            how: "killed by signal 9".into(),
            end: ProcessEnd::default(),
        });
    }
}
