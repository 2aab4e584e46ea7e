//! The `command` runtime: a job runs a program that the config lists.
//!
//! Its arguments are the config's and never pass a shell; the job's data arrives on standard input and in `POOL_JOB_*`
//! variables. Standard output is the result, standard error goes to the log. The program leads a process group of
//! its own, which ends with the job, with its worker, and with the supervisor.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::child::{self, Ended, Limits, Stop};
use super::executor::{Ending, Executor, timeout_of, unknown_task};
use super::streams::{self, OutputFile};
use super::task::timeout_error;
use super::variables::Variables;
use crate::death::{Death, ProcessEnd};
use crate::job::JobError;
use crate::sys::limits::ResourceLimits;
use crate::sys::process;
use crate::time::Mono;
use crate::wire::frame::Run;
use crate::wire::message::{CommandOutput, CommandTask, Load};

/// The exit status that asks for another run: `EX_TEMPFAIL`. Source: sysexits.h.
const TRY_AGAIN: i32 = 75;

/// Checks that every program is there. All that are not are named at once.
pub fn load(load: &Load) -> Result<Box<dyn Executor>, JobError> {
    let problems: Vec<String> = load
        .commands
        .iter()
        .filter_map(|(name, task)| problem(task).map(|problem| format!("task `{name}`: {problem}")))
        .collect();
    if !problems.is_empty() {
        return Err(JobError::new("not runnable", problems.join("; ")));
    }
    Ok(Box::new(Commands {
        tasks: load.commands.clone(),
        grace: Duration::try_from_secs_f64(load.kill_grace_s).unwrap_or_default(),
    }))
}

/// What keeps a command from running, if anything does.
fn problem(task: &CommandTask) -> Option<String> {
    let Some(program) = task.command.first() else {
        return Some("its `command` is empty".into());
    };
    let directory = task.directory.as_deref().map_or(Path::new("."), Path::new);
    if !directory.is_dir() {
        return Some(format!("its directory `{}` is not there", directory.display()));
    }
    if let Some(output) = task.output_directory.as_deref().map(Path::new)
        && !output.is_dir()
    {
        return Some(format!(
            "its output_directory `{}` is not there",
            output.display()
        ));
    }
    if program.contains('/') {
        let path = directory.join(program);
        return (!is_executable(&path)).then(|| format!("`{}` is no executable file", path.display()));
    }
    let path = task.environment.get("PATH").map(Into::into);
    let path = path.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&path)
        .any(|place: PathBuf| is_executable(&directory.join(place).join(program)));
    (!found).then(|| format!("no program `{program}` in PATH"))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The commands of the config.
struct Commands {
    tasks: BTreeMap<String, CommandTask>,
    /// Between TERM and KILL.
    grace: Duration,
}

impl Executor for Commands {
    fn tasks(&self) -> Vec<String> {
        self.tasks.keys().cloned().collect()
    }

    fn after_fork(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn execute(&mut self, run: &Run<'_>, started: Mono, result: &mut Vec<u8>) -> Ending {
        let Some(task) = self.tasks.get(run.task) else {
            return Ending::Rejected(unknown_task(run.task, &self.tasks()));
        };
        let timeout = timeout_of(run);
        let limits = Limits {
            deadline: timeout.map(|timeout| started + timeout),
            grace: self.grace,
            output_len_max: task.max_output,
        };
        let input = match streams::input(task.stdin, run.payload) {
            Ok(input) => input,
            Err(error) => return Ending::Rejected(error),
        };
        let (kept, file) = match output_file(task, run) {
            Ok(output) => output.unzip(),
            Err(error) => return Ending::Failure(JobError::new("command", error)),
        };
        match child::run(&mut command(task, run), &input, file, &limits) {
            Ok(ended) => ending(ended, task, (timeout, kept), result),
            Err(error) => Ending::Failure(JobError::new("command", error)),
        }
    }
}

/// The file for the output of a job, if its task keeps output in files. The error is in words.
fn output_file(task: &CommandTask, run: &Run<'_>) -> Result<Option<(OutputFile, File)>, String> {
    let Some(directory) = task
        .output_directory
        .as_deref()
        .filter(|_| task.stdout == CommandOutput::File)
    else {
        return Ok(None);
    };
    let created = OutputFile::create(Path::new(directory), run.id);
    created
        .map(Some)
        .map_err(|error| format!("cannot make a file in `{directory}` for its output: {error}"))
}

/// The program of a task, with the job in its environment.
fn command(task: &CommandTask, run: &Run<'_>) -> Command {
    let mut command = Command::new(&task.command[0]);
    command.args(&task.command[1..]);
    if let Some(directory) = &task.directory {
        command.current_dir(directory);
    }
    // A pool that is itself started by a job has that job's variables.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"POOL_JOB_") {
            command.env_remove(name);
        }
    }
    command.envs(&task.environment);
    command.env("POOL_JOB_ID", run.id);
    command.env("POOL_JOB_QUEUE", run.queue);
    command.env("POOL_JOB_TASK", run.task);
    command.env("POOL_JOB_ATTEMPT", run.attempt.to_string());
    if let Some(timeout) = timeout_of(run) {
        command.env("POOL_JOB_TIMEOUT", timeout.as_secs_f64().to_string());
    }
    let variables = Variables::of(run.payload);
    if let Some(line) = variables.told() {
        // Standard error goes to the log, with worker and job.
        eprintln!("{line}");
    }
    command.envs(variables.set);
    let is_file = task.stdout == CommandOutput::File;
    let limits = ResourceLimits {
        address_space: task.max_memory,
        cpu_s: task.max_cpu_s,
        file_size: (is_file && task.max_output < usize::MAX).then_some(task.max_output as u64),
    };
    limits.hold_for(&mut command);
    command
}

