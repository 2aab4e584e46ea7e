//! Ending jobs: one script call a batch; what only RQ's own code does right becomes after-work.

use redis::{ScriptInvocation, Value};

use super::held::{AfterWork, Held, Kind};
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::broker::parts::after_work::Pending;
use crate::job::{Claim, JobError, RunStamp, Settlement, Verdict};
use crate::time::Unix;

/// Jobs that one script call ends at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// Kind of the error of a job whose worker died; see `policy::retry`.
const WORKER_LOST: &str = "worker lost";
/// Source: `rq/worker/worker_classes.py`, `Worker._handle_stopped_job`.
const STOPPED: &str = "Job stopped by user, work-horse terminated.";

/// What becomes of a job, in the words of `settle.lua`.
struct Line {
    at: usize,
    number: i64,
    held: Held,
    what: &'static str,
    result: Vec<u8>,
    error: String,
    due: Option<Unix>,
    run: Option<RunStamp>,
}

/// What is to be done here once all of a call has reached the server.
#[derive(Default)]
struct Ended {
    numbers: Vec<i64>,
    after_work: Vec<AfterWork>,
}

impl RqBroker {
    pub(super) async fn end(
        &self,
        mut settlements: Vec<Settlement<Claim>>,
    ) -> Result<Vec<bool>, BrokerError> {
        let mut held = vec![false; settlements.len()];
        let mut order: Vec<usize> = (0..settlements.len()).collect();
        // Each one given back goes in front of those before it: the youngest claim first.
        order.sort_by_key(|at| {
            let settlement = &settlements[*at];
            match settlement.verdict {
                Verdict::GiveBack => (true, -settlement.of.handle),
                _ => (false, 0),
            }
        });
        let (mut lines, mut ended) = (Vec::new(), Ended::default());
        let (mut after, mut given_up) = (Vec::new(), Vec::new());
        for at in order {
            let number = settlements[at].of.handle;
            let job = self.hand().jobs.get(&number).cloned();
            // Another handle's claims have the same numbers.
            let Some(job) = job.filter(|job| job.job == settlements[at].of.job.as_str()) else {
                continue;
            };
            let verdict = std::mem::replace(&mut settlements[at].verdict, Verdict::Forget);
            let run = settlements[at].run;
            held[at] = true;
            match job.kind {
                Kind::Plain { .. } => lines.push(line(at, number, job, verdict, run)),
                Kind::Whole => match self.left_to_rq(number, &job, &verdict, run) {
                    Some(work) => {
                        ended.after_work.push(work);
                        ended.numbers.push(number);
                    }
                    None => lines.push(line(at, number, job, verdict, run)),
                },
                Kind::After(pending) => {
                    after.push(pending.work.clone());
                    given_up.extend(self.after_work_ended(number, pending, &verdict));
                }
            }
        }
        self.give_up(&given_up).await;
        self.look_for_failures_after(&after).await;
        let answer = self.end_all(&lines, &mut held, &mut ended).await;
        let mut hand = self.hand();
        if let Err(error) = &answer {
            // All of it is sent again. What was carried out then is not held any more: no answer says so where none came.
            let is_unknown = matches!(error, BrokerError::Unreachable { .. });
            for Line { number, .. } in &lines {
                if let Some(job) = hand.jobs.get_mut(number) {
                    job.tried |= is_unknown || ended.numbers.contains(number);
                }
            }
            return answer.map(|()| held);
        }
        for number in &ended.numbers {
            if hand.jobs.remove(number).is_some_and(|job| job.returned) {
                self.returned_began.notify_one();
            }
        }
        self.after_works.add(ended.after_work);
        Ok(held)
    }

    async fn end_all(&self, lines: &[Line], held: &mut [bool], ended: &mut Ended) -> Result<(), BrokerError> {
        for lines in lines.chunks(BATCH_MAX) {
            self.end_batch(lines, held, ended).await?;
        }
        Ok(())
    }

    /// The after-work for a job that RQ's own code was to end, and whose worker did not come to that.
    fn left_to_rq(
        &self,
        number: i64,
        held: &Held,
        verdict: &Verdict,
        run: Option<RunStamp>,
    ) -> Option<AfterWork> {
        let (job_id, execution_id) = (held.job.clone(), self.execution(number));
        let worker_name = self.worker_of(run);
        match verdict {
            Verdict::Stopped => Some(AfterWork::Stopped {
                job_id,
                execution_id,
                worker_name,
            }),
            Verdict::Again { error, .. } | Verdict::Bury { error, .. } => Some(AfterWork::Lost {
                job_id,
                execution_id,
                worker_name,
                how: error.message.clone(),
                status: run.and_then(|run| run.death),
            }),
            Verdict::GiveBack | Verdict::Canceled | Verdict::Finish { .. } | Verdict::Forget => None,
        }
    }

