//! A million Fibonacci jobs over three queues and two supervisors on one embedded broker; each result fetched by id.
//!
//! `examples/million/run` drives this and the same on Redis. By itself:
//!
//! ```sh
//! cargo run --release --example million -- drive --jobs 1000000
//! ```
//!
//! It fails unless every result is right. Figures go to standard output as one JSON object.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use pool::broker::{self, Broker};
use pool::config::{BrokerConfig, BrokerUrl};
use pool::job::{JobId, JobState, JobView, NewJob, QueueName};
use pool::time::Mono;
use pool::{App, Context, TaskResult};

const QUEUES: [&str; 3] = ["high", "default", "low"];
/// Both supervisors serve all queues, each in its order.
const SUPERVISORS: [(&str, &str); 2] = [("one", "high,default,low"), ("two", "low,default,high")];
/// The numbers asked for are below this; the largest result still fits 64 bits.
const NUMBERS: u64 = 91;
/// Jobs that go to the broker, and results that come from it, at once.
const CHUNK: u64 = 5_000;
/// From one look at what still waits to the next.
const FRAME: Duration = Duration::from_millis(500);

#[derive(Parser)]
struct Options {
    /// How many jobs
    #[arg(long, default_value_t = 1_000_000)]
    jobs: u64,
    /// Workers of each supervisor
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// What runs them: native or python
    #[arg(long, default_value = "native")]
    runtime: String,
    /// Directory of `tasks.py`, for python
    #[arg(long, default_value = "examples/million")]
    directory: PathBuf,
}

/// The nth Fibonacci number.
fn fib(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_none_or(|verb| verb != "drive") {
        // A supervisor that is started below, its template, its workers.
        let task = |n: u64, _: &Context| -> TaskResult<u64> { Ok(fib(n)) };
        return App::new().task("fib", task).main();
    }
    let options = Options::parse_from(std::iter::once("million drive".into()).chain(args));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(drive(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn drive(options: &Options) -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let file = place.path().join("pool.db");
    let settings = BrokerConfig {
        url: BrokerUrl::Sqlite(file.clone()),
        ..BrokerConfig::default()
    };
    let client = broker::open(&settings).await?;

    let begun = Mono::now();
    let ids = enqueue(&*client, options).await?;
    let enqueued = Mono::now();
    run(&client, options, place.path()).await?;
    let ended = Mono::now();
    verify(&*client, &ids).await?;
    let fetched = Mono::now();
    client.close().await?;
    println!(
        "{}",
        serde_json::json!({
            "jobs": options.jobs,
            "enqueue_s": enqueued.since(begun).as_secs_f64(),
            "run_s": ended.since(enqueued).as_secs_f64(),
            "fetch_s": fetched.since(ended).as_secs_f64(),
            "broker_bytes": std::fs::metadata(&file)?.len(),
        })
    );
    Ok(())
}

/// Adds all jobs; the nth asks for the Fibonacci number of `n % NUMBERS` and goes to the next queue.
async fn enqueue(client: &dyn Broker, options: &Options) -> Result<Vec<JobId>, Box<dyn Error>> {
    let queues: Vec<QueueName> = QUEUES.into_iter().map(QueueName::new).collect::<Result<_, _>>()?;
    let task = if options.runtime == "python" {
        "tasks.fib"
    } else {
        "fib"
    };
    let bar = progress(options.jobs, "enqueued");
    let mut ids = Vec::with_capacity(usize::try_from(options.jobs)?);
    for first in (0..options.jobs).step_by(usize::try_from(CHUNK)?) {
        let numbers = first..options.jobs.min(first + CHUNK);
        let jobs: Vec<NewJob> = numbers
            .zip(queues.iter().cycle())
            .map(|(n, queue)| NewJob::new(queue.clone(), task, (n % NUMBERS).to_string()))
            .collect();
        ids.extend(jobs.iter().map(|job| job.id.clone()));
        bar.inc(jobs.len() as u64);
        client.enqueue(jobs).await?;
    }
    bar.finish();
    Ok(ids)
}

/// Runs both supervisors until the queues are empty.
async fn run(client: &Arc<dyn Broker>, options: &Options, place: &Path) -> Result<(), Box<dyn Error>> {
    let mut supervisors = Vec::new();
    for (name, queues) in SUPERVISORS {
        supervisors.push(supervise(name, queues, options, place)?);
    }
    let shown = tokio::spawn(show_progress(Arc::clone(client), options.jobs));
    let all =
        tokio::task::spawn_blocking(move || supervisors.iter_mut().map(Child::wait).collect::<Vec<_>>());
    for status in all.await? {
        let status = status?;
        if !status.success() {
            return Err(format!("a supervisor ended with {status}").into());
        }
    }
    shown.abort();
    Ok(())
}

fn supervise(name: &str, queues: &str, options: &Options, place: &Path) -> std::io::Result<Child> {
    let workers = options.workers.to_string();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["run", "--burst", "--runtime", &options.runtime, "--queue", queues])
        .args(["--min-workers", &workers, "--max-workers", &workers])
        .args(["--log-level", "warn", "--broker"])
        .arg(format!("sqlite:{}", place.join("pool.db").display()))
        .arg("--socket")
        .arg(place.join(format!("{name}.sock")));
    if options.runtime == "python" {
        command
            .args(["--preload", "tasks", "--directory"])
            .arg(&options.directory);
    }
    command.spawn()
}

/// Shows how many jobs no longer wait, until it is stopped.
async fn show_progress(client: Arc<dyn Broker>, jobs: u64) {
    let queues: Vec<QueueName> = QUEUES
        .into_iter()
        .filter_map(|name| QueueName::new(name).ok())
        .collect();
    let bar = progress(jobs, "begun");
    let mut frames = tokio::time::interval(FRAME);
    loop {
        frames.tick().await;
        if let Ok(backlog) = client.backlog(&queues).await {
            bar.set_position(jobs.saturating_sub(backlog.waiting));
        }
    }
}

/// Fetches each result by its id; the error is the first that is wrong.
async fn verify(client: &dyn Broker, ids: &[JobId]) -> Result<(), Box<dyn Error>> {
    let bar = progress(ids.len() as u64, "verified");
    let expected: Vec<String> = (0..NUMBERS).map(|n| fib(n).to_string()).collect();
    let right = |found: &Option<JobView>, expected: &String| {
        let found = found.as_ref().filter(|job| job.state == JobState::Finished);
        found.and_then(|job| job.result.as_deref()) == Some(expected.as_bytes())
    };
    let mut wanted = expected.iter().cycle();
    for ids in ids.chunks(usize::try_from(CHUNK)?) {
        let found = client.find(ids).await?;
        for ((id, found), expected) in ids.iter().zip(&found).zip(&mut wanted) {
            if !right(found, expected) {
                return Err(format!("job {id} should have the result {expected}: {found:?}").into());
            }
        }
        bar.inc(ids.len() as u64);
    }
    bar.finish();
    Ok(())
}

/// A bar on standard error, on a terminal only.
fn progress(jobs: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg:9} {human_pos:>9} of {human_len} [{bar:40}] {elapsed} {per_sec:.0}",
    );
    ProgressBar::new(jobs)
        .with_style(style.expect("a template that parses"))
        .with_message(what)
}