/// What a program's end means for its job.
fn ending(
    ended: Ended,
    task: &CommandTask,
    (timeout, file): (Option<Duration>, Option<OutputFile>),
    result: &mut Vec<u8>,
) -> Ending {
    let program = &task.command[0];
    let detail = String::from_utf8_lossy(&ended.stderr_tail).into_owned();
    let error = |kind: &str, message: String| JobError {
        detail: detail.clone(),
        ..JobError::new(kind, message)
    };
    let end = match ended.stop {
        Stop::Ended(end) => end,
        Stop::TimedOut => {
            let error = timeout_error(timeout.unwrap_or_default());
            return Ending::TimedOut(JobError { detail, ..error });
        }
        Stop::OutputTooLong => {
            let limit = task.max_output;
            let message =
                format!("`{program}` printed more than {limit} bytes (`max_output`) and was killed");
            return Ending::Failure(error("output too large", message));
        }
    };
    let status = end.status.unwrap_or_default();
    let died = |kind: &str, message: String| JobError {
        death: Some(Box::new(Death::new(&end, None))),
        ..error(kind, message)
    };
    let how = process::describe_status(status);
    match end.exit_code() {
        Some(0) => match file {
            None => {
                streams::to_json(task.stdout, &ended.stdout, result);
                Ending::Success
            }
            Some(file) => match file.keep(result) {
                Ok(()) => Ending::Success,
                Err(problem) => {
                    Ending::Failure(error("command", format!("its output can't be kept: {problem}")))
                }
            },
        },
        Some(TRY_AGAIN) => Ending::Retry {
            after: None,
            reason: match detail.trim().lines().last() {
                Some(last) => last.to_owned(),
                None => format!("`{program}` ended with {how}, which asks for another run"),
            },
        },
        Some(_) => Ending::Failure(died("exit status", format!("`{program}` ended with {how}"))),
        None => {
            let (kind, why) = by_signal(&end, task, file.is_some());
            Ending::Failure(died(
                kind,
                format!("`{program}` {}", why.unwrap_or_else(|| format!("was {how}"))),
            ))
        }
    }
}

/// What it means that a signal ended a program: the kind of the error, and what happened if that is more than the signal.
fn by_signal(end: &ProcessEnd, task: &CommandTask, writes_file: bool) -> (&'static str, Option<String>) {
    let is = |signal: Signal| end.signal() == Some(signal as i32);
    if is(Signal::SIGXCPU) && task.max_cpu_s.is_some() {
        let why = "used its processor time up (`max_cpu_time`) and was ended";
        return ("processor time", Some(why.to_owned()));
    }
    if is(Signal::SIGXFSZ) && writes_file {
        let limit = task.max_output;
        let why = format!("wrote a file of more than {limit} bytes (`max_output`) and was ended");
        return ("output too large", Some(why));
    }
    if end.out_of_memory {
        let how = process::describe_status(end.status.unwrap_or_default());
        return ("out of memory", Some(format!("was {how}: memory had run out")));
    }
    ("signal", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended_with(status: i32) -> Stop {
        Stop::Ended(ProcessEnd {
            status: Some(status),
            ..ProcessEnd::default()
        })
    }

    fn task(command: &[&str]) -> CommandTask {
        CommandTask {
            command: command.iter().map(ToString::to_string).collect(),
            max_output: 100,
            ..CommandTask::default()
        }
    }

    fn end(stop: Stop, stdout: &str, stderr: &str) -> (Ending, String) {
        let ended = Ended {
            stop,
            stdout: stdout.into(),
            stderr_tail: stderr.into(),
        };
        let mut result = Vec::new();
        let timeout = Some(Duration::from_secs(2));
        let ending = ending(ended, &task(&["convert"]), (timeout, None), &mut result);
        (ending, String::from_utf8(result).unwrap())
    }

    #[test]
    fn an_exit_status_or_signal_is_a_failure_with_the_tail_of_stderr() {
        for (status, kind, message) in [
            (3 << 8, "exit status", "`convert` ended with exit status 3"),
            (11, "signal", "`convert` was killed by signal 11 (SIGSEGV)"),
        ] {
            let (Ending::Failure(error), _) = end(ended_with(status), "42", "oops\n") else {
                panic!("not a failure");
            };
            assert_eq!((&*error.kind, &*error.message), (kind, message));
            assert_eq!(error.detail, "oops\n");
        }
    }

    #[test]
    fn status_75_asks_for_another_run() {
        for (stderr, reason) in [
            ("one\nlocked by another\n", "locked by another"),
            (
                "",
                "`convert` ended with exit status 75, which asks for another run",
            ),
        ] {
            let expected = Ending::Retry {
                after: None,
                reason: reason.into(),
            };
            assert_eq!(end(ended_with(75 << 8), "", stderr).0, expected);
        }
    }

    #[test]
    fn all_programs_that_are_missing_are_named_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let file = file.path().to_str().unwrap();
        let mut lost = task(&["true"]);
        lost.directory = Some("/no/such/place".into());
        let commands = BTreeMap::from([
            ("a".to_owned(), task(&["true"])),
            ("b".to_owned(), task(&["no-such-program"])),
            ("c".to_owned(), task(&[file])),
            ("d".to_owned(), lost),
            ("e".to_owned(), task(&[])),
        ]);
        let order = Load {
            commands,
            ..Load::default()
        };
        assert_eq!(
            load(&order).err().unwrap().message,
            format!(
                "task `b`: no program `no-such-program` in PATH; task `c`: `{file}` is no executable file; \
                 task `d`: its directory `/no/such/place` is not there; task `e`: its `command` is empty"
            )
        );
    }
}
