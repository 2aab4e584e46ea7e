//! The command line: one file per verb.
//!
//! - `report`: how a verb ends; `render`, `tasks`, `listing`, `chart`, `json`, `progress`: what people and programs read.
//! - `client`: how verbs find the broker and the supervisor; `choice`: which jobs they are about.
//! - `at`: times of the calendar.

mod at;
mod cancel;
mod chart;
mod check;
mod choice;
mod client;
mod completions;
mod confirm;
mod dead;
mod default_file;
mod demo;
mod enqueue;
mod explain;
mod flow;
mod health;
mod jobs;
mod json;
mod lines;
mod listing;
mod metrics;
mod progress;
mod purge;
mod queues;
mod render;
mod report;
mod result;
mod run;
mod schedules;
mod screen;
mod send;
mod serving;
mod simulate;
mod status;
mod steer;
mod table;
mod tasks;
mod wait;
mod watch;

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{DialectKind, RunArgs, own_line, spelled_out};
use crate::sys;
use report::{Code, Failure, Outcome};

/// Runs background jobs on workers that it forks on demand from an application loaded once
#[derive(Parser, Debug)]
#[command(
    name = "pool",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    after_help = after_help()
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: RunArgs,
}

/// What stands below the flags in the help of the program.
fn after_help() -> String {
    let names = DialectKind::ALL
        .iter()
        .map(|kind| format!("`pool {} …`", kind.name()));
    let own_lines = names.collect::<Vec<_>>().join(" and ");
    format!(
        "\
Without a verb it runs: `pool --max-workers 8` is `pool run --max-workers 8`. `pool run --help` shows all flags; \
each can be given as a variable too, as in POOL_MAX_WORKERS=8. {own_lines} take the words of those programs, as they are.

Examples:
  pool                                        run the built-in tasks with 2 to 5 workers
  pool enqueue fib '{{\"n\": 30}}' --wait         from a second shell: run a job, print its result
  pool --runtime python --preload shop.jobs   run the functions of a Python module
  pool status                                 see what it does

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 nobody answered (broker or supervisor)."
    )
}

#[derive(Subcommand, Debug)]
enum Verb {
    Run(run::RunVerb),
    Enqueue(Box<enqueue::EnqueueArgs>),
    Wait(wait::WaitArgs),
    Result(result::ResultArgs),
    Jobs(Box<jobs::JobsArgs>),
    Cancel(Box<cancel::CancelArgs>),
    StopJob(cancel::StopJobArgs),
    Purge(purge::PurgeArgs),
    Queues(queues::QueuesArgs),
    Status(status::StatusArgs),
    Explain(explain::ExplainArgs),
    Metrics(metrics::MetricsArgs),
    Health(health::HealthArgs),
    Scale(steer::ScaleArgs),
    /// Claim no more jobs; those that run finish
    Pause(steer::PoolArgs),
    /// End a pause
    Resume(steer::PoolArgs),
    /// Read the configuration again and load the application anew, without losing a job
    Reload(steer::SupervisorArgs),
    /// Let all running jobs finish, then leave
    Drain(steer::SupervisorArgs),
    Stop(steer::StopArgs),
    Dead(dead::DeadArgs),
    Schedules(schedules::SchedulesArgs),
    Check(check::CheckArgs),
    Demo(demo::DemoArgs),
    Simulate(Box<simulate::SimulateArgs>),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Flags of `run` that the help of the program itself shows; `pool run --help` shows all.
const MAIN_FLAGS: [&str; 13] = [
    "config",
    "broker",
    "queue",
    "runtime",
    "python",
    "preload",
    "min-workers",
    "max-workers",
    "utilization-threshold",
    "scaling-period",
    "utilization-window",
    "burst",
    "log-format",
];

/// The whole command line as clap sees it. The program's own help shows the main flags of `run`, in few words.
fn command() -> clap::Command {
    Cli::command().mut_args(|arg| {
        let is_main = MAIN_FLAGS.contains(&arg.get_id().as_str());
        shortened(arg).hide(!is_main)
    })
}

/// The command line that begins with a verb: no flag of the program can stand on it, and making those takes longer
/// than most verbs do. A probe runs `pool health` every few seconds, so that one goes without the other verbs too.
fn command_of_verbs(verb: &OsStr) -> clap::Command {
    let pool = clap::Command::new("pool").version(env!("CARGO_PKG_VERSION"));
    if verb == "health" {
        return pool.subcommand(health::HealthArgs::augment_args(clap::Command::new("health")));
    }
    Verb::augment_subcommands(pool)
}

/// The flag with its help up to the mention of its variable.
fn shortened(arg: clap::Arg) -> clap::Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split(" [env: ").next().unwrap_or_default().to_owned();
    arg.help(help)
}

