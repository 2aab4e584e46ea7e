//! What the fleet has to say becomes log lines; field names are stable.

use std::time::Duration;

use crate::config::{Change, Effect, Immortal};
use crate::fleet::snapshot::{ProcessSnapshot, Snapshot};
use crate::fleet::{Asked, Notice};
use crate::telemetry::log;
use crate::text::first_line;
use crate::time::Human;
use crate::wire::message::LoadReport;

use super::printed::{Printed, Source};
use super::records::Record;

/// Running jobs that a stop names.
const JOBS_NAMED_MAX: usize = 5;

/// Writes one notice to the log.
pub(super) fn tell(notice: &Notice) {
    match notice {
        Notice::Scaled { pool, decision } => log::scaled(pool.as_str(), decision),
        Notice::Vetoed {
            pool,
            decision,
            budget,
        } => tracing::warn!(
            pool = %pool,
            workers = decision.from,
            reason = %decision.reason,
            utilization = decision.utilization,
            waiting = decision.waiting,
            memory = budget.map(|budget| budget.to_string()),
            "not scaled"
        ),
        Notice::AppLoaded { generation, report } => loaded(*generation, report),
        Notice::GoneBack { from, to, error, .. } => tracing::error!(
            generation = from,
            generation_kept = to,
            %error,
            "workers of the new generation do not start"
        ),
        Notice::Renewed { generation } => {
            tracing::debug!(generation, "no worker of an older generation gets another job");
        }
        Notice::LoadFailed {
            generation,
            error,
            staying,
            retry_in,
            crash_loop,
        } => {
            let (error, traceback) = first_line(error);
            // A start that fails ends the program, with all of it as its last word.
            let goes_on = staying.is_some() || retry_in.is_some();
            tracing::error!(
                generation,
                %error,
                generation_kept = *staying,
                retry_in = retry_in.map(|wait| Human(wait).to_string()),
                crash_loop,
                detail = traceback.filter(|_| goes_on),
                "the app does not load"
            );
        }
        Notice::TemplateDied {
            generation,
            how,
            retry_in,
            crash_loop,
        } => tracing::error!(
            generation,
            how = %how,
            retry_in = %Human(*retry_in),
            crash_loop,
            "the template died; its workers go on"
        ),
        Notice::TemplateHangs {
            generation,
            asked,
            limit,
        } => hangs(*generation, *asked, *limit),
        Notice::BatchSplit {
            pool,
            task,
            jobs,
            error,
        } => tracing::warn!(
            pool = %pool,
            task = %task,
            jobs,
            error = %error,
            "a batch failed as a whole; it runs again in halves"
        ),
        Notice::JobsStolen { worker, pool, jobs } => {
            tracing::warn!(
                pool = %pool,
                worker,
                jobs,
                "jobs were read from a worker's socket by something else, perhaps by a job: they run elsewhere"
            );
        }
        Notice::StrayOutcome { worker, execution } => {
            tracing::warn!(
                worker,
                execution,
                "a worker answered for a job that it does not run"
            );
        }
        Notice::WorkerStarted { .. }
        | Notice::WorkerLeft { .. }
        | Notice::WorkerLost { .. }
        | Notice::ForkFailed { .. } => worker(notice),
        // `jobs::tell` says these.
        Notice::JobBegan(_) | Notice::JobDone(_) | Notice::JobFailed { .. } | Notice::JobCanceled { .. } => {}
    }
}

fn hangs(generation: u64, asked: Asked, limit: Duration) {
    let after = Human(limit);
    match asked {
        Asked::Load => {
            tracing::error!(generation, %after, "the app does not load in time; its template is killed")
        }
        Asked::Fork => tracing::error!(generation, %after, "the template does not fork; it is killed"),
        Asked::Leave => tracing::warn!(generation, %after, "the template does not leave; it is killed"),
        Asked::Die => {
            tracing::error!(generation, %after, "the template was killed and does not die; it is given up")
        }
    }
}

/// Writes one setting that a reload changes to the log.
pub(super) fn setting_changed(change: &Change) {
    let Change {
        key,
        from,
        to,
        effect,
    } = change;
    let (from, to) = (from.as_deref(), to.as_deref());
    match effect {
        Effect::Live | Effect::Generation => tracing::info!(key, from, to, "setting changed"),
        Effect::Restart => tracing::warn!(key, from, to, "a changed setting needs a restart"),
    }
}

