//! Tasks in hand, as those see them who ask, and their figures.

use std::collections::{BTreeMap, HashMap};

use super::Mailbox;
use super::supervisor::Supervisor;
use crate::broker::RunningJob;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::envelope::Message;
use crate::broker::celery::events::Load;
use crate::broker::celery::remote::{Request, Shown, Task, View, shows};

impl Consumer {
    /// The tasks in hand, and who runs them: as far as the request is about them.
    pub(super) async fn view(
        &self,
        request: &Request,
        mailbox: &dyn Mailbox,
        supervisor: &Supervisor,
    ) -> Result<View, String> {
        let safe = request.is_true("safe");
        let picture = supervisor.picture().await?;
        let jobs = picture.workers.iter();
        let running: HashMap<&str, (&RunningJob, i32)> = jobs
            .filter_map(|worker| Some((worker.job.as_ref()?, worker.pid)))
            .map(|(job, pid)| (job.job.as_str(), (job, pid)))
            .collect();
        let mut totals: BTreeMap<String, u64> = BTreeMap::new();
        let mut tasks = Vec::new();
        let (held, etas, limited) = {
            let hand = self.hand();
            for (task, count) in &hand.ended {
                totals.insert(task.to_string(), *count);
            }
            for held in hand.messages().filter(|held| !held.has_chore) {
                let running = running
                    .get(held.job.as_str())
                    .map(|(job, pid)| ((*job).clone(), *pid));
                let is_running = running.is_some();
                if is_running {
                    *totals.entry(held.task.to_string()).or_default() += 1;
                }
                let task = Task {
                    node: self.node.name(),
                    id: held.job.as_str(),
                    payload: &held.payload,
                    // One that is acknowledged when it begins is said to be so a moment later.
                    is_acked: held.is_acked || held.acks_early && is_running,
                    running,
                };
                tasks.push(Shown {
                    id: held.job.to_string(),
                    state: if is_running { "active" } else { "reserved" },
                    info: task.info(safe && is_running),
                    eta: task.eta(),
                });
            }
            let etas = hand.etas.all().into_iter().map(|(_, number)| number);
            let etas: Vec<i64> = etas.filter(|_| shows(request, "scheduled")).collect();
            let limited = hand.limits.all().into_iter();
            let limited: Vec<i64> = limited.filter(|_| shows(request, "reserved")).collect();
            (tasks.len() + hand.waiting(), etas, limited)
        };
        for (state, numbers) in [("scheduled", etas), ("reserved", limited)] {
            let waiting = mailbox.waiting(&numbers).await.map_err(|error| error.to_string());
            let waiting = waiting.map_err(|error| format!("RuntimeError({error:?})"))?;
            tasks.extend(waiting.iter().map(|message| self.shown(state, message)));
        }
        Ok(View {
            about: self.node.about(),
            picture,
            tasks,
            held,
            totals,
            clock: self.node.clock(),
        })
    }

    /// One that waits at the server.
    fn shown(&self, state: &'static str, message: &Message) -> Shown {
        let id = message.id.clone().unwrap_or_default();
        let task = Task {
            node: self.node.name(),
            id: &id,
            payload: &message.payload,
            is_acked: false,
            running: None,
        };
        Shown {
            info: task.info(false),
            eta: task.eta(),
            state,
            id,
        }
    }

    /// What heartbeats tell of its work; of a supervisor that is leaving, what is known without it.
    pub(super) async fn load(&self, supervisor: &Supervisor) -> Load {
        let workers = supervisor.picture().await.map(|picture| picture.workers);
        let workers = workers.unwrap_or_default();
        self.load_of(workers.iter().filter(|worker| worker.job.is_some()).count())
    }

    /// The same, where so many tasks run.
    pub fn load_of(&self, active: usize) -> Load {
        let ended: u64 = self.hand().ended.values().sum();
        Load {
            active,
            processed: ended + active as u64,
        }
    }
}
