//! The process that loads the application once and is then copied: one worker a `fork` message.
//!
//! It is single-threaded and never runs a job. Its duties: load, report, fork, reap. It ends when it is told to,
//! or when its supervisor is gone; its workers stay.

mod control;
mod report;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use self::control::{Control, ControlError, Message};
use crate::job::JobError;
use crate::runtime::executor::Executor;
use crate::sys::fork::{Forked, fork};
use crate::sys::title::Title;
use crate::sys::{SysError, lifeline, memory, process, signal, spawn, title};
use crate::time::Mono;
use crate::wire::message::{FromTemplate, Load, LoadReport, ToTemplate};
use crate::worker::{self, Station};

/// Serves as the template of `runtime` until it is told to leave. In each worker that it forks it does not return.
///
/// `load` is the only user code that runs here.
pub fn main(runtime: &str, load: impl FnOnce(&Load) -> Result<Box<dyn Executor>, JobError>) -> ExitCode {
    match run(runtime, load) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: the template can't go on: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    runtime: &str,
    load: impl FnOnce(&Load) -> Result<Box<dyn Executor>, JobError>,
) -> Result<ExitCode, ControlError> {
    let begun = Mono::now();
    let (control, lifeline) = spawn::template_descriptors()?;
    let control = Control::new(control);
    let Some(order) = control.load()? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut title = Title::claim();
    let about = format!("{runtime} gen {}", order.generation);
    show(title.as_mut(), &["pool: template ", &about, " (loading)"]);
    let _ = title::set_name("pool-template"); // a name less, nothing else
    let open_before = report::open_descriptors();
    let loaded = load(&order).and_then(|executor| report::check_threads().map(|()| executor));
    let executor = match loaded {
        Ok(executor) => executor,
        Err(error) => {
            control.send(failed(&error))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let (collapsed_bytes, collapse_skipped) = collapse(order.huge_pages);
    let report = LoadReport {
        runtime: format!("{runtime} {}", env!("CARGO_PKG_VERSION")),
        tasks: executor.tasks(),
        batches: executor.batches(),
        load_s: Mono::now().since(begun).as_secs_f64(),
        collapsed_bytes,
        collapse_skipped,
        warnings: report::shared_descriptors(&open_before),
        ..LoadReport::default()
    };
    let signals = signal::readable_signals(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT])?;
    control.send(FromTemplate::Ready(Box::new(report)))?;
    show(title.as_mut(), &["pool: template ", &about]);
    let mut template = Template {
        control,
        signals,
        workers: BTreeMap::new(),
    };
    let Some(post) = template.serve()? else {
        return Ok(ExitCode::SUCCESS);
    };
    // A worker from here on. What is the template's own is closed, not kept.
    drop((template, lifeline));
    match post.take(title, &order) {
        Ok(station) => worker::run(station, executor),
        Err(error) => worker::refuse(&error),
    }
}

fn failed(error: &JobError) -> FromTemplate {
    FromTemplate::Failed {
        error: error.to_string(),
        detail: error.detail.clone(),
    }
}

/// The bytes that are in huge pages now, or why there are none.
fn collapse(wanted: bool) -> (u64, Option<String>) {
    let collapsed = if wanted {
        memory::collapse_heap()
    } else {
        Err("`app.huge_pages` is off".into())
    };
    match collapsed {
        Ok(bytes) => (bytes, None),
        Err(reason) => (0, Some(reason)),
    }
}

fn show(title: Option<&mut Title>, parts: &[&str]) {
    if let Some(title) = title {
        title.set(parts);
    }
}

/// A loaded template.
struct Template {
    control: Control,
    /// SIGCHLD: workers have ended. SIGTERM: leave. SIGINT: the supervisor's to judge.
    signals: SignalFd,
    /// The live workers' numbers by process id.
    workers: BTreeMap<i32, u64>,
}

/// What a new worker was given.
struct Post {
    worker: u64,
    pool: String,
    descriptors: [OwnedFd; 4],
}

impl Template {
    /// Forks and reaps on request. Returns `None` when it is to leave, and in each worker its post.
    fn serve(&mut self) -> Result<Option<Post>, ControlError> {
        loop {
            self.wait()?;
            let mut stopped = false;
            while let Some(signal) = signal::next_signal(&self.signals) {
                stopped |= signal == Signal::SIGTERM;
            }
            self.reap()?;
            if stopped {
                return Ok(None);
            }
            let Some(message) = self.control.next()? else {
                continue;
            };
            match message {
                Message::Closed | Message::Order(ToTemplate::Stop, _) => return Ok(None),
                Message::Order(ToTemplate::Fork { worker, pool }, descriptors) => {
                    if let Some(post) = self.fork(worker, pool, descriptors)? {
                        return Ok(Some(post));
                    }
                }
                Message::Order(ToTemplate::Load(_), _) => return Err(ControlError::LoadedTwice),
            }
        }
    }

    /// Until a message is there or a worker has ended.
    fn wait(&self) -> Result<(), SysError> {
        let mut sources = [
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(SysError::Call { call: "poll", errno }),
        }
    }

    /// Forks one worker, and tells its process id, or why not. Returns its post in the worker itself.
    fn fork(
        &mut self,
        worker: u64,
        pool: String,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Post>, ControlError> {
        let count = descriptors.len();
        let Ok(descriptors) = <[OwnedFd; 4]>::try_from(descriptors) else {
            let error = format!("{count} descriptors came with `fork`, expected 4");
            self.control.send(FromTemplate::ForkFailed { worker, error })?;
            return Ok(None);
        };
        // What the load printed without a line's end would else be printed by each copy.
        let _ = std::io::stdout().flush();
        match fork() {
            Ok(Forked::Child) => Ok(Some(Post {
                worker,
                pool,
                descriptors,
            })),
            Ok(Forked::Parent(pid)) => {
                // The worker does the same; whoever is first, its group exists before its number is told.
                let _ = process::lead_group(pid);
                self.workers.insert(pid, worker);
                self.control.send(FromTemplate::Forked { worker, pid })?;
                Ok(None)
            }
            Err(error) => {
                let error = error.to_string();
                self.control.send(FromTemplate::ForkFailed { worker, error })?;
                Ok(None)
            }
        }
    }

    /// Reaps every worker that has ended, and tells.
    fn reap(&mut self) -> Result<(), ControlError> {
        while let Some((pid, end)) = process::wait_any_nohang()? {
            // Else it is a child that the load left behind.
            if let Some(worker) = self.workers.remove(&pid) {
                self.control.send(FromTemplate::Exited {
                    worker,
                    status: end.status.unwrap_or_default(),
                    peak_memory: end.peak_memory,
                })?;
            }
        }
        Ok(())
    }
}

impl Post {
    /// In the worker: makes it a process of its own.
    fn take(self, title: Option<Title>, order: &Load) -> Result<Station, SysError> {
        let [jobs, lifeline_end, stdout, stderr] = self.descriptors;
        process::lead_group(0)?;
        lifeline::arm(&lifeline_end)?;
        process::redirect_output(stdout, stderr)?;
        signal::leave_on_term(&jobs)?;
        signal::pass_over(Signal::SIGINT)?;
        signal::unblock_signals()?;
        let _ = title::set_name(&format!("pool-worker-{}", self.worker));
        let about = format!("worker {} {} gen {}", self.worker, self.pool, order.generation);
        Ok(Station {
            about,
            jobs: Rc::new(jobs),
            lifeline: lifeline_end,
            title,
            max_result: order.max_result,
        })
    }
}
