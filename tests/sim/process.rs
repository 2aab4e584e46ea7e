//! Pretended templates and workers: what they do by themselves, and how they die.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use pool::fleet::{Done, Event, Unread};
use pool::job::{JobError, JobId, Outcome, PoolName, Token};
use pool::time::Mono;
use pool::wire::message::LoadReport;

use crate::world::{Happening, World};

/// A template process and the control socket to it.
#[derive(Debug, Default)]
pub struct Template {
    pub generation: u64,
    pub alive: bool,
    /// It does nothing, as under SIGSTOP.
    pub frozen: bool,
    /// It has begun to load, or is loaded.
    pub loads: bool,
    pub inbox: VecDeque<ToTemplate>,
    pub said: VecDeque<FromTemplate>,
}

impl Template {
    fn acts(&self) -> bool {
        self.alive && !self.frozen
    }
}

#[derive(Debug)]
pub enum ToTemplate {
    Fork(u64),
    Stop,
}

#[derive(Debug)]
pub enum FromTemplate {
    Ready,
    Failed,
    Forked(u64),
    ForkFailed(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The template has not read the request yet.
    Asked,
    Alive,
    Dead,
}

/// A worker process and the supervisor's link to it.
#[derive(Debug)]
pub struct Worker {
    pub pool: PoolName,
    pub generation: u64,
    pub process: Process,
    /// The supervisor knows its process id, and so would see its death.
    pub pid_known: bool,
    ready: bool,
    /// The supervisor closed its end: to leave.
    pub closed: bool,
    pub frozen: bool,
    /// Jobs that it has not read.
    pub socket: VecDeque<Frame>,
    /// A job of several packets that it has read in part.
    pub reading: Option<Frame>,
    pub running: Option<Running>,
    /// What the supervisor has not read.
    pub said: VecDeque<Said>,
    /// It said something that is no frame: nobody listens to it any more.
    unheard: bool,
    /// The rest of the job that it reads was taken back.
    pub torn: bool,
    /// Executions that were taken back from it while its present job runs.
    pub taken_back: BTreeSet<u64>,
    pub begun: u32,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub execution: u64,
    /// The next frame is of the same batch.
    pub another_follows: bool,
    pub id: JobId,
    pub task: String,
    pub timeout: Option<Duration>,
    pub fills_a_packet: bool,
}

#[derive(Debug)]
pub struct Running {
    pub frame: Frame,
    /// The other jobs of its batch.
    pub others: Vec<Frame>,
    started: Mono,
    ends: Mono,
}

#[derive(Clone, Debug)]
pub enum Said {
    Ready,
    Done(Done),
    Garbage,
}

/// What a rotten job does to the batch that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoils {
    /// The call fails.
    Call,
    /// The worker dies.
    Worker,
}

fn spoils(frame: &Frame) -> Option<Spoils> {
    let number: u64 = frame.id.as_str()["job-".len()..].parse().expect("a number");
    match frame.task.as_str() {
        "mixed" if number.is_multiple_of(13) => Some(Spoils::Worker),
        "mixed" if number.is_multiple_of(7) => Some(Spoils::Call),
        _ => None,
    }
}

impl Worker {
    pub fn asked(pool: PoolName, generation: u64) -> Self {
        Worker {
            pool,
            generation,
            process: Process::Asked,
            pid_known: false,
            ready: false,
            closed: false,
            frozen: false,
            socket: VecDeque::new(),
            reading: None,
            running: None,
            said: VecDeque::new(),
            unheard: false,
            torn: false,
            taken_back: BTreeSet::new(),
            begun: 0,
        }
    }

    /// Jobs that it has in its process or on its socket.
    pub fn holds(&self) -> impl Iterator<Item = &Frame> {
        let running = self.running.iter();
        let running = running.flat_map(|running| std::iter::once(&running.frame).chain(&running.others));
        running.chain(&self.reading).chain(&self.socket)
    }

    pub fn unread(&self) -> Unread {
        Unread {
            executions: self.socket.iter().map(|frame| frame.execution).collect(),
            torn: self.reading.is_some(),
        }
    }

    /// Reads one frame, and all of its batch.
    fn read(&mut self) -> Option<(Frame, Vec<Frame>)> {
        let frame = self.reading.take().or_else(|| self.socket.pop_front())?;
        let mut others = Vec::new();
        let mut another = frame.another_follows;
        while another {
            let next = self
                .socket
                .pop_front()
                .expect("a batch lies on the socket as a whole");
            another = next.another_follows;
            others.push(next);
        }
        Some((frame, others))
    }

    fn acts(&self) -> bool {
        self.process == Process::Alive && !self.frozen
    }
}

impl World {
    // ---- templates ----