/// Does what the command line of this process says.
///
/// A program with tasks of its own gets here by `App::main`, after it has found that it is no template.
pub fn main() -> ExitCode {
    let cli = match parse(&spelled_out(std::env::args_os()).collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0; a closed stream leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Code::Usage as u8 } else { 0 });
        }
    };
    match perform(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            if failure.code() == Code::Interrupted {
                // So that the loop of a shell ends too.
                let _ = sys::signal::end_by(nix::sys::signal::Signal::SIGINT);
            }
            ExitCode::from(&failure)
        }
    }
}

/// Reads a command line. Without a verb, words behind the flags of a dialect's runtime are queues, as on its own command line.
fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    // As a word of a dialect `-v` asks for more lines of log. Alone it is what people type to see a version.
    if let [program, only] = words
        && only == "-v"
    {
        return parse(&[program.clone(), "--version".into()]);
    }
    if let [program, top, rest @ ..] = words
        && top == "top"
    {
        return parse(&[&[program.clone(), "status".into(), "--watch".into()], rest].concat());
    }
    // `pool help enqueue` is `pool enqueue --help`.
    if let [program, help, verb @ ..] = words
        && help == "help"
    {
        return parse(&[std::slice::from_ref(program), verb, &["--help".into()]].concat());
    }
    if let Some(line) = words.get(1..).and_then(own_line) {
        let (run, queues) = line?;
        let run = run.and_queues(queues);
        return Ok(Cli { verb: None, run });
    }
    read(words).or_else(|error| match (error.kind(), words) {
        (ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict, [program, rest @ ..])
            if is_run_of_a_dialect(rest) =>
        {
            read(&[&[program.clone(), "run".into()], rest].concat())
        }
        (ErrorKind::ArgumentConflict, [_, first, ..]) if is_flag(first) => Err(with_its_place(error)),
        _ => Err(error),
    })
}

/// Reads a command line of ours.
fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
    let is_verb = |word: &&OsString| word.to_str().is_some_and(Verb::has_subcommand);
    let Some(verb) = words.get(1).filter(is_verb) else {
        let matches = command().try_get_matches_from(words)?;
        return Cli::from_arg_matches(&matches);
    };
    let matches = command_of_verbs(verb).try_get_matches_from(words)?;
    Ok(Cli {
        verb: Some(Verb::from_arg_matches(&matches)?),
        run: RunArgs::default(),
    })
}

/// Who gave a flag ahead of its verb is told where it stands.
fn with_its_place(mut error: clap::Error) -> clap::Error {
    let tip = StyledStr::from("flags stand behind their verb, as in `pool status --broker URL`");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    error
}

fn is_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// Flags stand first, so that a verb can't follow, and the runtime is among them.
fn is_run_of_a_dialect(words: &[OsString]) -> bool {
    let is_dialect = |name: &str| DialectKind::named(name).is_some();
    let is_pair = |pair: &[OsString]| pair[0] == "--runtime" && pair[1].to_str().is_some_and(is_dialect);
    let is_word = |word: &OsString| {
        let name = word.to_str().and_then(|word| word.strip_prefix("--runtime="));
        name.is_some_and(is_dialect)
    };
    words.first().is_some_and(|word| is_flag(word))
        && (words.windows(2).any(is_pair) || words.iter().any(is_word))
}