/// Says what a stop waits for, and what ends the wait. `limit`: how long it waits at most.
pub(super) fn stopping(of: &Snapshot, limit: Option<Duration>) {
    let processes = of.pools.values().flat_map(|pool| &pool.processes);
    let running: Vec<&ProcessSnapshot> = processes.filter(|process| process.job.is_some()).collect();
    let name = |process: &&ProcessSnapshot| {
        let (task, job) = (process.task.as_deref(), process.job.as_deref());
        format!("{} {}", task.unwrap_or_default(), job.unwrap_or_default())
    };
    let mut jobs: Vec<String> = running.iter().take(JOBS_NAMED_MAX).map(name).collect();
    if running.len() > JOBS_NAMED_MAX {
        jobs.push("…".to_owned());
    }
    let (running, jobs) = (running.len(), jobs.join(", "));
    let at_most = limit.map(|limit| Human(limit).to_string());
    if running == 0 {
        tracing::info!("stopping");
    } else if of.state == "draining" && limit.is_none() {
        tracing::info!(
            running,
            jobs,
            "draining: running jobs may finish, however long they take; ^C or TERM gives them `stop_timeout`"
        );
    } else if of.state == "draining" {
        tracing::info!(
            running,
            at_most,
            jobs,
            "stopping: running jobs may finish; a second ^C or TERM ends them; those not yet acknowledged go back"
        );
    } else {
        tracing::info!(
            running,
            jobs,
            "stopping now: running jobs not yet acknowledged go back to their queue"
        );
    }
}

fn worker(notice: &Notice) {
    match notice {
        Notice::WorkerStarted {
            worker,
            pool,
            pid,
            generation,
        } => {
            tracing::debug!(pool = %pool, worker, pid, generation, "worker started");
        }
        Notice::WorkerLeft {
            worker,
            pool,
            jobs,
            reason,
        } => {
            tracing::debug!(pool = %pool, worker, jobs, reason = %reason, "worker left");
        }
        Notice::WorkerLost {
            worker,
            pool,
            how,
            end,
            job,
        } => {
            let job = job.as_ref().map(ToString::to_string);
            let peak_mib = end.peak_memory.map(|bytes| bytes >> 20);
            tracing::warn!(pool = %pool, worker, how = %how, job, peak_mib, "worker died");
        }
        Notice::ForkFailed {
            worker,
            pool,
            error,
            retry_in,
        } => tracing::error!(
            pool = %pool,
            worker,
            error = %error,
            retry_in = %Human(*retry_in),
            "a worker could not be started"
        ),
        Notice::Scaled { .. }
        | Notice::Vetoed { .. }
        | Notice::AppLoaded { .. }
        | Notice::GoneBack { .. }
        | Notice::Renewed { .. }
        | Notice::LoadFailed { .. }
        | Notice::TemplateDied { .. }
        | Notice::TemplateHangs { .. }
        | Notice::JobBegan(_)
        | Notice::JobDone(_)
        | Notice::JobFailed { .. }
        | Notice::JobCanceled { .. }
        | Notice::BatchSplit { .. }
        | Notice::JobsStolen { .. }
        | Notice::StrayOutcome { .. } => {}
    }
}

fn loaded(generation: u64, report: &LoadReport) {
    tracing::info!(
        generation,
        runtime = %report.runtime,
        load_s = report.load_s,
        huge_pages_mib = report.collapsed_bytes >> 20,
        "app loaded"
    );
    if let Some(reason) = &report.collapse_skipped {
        tracing::info!(reason = %reason, "the app's memory was not collapsed into huge pages");
    }
    if report.immortal_objects > 0 {
        tracing::info!(
            objects = report.immortal_objects,
            seconds = report.immortal_s,
            saves_mib_a_worker = report.immortal_bytes >> 20,
            "preloaded objects are immortal: workers that read them copy nothing"
        );
    }
    for warning in &report.warnings {
        tracing::warn!(warning = %warning, "fork safety");
    }
    for what in &report.unfit {
        tracing::warn!("not as elsewhere: {what}");
    }
}

/// Why no preloaded objects are immortal: a warning, where the settings say that they are to be.
pub(super) fn none_immortal(report: &LoadReport, wanted: Immortal) {
    let Some(reason) = &report.immortal_skipped else {
        return;
    };
    let message = "no preloaded objects are immortal: workers copy what they read";
    match wanted {
        Immortal::Always => tracing::warn!(reason = %reason, "{message}"),
        Immortal::Auto | Immortal::Never => tracing::info!(reason = %reason, "{message}"),
    }
}

/// Passes on what a process printed, and says what of it was left out.
pub(super) fn printed(printed: &Printed, pool: Option<&str>, job: Option<&str>) {
    if printed.left_out.lines > 0 {
        let (lines, bytes) = (printed.left_out.lines, printed.left_out.bytes);
        let message = "it printed too much at once: these lines are left out";
        match printed.from {
            Source::Template(template) => tracing::warn!(template, lines, bytes, "{message}"),
            Source::Worker(worker) => tracing::warn!(pool, worker, job, lines, bytes, "{message}"),
        }
    }
    for (stream, line) in &printed.lines {
        let record = Record::read(line);
        match (printed.from, record) {
            (Source::Template(template), Some(record)) => record.tell(Some(template), None, None, None),
            (Source::Worker(worker), Some(record)) => record.tell(None, pool, Some(worker), job),
            (Source::Template(template), None) => {
                tracing::info!(template, stream = stream.as_str(), "{line}");
            }
            (Source::Worker(worker), None) => {
                tracing::info!(pool, worker, job, stream = stream.as_str(), "{line}");
            }
        }
    }
}