    pub fn template_loads(&mut self, id: u64) {
        let (broken, unlucky) = (self.app_broken, self.unlucky());
        let Some(template) = self.templates.get_mut(&id).filter(|template| template.acts()) else {
            return;
        };
        match (broken, unlucky) {
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
    pub fn template_acts(&mut self, id: u64) {
        let unlucky = self.unlucky();
        let Some(template) = self.templates.get_mut(&id).filter(|template| template.acts()) else {
            return;
        };
        match template.inbox.pop_front() {
            Some(ToTemplate::Fork(worker)) if self.forks_fail || unlucky && self.rng.bool() => {
                template.said.push_back(FromTemplate::ForkFailed(worker));
            }
            Some(ToTemplate::Fork(worker)) => {
                if unlucky {
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

    pub fn template_dies(&mut self, id: u64) {
        if let Some(template) = self.templates.get_mut(&id) {
            template.alive = false;
            self.soon(Happening::HearTemplate(id));
        }
    }

    pub fn template_freezes(&mut self, id: u64) {
        if let Some(template) = self.templates.get_mut(&id) {
            template.frozen = true;
        }
    }

    /// SIGCONT: it does what it was asked meanwhile.
    pub fn template_thaws(&mut self, id: u64) {
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

    pub fn hear_template(&mut self, template: u64) {
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
                    self.tell(Event::Forked {
                        worker,
                        pid: 1000 + worker as i32,
                    });
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
        if self
            .templates
            .get(&template)
            .is_some_and(|template| !template.alive)
        {
            self.templates.remove(&template);
            self.tell(Event::TemplateExited {
                template,
                how: "was killed by signal 9".into(),
            });
        }
    }

    // ---- workers ----

    fn worker_is_forked(&mut self, id: u64) {
        let after = self.between(500, 20_000);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.process = Process::Alive;
        // Its lifeline has hung up already if it was killed before it was forked.
        if worker.closed {
            self.worker_dies(id);
        } else {
            self.after(after, Happening::WorkerActs(id));
        }
    }

    pub fn worker_dies(&mut self, id: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.process = Process::Dead;
            self.soon(Happening::Reap(id));
        }
    }

    pub fn worker_acts(&mut self, id: u64) {
        let (now, stops) = (self.now.mono, self.unlucky());
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
            self.worker_dies(id);
        } else if worker.reading.is_none() && worker.socket.front().is_some_and(|next| next.fills_a_packet) {
            worker.reading = worker.socket.pop_front();
            worker.frozen |= stops;
            self.soon(Happening::WorkerActs(id));
        } else if let Some((frame, others)) = worker.read() {
            worker.begun += 1 + others.len() as u32;
            let limit = self.max_jobs(id);
            let worker = self.workers.get_mut(&id).expect("it is there");
            assert!(
                worker.begun <= limit,
                "worker {id} begins job {} of {limit}",
                worker.begun
            );
            for frame in std::iter::once(&frame).chain(&others) {
                self.ledger.begins(Token(frame.execution));
            }
            let takes = self.duration_of(&frame);
            let execution = frame.execution;
            let running = Running {
                started: now,
                ends: now + takes,
                frame,
                others,
            };
            self.workers.get_mut(&id).expect("it is there").running = Some(running);
            self.after(
                takes,
                Happening::JobEnds {
                    worker: id,
                    execution,
                },
            );
        } else if worker.closed {
            self.worker_dies(id);
        }
    }

    fn duration_of(&mut self, frame: &Frame) -> Duration {
        let takes = match frame.task.as_str() {
            "noop" | "large" => self.between(5, 60),
            "short" | "fails" | "again" | "row" | "mixed" => self.between(500, 4_000),
            "medium" | "poison" => self.between(50_000, 500_000),
            "long" => self.between(1_000_000, 4_000_000),
            // The runtime interrupts the one and can't interrupt the other.
            "endless" => Duration::from_secs(3600),
            _ => return Duration::from_secs(3600),
        };
        takes.min(frame.timeout.unwrap_or(takes))
    }

    pub fn job_ends(&mut self, id: u64, execution: u64) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.acts()) else {
            return;
        };
        let ended = |running: &mut Running| running.frame.execution == execution && running.ends <= now;
        let Some(running) = worker.running.take_if(ended) else {
            return;
        };
        worker.taken_back.clear();
        let spoiled = std::iter::once(&running.frame)
            .chain(&running.others)
            .find_map(spoils);
        if running.frame.task == "poison" || spoiled == Some(Spoils::Worker) {
            worker.running = Some(running);
            return self.worker_dies(id);
        }
        let Running {
            frame,
            others,
            started,
            ..
        } = running;
        let error = JobError::new("ValueError", "no such user");
        let outcome = match frame.task.as_str() {
            "mixed" if spoiled.is_some() => Outcome::Failure {
                error,
                retryable: true,
            },
            "fails" => Outcome::Failure {
                error,
                retryable: true,
            },
            "again" => Outcome::Retry {
                after: None,
                reason: "not yet".into(),
            },
            "endless" => Outcome::TimedOut {
                after: frame.timeout.unwrap_or_default(),
                detail: String::new(),
            },
            _ => Outcome::Success(Vec::new()),
        };
        let whole_batch = spoiled.is_some();
        for frame in std::iter::once(frame).chain(others) {
            worker.said.push_back(Said::Done(Done {
                execution: frame.execution,
                started,
                ended: now,
                outcome: outcome.clone(),
                whole_batch,
            }));
        }
        self.soon(Happening::HearWorker(id));
        self.soon(Happening::WorkerActs(id));
    }

    /// SIGCONT: it goes on where it stood.
    pub fn worker_thaws(&mut self, id: u64) {
        let now = self.now.mono;
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.frozen = false;
        let running = worker
            .running
            .as_ref()
            .map(|running| (running.frame.execution, running.ends));
        if let Some((execution, ends)) = running {
            self.after(
                ends.since(now),
                Happening::JobEnds {
                    worker: id,
                    execution,
                },
            );
        }
        self.soon(Happening::WorkerActs(id));
    }

    pub fn hear_worker(&mut self, id: u64) {
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
    pub fn reap(&mut self, id: u64) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if worker.process != Process::Dead || !worker.pid_known {
            return;
        }
        self.hear_worker(id);
        // A job that was to be sent to it is one that it has not read.
        self.turn();
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        self.tell(Event::Exited {
            worker: id,
            unread: worker.unread(),
            how: "killed by signal 9".into(),
            status: None,
        });
    }
}