fn perform(cli: Cli) -> Outcome {
    match cli.verb {
        None => block_on(run::run(cli.run)),
        Some(Verb::Run(args)) => block_on(run::run(args.run.and_queues(args.queues))),
        Some(Verb::Enqueue(args)) => block_on(enqueue::run(*args)),
        Some(Verb::Wait(args)) => block_on(wait::run(args)),
        Some(Verb::Result(args)) => block_on(result::run(args)),
        Some(Verb::Jobs(args)) => block_on(jobs::run(*args)),
        Some(Verb::Cancel(args)) => block_on(cancel::cancel(*args)),
        Some(Verb::StopJob(args)) => block_on(cancel::stop_job(args)),
        Some(Verb::Purge(args)) => block_on(purge::run(args)),
        Some(Verb::Queues(args)) => block_on(queues::run(args)),
        Some(Verb::Status(args)) => status::run(&args),
        Some(Verb::Explain(args)) => explain::run(&args),
        Some(Verb::Metrics(args)) => metrics::run(&args),
        Some(Verb::Health(args)) => health::run(&args),
        Some(Verb::Scale(args)) => steer::scale(args),
        Some(Verb::Pause(args)) => steer::pause(args),
        Some(Verb::Resume(args)) => steer::resume(args),
        Some(Verb::Reload(args)) => steer::reload(&args),
        Some(Verb::Drain(args)) => steer::drain(&args),
        Some(Verb::Stop(args)) => steer::stop(&args),
        Some(Verb::Dead(args)) => block_on(dead::run(args)),
        Some(Verb::Schedules(args)) => block_on(schedules::run(args)),
        Some(Verb::Check(args)) => block_on(check::run(args)),
        Some(Verb::Demo(args)) => block_on(demo::run(args)),
        Some(Verb::Simulate(args)) => simulate::run(&args),
        Some(Verb::Completions(args)) => completions::run(&args),
        Some(Verb::Man(args)) => completions::man(&args),
    }
}

fn check_open_files(most: u64) -> Outcome {
    let needed = sys::limits::OPEN_FILES_MIN;
    if most >= needed {
        return Ok(());
    }
    let message = format!("cannot start: {most} files may be open at once, and {needed} are needed");
    let hint = "raise the limit: `ulimit -n 1024`, or `LimitNOFILE=1024` in the unit of a service";
    Err(Failure::new(Code::Failed, message).hint(hint))
}

/// How long an idle thread of [`block_on`] stays: as long as the process.
const STAYS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Runs one asynchronous verb to its end, on this thread.
///
/// What can't be waited for in the event loop (a name to be resolved, files to be read) goes to other threads. Tokio
/// panics where the first of them can't be started, so one is started now and stays: later it has to do the work alone.
fn block_on(verb: impl Future<Output = Outcome>) -> Outcome {
    let cannot = |error: io::Error| {
        Failure::new(Code::Failed, format!("cannot start: {error}")).hint(sys::limits::TOO_LOW)
    };
    check_open_files(sys::limits::open_files_max().map_err(cannot)?)?;
    let probe = std::thread::Builder::new().spawn(|| {}).map_err(cannot)?;
    let _ = probe.join();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(STAYS)
        .build()
        .map_err(cannot)?;
    drop(runtime.spawn_blocking(|| {}));
    runtime.block_on(verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_alone_takes_the_same_words() {
        let help = |command: clap::Command| {
            let mut health = command.find_subcommand("health").unwrap().clone();
            health.render_long_help().to_string()
        };
        let among_all = command_of_verbs(OsStr::new("status"));
        assert_eq!(help(command_of_verbs(OsStr::new("health"))), help(among_all));
    }
}