    /// After-work that its worker could not do is tried again after a pause, as often as the policy says. Returns the job
    /// and the reason when it is given up.
    fn after_work_ended(
        &self,
        number: i64,
        work: Pending<AfterWork>,
        verdict: &Verdict,
    ) -> Option<(String, String)> {
        let mut hand = self.hand();
        hand.jobs.remove(&number);
        let given_up = |error: &JobError| {
            let task = work.work.task();
            tracing::error!(%error, detail = error.detail, "RQ's own code failed at {task}, it is given up");
            Some((work.work.job()?.to_owned(), error.to_string()))
        };
        match verdict {
            Verdict::Finish { .. } | Verdict::Forget => None,
            Verdict::Bury { error, .. } => given_up(error),
            Verdict::Stopped => given_up(&JobError::stopped()),
            Verdict::Canceled => given_up(&JobError::canceled()),
            Verdict::GiveBack => {
                self.after_works.put_back(work);
                None
            }
            Verdict::Again {
                error,
                failures,
                losses,
                ..
            } => {
                let (failures, losses) = (*failures, *losses);
                tracing::warn!(%error, "RQ's own code failed at {}, it is tried again", work.work.task());
                let work = Pending {
                    failures,
                    losses,
                    ..work
                };
                self.after_works.try_again(number, work);
                None
            }
        }
    }

    /// Jobs of which RQ's own code can't do the rest fail, with the reason.
    async fn give_up(&self, jobs: &[(String, String)]) {
        if jobs.is_empty() {
            return;
        }
        let now = Unix::now();
        let mut call = self.scripts.give_up.prepare_invoke();
        call.arg(self.keys.names())
            .arg(text::score(now))
            .arg(text::iso(now));
        for (job, reason) in jobs {
            call.arg(job)
                .arg(format!("RQ's own code failed after this job had ended: {reason}"));
        }
        match self.link.run_script::<Vec<Vec<u8>>>(&call).await {
            Ok(failed) => tell_failed(&failed, "a job failed: RQ's own code can't end it"),
            // RQ's housekeeping finds them as abandoned.
            Err(error) => tracing::warn!(%error, "jobs whose end failed can't be failed now"),
        }
    }

    /// What failed before and would be tried again is given up, when the supervisor leaves.
    pub(super) async fn give_up_later(&self) {
        let left = self.after_works.give_up_later();
        let jobs = left.iter().filter_map(|pending| pending.work.job());
        let jobs: Vec<_> = jobs
            .map(|job| (job.to_owned(), "the pool ended".to_owned()))
            .collect();
        self.give_up(&jobs).await;
    }

    async fn end_batch(
        &self,
        lines: &[Line],
        held: &mut [bool],
        ended: &mut Ended,
    ) -> Result<(), BrokerError> {
        let mut call = self.scripts.settle.prepare_invoke();
        call.arg(self.keys.names())
            .arg(text::score(Unix::now()))
            .arg(self.options.results_ttl.seconds());
        let mut sent = Vec::with_capacity(lines.len());
        for line in lines {
            let has_callback = matches!(
                line.held.kind,
                Kind::Plain {
                    stopped_callback: true
                }
            );
            if line.what == "T" && has_callback {
                // Its execution stays for the after-work to end.
                ended.after_work.push(self.finish(line));
            } else {
                self.add(&mut call, line);
                sent.push(line);
            }
        }
        if sent.is_empty() {
            ended.numbers.extend(lines.iter().map(|line| line.number));
            return Ok(());
        }
        let mut answers: Vec<Value> = self.link.run_script(&call).await?;
        ended.numbers.extend(lines.iter().map(|line| line.number));
        let refused = answers.split_off(sent.len().min(answers.len()));
        for (line, answer) in sent.into_iter().zip(answers) {
            match answer {
                Value::Int(2) => ended.after_work.push(self.finish(line)),
                // What its runtime has settled is not held any more.
                Value::Int(0 | 3) if !matches!(line.what, "X" | "C") => held[line.at] = line.held.tried,
                _ => {}
            }
        }
        let refused: Vec<Vec<u8>> = refused
            .into_iter()
            .filter_map(|text| redis::from_redis_value(text).ok())
            .collect();
        tell_refused(&refused);
        Ok(())
    }

