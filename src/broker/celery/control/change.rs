//! Limits of pools and options of tasks, changed while they run.

use serde_json::{Value, json};

use super::supervisor::Supervisor;
use super::{Mailbox, QUEUES_STAY};
use crate::broker::Ask;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::remote::{
    Answer, Change, QueueChange, Request, TaskChange, TaskOption, resize, shown_queue,
};

impl Consumer {
    /// Another option for a task of this node.
    pub(super) fn change_option(&self, request: &Request) -> Option<Answer> {
        Some(match TaskChange::of(request, |name| self.has_task(name))? {
            Ok(change) => {
                tracing::info!(
                    task = change.task,
                    "{} was changed by remote control",
                    request.method
                );
                self.change_task(&change.task, &change.what);
                if let TaskOption::Rate(_) = change.what {
                    let limit = request.arguments.get("rate_limit").cloned().unwrap_or_default();
                    self.node.amend(|about| about.set_rate(&change.task, &limit));
                    self.limits_changed.notify_waiters();
                }
                Ok(change.answer)
            }
            Err(answer) => answer,
        })
    }

    /// Source: `celery/worker/control.py`, `pool_restart`. A reload imports all modules anew, whichever are named.
    pub(super) async fn restart(&self, supervisor: &Supervisor) -> Answer {
        if !self.app.node.restarts_pools {
            return Err("ValueError('Pool restarts not enabled')".to_owned());
        }
        match supervisor.ask(Ask::Reload).await {
            Ok(_) => Ok(json!({"ok": "reload started"})),
            Err(why) => Ok(json!({ "error": why })),
        }
    }

    /// Other queues, until the next reload. What was taken of a queue that is served no more still runs.
    pub(super) async fn change_queues(
        &self,
        request: &Request,
        mailbox: &dyn Mailbox,
        supervisor: &Supervisor,
    ) -> Answer {
        if !mailbox.changes_queues() {
            return Ok(json!({ "error": QUEUES_STAY }));
        }
        let pools = supervisor.picture().await?.pools;
        let change = match QueueChange::of(request, &pools) {
            Some(Ok(change)) => change,
            Some(Err(answer)) => return answer,
            None => return Ok(Value::Null),
        };
        if let Some(queue) = &change.added {
            let known = self.app.queues.iter().find(|known| known.name == queue.name);
            if let Err(error) = mailbox.declare_queue(known.unwrap_or(queue)).await {
                return Err(format!("RuntimeError({:?})", error.to_string()));
            }
            self.node.amend(|about| {
                about
                    .queues
                    .entry(queue.name.clone())
                    .or_insert_with(|| shown_queue(queue));
            });
        }
        self.serves(&change.queue, change.added.is_some());
        for ask in change.asks {
            if let Err(why) = supervisor.ask(ask).await {
                return Ok(json!({ "error": why }));
            }
        }
        Ok(change.answer)
    }

    pub(super) async fn resize_pool(&self, request: &Request, supervisor: &Supervisor) -> Answer {
        let Change { ask, answer } = match resize(request, &supervisor.picture().await?.pools) {
            Ok(change) => change,
            Err(answer) => return Ok(answer),
        };
        match supervisor.ask(ask).await {
            Ok(_) => Ok(answer),
            Err(why) => Ok(json!({ "error": why })),
        }
    }
}
