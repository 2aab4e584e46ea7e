//! Frames that something else than their worker has read, such as a job that reads its worker's descriptors.
//!
//! It shows when the worker answers for a later job, or answers a ping although it should be running one.

use crate::fleet::Notice;
use crate::fleet::death::KillReason;

use super::fate::{Expiry, Fate};
use super::{Context, Pool};

impl Pool {
    /// Whether this worker can have ended this execution. If others should have come first, their frames are gone.
    pub(super) fn may_end(&mut self, id: u64, execution: u64, cx: &mut Context) -> bool {
        let hand = self.workers.get(&id).and_then(|worker| worker.hand());
        if let Some(ahead) = hand.and_then(|hand| hand.ahead_of(execution)) {
            if !ahead.is_empty() {
                self.stolen(id, &ahead, cx);
            }
            return true;
        }
        cx.tell(Notice::StrayOutcome {
            worker: id,
            execution,
        });
        let what = "an outcome for a job that it does not run".into();
        self.kill(id, KillReason::Protocol(what), Fate::Lost, cx);
        false
    }

    /// A worker is between two jobs. If it should be running this one, its frame is gone.
    pub fn pong(&mut self, id: u64, execution: u64, cx: &mut Context) {
        let runs = self.workers.get(&id).and_then(|worker| worker.running());
        if runs == Some(execution) {
            self.stolen(id, &[execution], cx);
            self.fell_idle(id, cx);
            self.dispatch(cx);
        }
    }

    /// These jobs did not begin and never will on this worker: they go first again. Whoever read them may still be
    /// there: the worker takes no more jobs.
    fn stolen(&mut self, id: u64, executions: &[u64], cx: &mut Context) {
        let worker = self.workers.get_mut(&id).expect("it holds these jobs");
        let is_batch = worker.hand().is_some_and(|hand| hand.batch() > 0);
        if worker.taken_back(executions, cx.now.mono) {
            self.measures.meter_mut().job_withdrawn(id);
        } else {
            worker.begin_anew(cx.now.mono);
        }
        cx.register.jobs_changed();
        self.measures.tally_mut().took_back(executions.len(), "stolen");
        let off = self.jobs.put_back(executions, is_batch, cx.now.mono);
        self.drop_called_off(off, cx);
        cx.tell(Notice::JobsStolen {
            worker: id,
            pool: self.name.clone(),
            jobs: executions.len(),
        });
        self.close(id, Expiry::Stolen, cx);
    }
}