    fn add(&self, call: &mut ScriptInvocation<'_>, line: &Line) {
        let run = line.run;
        let time = |at: Option<Unix>, write: fn(Unix) -> String| at.map(write).unwrap_or_default();
        let (started, ended) = (
            run.map(|run| run.started),
            run.map_or_else(Unix::now, |run| run.ended),
        );
        let value = match line.what {
            "S" => text::base64(&line.result),
            "F" | "L" | "T" | "C" => text::base64(&text::compressed(line.error.as_bytes())),
            _ => String::new(),
        };
        call.arg(line.what)
            .arg(&line.held.job)
            .arg(self.execution(line.number))
            .arg(&line.held.queue)
            .arg(self.worker_of(run))
            .arg(time(started, text::iso))
            .arg(text::iso(ended))
            .arg(time(started, text::seconds))
            .arg(text::seconds(ended))
            .arg(value)
            .arg(
                match line.what {
                    "C" => line.held.rate_limit.clone(),
                    _ => line.due.map(|due| text::due(due).to_string()),
                }
                .unwrap_or_default(),
            )
            .arg(self.shown_at(line.number).unwrap_or_default());
    }

    /// The worker at which others see this job. Asked as late as can be: the roster may be telling of it just now.
    fn shown_at(&self, number: i64) -> Option<String> {
        self.hand().jobs.get(&number)?.shown.clone()
    }

    /// The after-work for a job that the script leaves to RQ's own code.
    fn finish(&self, line: &Line) -> AfterWork {
        if matches!(line.what, "T" | "C") {
            return AfterWork::Stopped {
                job_id: line.held.job.clone(),
                execution_id: self.execution(line.number),
                worker_name: self.worker_of(line.run),
            };
        }
        let seconds = |at: Unix| at.0 as f64 / 1000.0;
        let now = Unix::now();
        AfterWork::Finish {
            job_id: line.held.job.clone(),
            execution_id: self.execution(line.number),
            worker_name: self.worker_of(line.run),
            started: seconds(line.run.map_or(now, |run| run.started)),
            ended: seconds(line.run.map_or(now, |run| run.ended)),
            outcome: if line.what == "S" { "success" } else { "failure" },
            result: text::base64(&line.result),
            exc_string: line.error.clone(),
        }
    }

    /// The name of the worker that ran it; of any worker when nobody knows.
    fn worker_of(&self, run: Option<RunStamp>) -> String {
        run.map_or_else(|| self.any_worker(), |run| self.options.names.of(run.ordinal))
    }
}

/// Jobs that a script failed alone, since what was asked of it can't be done: the id and the reason of each.
pub(super) fn tell_refused(refused: &[Vec<u8>]) {
    tell_failed(refused, "a job failed, since Redis refused what it asks for");
}

fn tell_failed(failed: &[Vec<u8>], message: &str) {
    for pair in failed.chunks_exact(2) {
        let [job, reason] = [&pair[0], &pair[1]].map(|text| String::from_utf8_lossy(text));
        match &*job {
            "" => tracing::error!(%reason, "a key of RQ's can't be used"),
            job => tracing::error!(job, %reason, "{message}"),
        }
    }
}

fn line(at: usize, number: i64, held: Held, verdict: Verdict, run: Option<RunStamp>) -> Line {
    let (what, result, error, due) = match verdict {
        Verdict::Finish { result } => ("S", result, String::new(), None),
        Verdict::GiveBack => ("B", Vec::new(), String::new(), None),
        Verdict::Canceled => ("C", Vec::new(), STOPPED.to_owned(), None),
        Verdict::Again { error, due, .. } => {
            let what = if died(&error, run) { "D" } else { "R" };
            let due = due.filter(|due| *due > Unix::now());
            (what, Vec::new(), String::new(), due)
        }
        Verdict::Stopped => ("T", Vec::new(), STOPPED.to_owned(), None),
        Verdict::Bury { error, .. } => {
            let what = if died(&error, run) { "L" } else { "F" };
            (what, Vec::new(), exc_string(&error, run), None)
        }
        Verdict::Forget => ("X", Vec::new(), String::new(), None),
    };
    Line {
        at,
        number,
        held,
        what,
        result,
        error,
        due,
        run,
    }
}

/// Whether the worker died with the job: by itself, or killed for the job's timeout.
fn died(error: &JobError, run: Option<RunStamp>) -> bool {
    error.kind == WORKER_LOST || run.is_some_and(|run| run.death.is_some())
}

/// The text that RQ keeps of an error: the traceback where there is one.
fn exc_string(error: &JobError, run: Option<RunStamp>) -> String {
    if died(error, run) {
        text::lost(run.and_then(|run| run.death))
    } else if error.detail.is_empty() {
        error.to_string()
    } else {
        error.detail.clone()
    }
}
