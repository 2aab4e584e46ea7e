//! Limits of pools and options of tasks, changed while they run.

use serde_json::json;

use super::supervisor::Supervisor;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::remote::{Answer, Change, Request, TaskChange, TaskOption, resize};

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
