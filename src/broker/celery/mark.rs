//! States of tasks that we store ourselves, where no worker can: its own code fails again and again, or there are no
//! workers any more. Who waits for the task is told by it.
//!
//! Source: `celery/backends/base.py`, `_get_result_meta`, `prepare_exception`; `celery/worker/request.py`.

use serde_json::{Value, json};

use super::envelope::said_of;
use super::options::Results;
use super::outcome::{Store, WholeSeconds};
use crate::job::JobId;
use crate::time::Unix;

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    /// Its worker died with this exit code, or minus this signal.
    WorkerLost(i32),
    /// It ran longer than so many seconds.
    Timeout(f64),
    /// It was revoked, has expired, or was terminated.
    Revoked(&'static str),
    /// It was cut short when we stopped, after it had been acknowledged.
    Interrupted,
}

impl Mark {
    /// Its state, and the exception: type, arguments, module.
    fn state(self) -> (&'static str, &'static str, Value, &'static str) {
        match self {
            Mark::WorkerLost(status) => {
                let how = match status {
                    ..0 => format!("signal {}", -status),
                    _ => format!("exitcode {status}"),
                };
                let message = format!("Worker exited prematurely: {how} Job: 0.");
                (
                    "FAILURE",
                    "WorkerLostError",
                    json!([message]),
                    "billiard.exceptions",
                )
            }
            Mark::Timeout(seconds) => (
                "FAILURE",
                "TimeLimitExceeded",
                json!([seconds]),
                "billiard.exceptions",
            ),
            Mark::Revoked(reason) => (
                "REVOKED",
                "TaskRevokedError",
                json!([reason]),
                "celery.exceptions",
            ),
            // Not final, as it is not with a stock worker: it may have been sent anew by whoever was told.
            Mark::Interrupted => {
                let retry = json!(["Retry(Retry(...), None, None)", null, null]);
                ("RETRY", "Retry", retry, "celery.exceptions")
            }
        }
    }

    fn is_final(self) -> bool {
        self != Mark::Interrupted
    }

    /// What is to be stored of the task with this message; `None`: nobody wants to know, or its result backend is not
    /// ours to write.
    pub fn stored(self, results: Option<&Results>, job: &JobId, payload: &[u8]) -> Option<Store> {
        let results = results?;
        results.stored_by_us?;
        let of = said_of(payload);
        if of["ignore_result"] == true {
            return None;
        }
        let id = of["id"].as_str().unwrap_or(job.as_str());
        let (status, exception, arguments, module) = self.state();
        let done = self
            .is_final()
            .then(|| Unix::now().to_string().replace('Z', "+00:00"));
        let mut meta = json!({
            "status": status,
            "result": {"exc_type": exception, "exc_message": arguments, "exc_module": module},
            "traceback": null, "children": [], "date_done": done, "task_id": id,
        });
        for (name, of_message) in [("group_id", "group"), ("parent_id", "parent_id")] {
            if of[of_message].is_string() {
                meta[name] = of[of_message].clone();
            }
        }
        let expires = match status {
            "FAILURE" => results.failure_expires,
            _ => results.expires,
        };
        Some(Store {
            key: format!("{}{id}", results.prefix),
            value: meta.to_string(),
            expires: expires.map(WholeSeconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_celery_would_say() {
        let shown = |mark: Mark| {
            let (status, exception, arguments, module) = mark.state();
            format!("{status} {module}.{exception}{arguments}")
        };
        assert_eq!(
            [
                Mark::WorkerLost(-9),
                Mark::WorkerLost(3),
                Mark::Timeout(2.5),
                Mark::Revoked("expired"),
                Mark::Interrupted,
            ]
            .map(shown),
            [
                "FAILURE billiard.exceptions.WorkerLostError[\"Worker exited prematurely: signal 9 Job: 0.\"]",
                "FAILURE billiard.exceptions.WorkerLostError[\"Worker exited prematurely: exitcode 3 Job: 0.\"]",
                "FAILURE billiard.exceptions.TimeLimitExceeded[2.5]",
                "REVOKED celery.exceptions.TaskRevokedError[\"expired\"]",
                "RETRY celery.exceptions.Retry[\"Retry(Retry(...), None, None)\",null,null]",
            ]
        );
    }
}
