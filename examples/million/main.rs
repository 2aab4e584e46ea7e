//! A million Fibonacci jobs over three queues and two supervisors on one broker; each result fetched by id.
//!
//! `examples/million/run` drives this on each broker, and Celery beside it. By itself:
//!
//! ```sh
//! cargo run --release --example million -- drive --jobs 1000000
//! ```
//!
//! It fails unless every result is right. Figures go to standard output as one JSON object.

use std::error::Error;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use pool::broker::{self, Broker};
use pool::config::{ClientArgs, Wanted, load_client};
use pool::job::{JobId, JobState, JobView, NewJob, QueueName};
use pool::time::Mono;
use pool::{App, Context, TaskResult};

const QUEUES: [&str; 3] = ["high", "default", "low"];
/// Both supervisors serve all queues, each in its order.
const SUPERVISORS: [(&str, [&str; 3]); 2] = [
    ("one", ["high", "default", "low"]),
    ("two", ["low", "default", "high"]),
];
/// The numbers asked for are below this; the largest result still fits 64 bits.
const NUMBERS: u64 = 91;
/// Jobs that go to the broker, and results that come from it, at once.
const CHUNK: u64 = 5_000;
/// How long results are kept.
const RESULT_TTL: Duration = Duration::from_secs(86_400);
/// Longest start of redis-server.
const START_MAX: Duration = Duration::from_secs(30);
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
    /// What runs them: native or python, on the embedded broker; rq, on a redis-server of our own
    #[arg(long, default_value = "native")]
    runtime: String,
    /// Interpreter, for python and rq
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Directory of `tasks.py`, for python and rq
    #[arg(long, default_value = "examples/million")]
    directory: PathBuf,
}

/// The broker, in a directory of its own.
struct Place {
    directory: tempfile::TempDir,
    url: String,
    redis: Option<Child>,
}

impl Place {
    fn new(runtime: &str) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        if runtime != "rq" {
            let url = format!("sqlite:{}", path("pool.db"));
            return Ok(Place {
                directory,
                url,
                redis: None,
            });
        }
        let socket = path("redis.sock");
        // Each job's result is a stream of one entry, for which Redis sets aside as much as a node may hold.
        let settings = ["--port", "0", "--save", "", "--stream-node-max-bytes", "256"];
        let redis = Command::new("redis-server")
            .args(settings)
            .args(["--unixsocket", &socket, "--dir", &path("")])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start redis-server: {error}"))?;
        Ok(Place {
            directory,
            url: format!("redis+unix://{socket}"),
            redis: Some(redis),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client of the broker, once it answers.
    async fn open(&self) -> Result<Arc<dyn Broker>, Box<dyn Error>> {
        let args = ClientArgs {
            broker: Some(self.url.clone()),
            ..ClientArgs::default()
        };
        let options = load_client(&args, |_| None, Wanted::Broker)?.broker.options()?;
        let until = Mono::now() + START_MAX;
        loop {
            match broker::open(&options).await {
                Ok(client) => return Ok(client),
                Err(error) if Mono::now() > until => return Err(error.into()),
                Err(_) => tokio::time::sleep(FRAME / 10).await, // redis-server starts
            }
        }
    }

    /// What the broker occupies: its file and log, or the memory of its server.
    fn bytes(&self) -> Result<u64, Box<dyn Error>> {
        let Some(redis) = &self.redis else {
            let files = ["pool.db", "pool.db-wal"].map(|name| std::fs::metadata(self.path(name)));
            return Ok(files.into_iter().flatten().map(|file| file.len()).sum());
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", redis.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) * 1024)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(redis) = &mut self.redis {
            let _ = redis.kill();
            let _ = redis.wait();
        }
    }
}

/// The nth Fibonacci number.
fn fib(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_none_or(|verb| verb != "drive") {
        // A supervisor that is started below, its template, its workers.
        let task = |(n,): (u64,), _: &Context| -> TaskResult<u64> { Ok(fib(n)) };
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
    let place = Place::new(&options.runtime)?;
    let client = place.open().await?;

    let begun = Mono::now();
    let ids = enqueue(&*client, options).await?;
    let enqueued = Mono::now();
    run(&client, options, &place).await?;
    let ended = Mono::now();
    let broker_bytes = place.bytes()?;
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
            "broker_bytes": broker_bytes,
        })
    );
    Ok(())
}

/// Adds all jobs; the nth asks for the Fibonacci number of `n % NUMBERS` and goes to the next queue.
async fn enqueue(client: &dyn Broker, options: &Options) -> Result<Vec<JobId>, Box<dyn Error>> {
    let queues: Vec<QueueName> = QUEUES.into_iter().map(QueueName::new).collect::<Result<_, _>>()?;
    let task = if options.runtime == "native" {
        "fib"
    } else {
        "tasks.fib"
    };
    let bar = progress(options.jobs, "enqueued");
    let mut ids = Vec::with_capacity(usize::try_from(options.jobs)?);
    for first in (0..options.jobs).step_by(usize::try_from(CHUNK)?) {
        let numbers = first..options.jobs.min(first + CHUNK);
        let jobs: Vec<NewJob> = numbers
            .zip(queues.iter().cycle())
            .map(|(n, queue)| NewJob {
                // RQ's 500 s would be over before all are fetched.
                result_ttl: Some(RESULT_TTL),
                ..NewJob::new(queue.clone(), task, format!("[{}]", n % NUMBERS))
            })
            .collect();
        ids.extend(jobs.iter().map(|job| job.id.clone()));
        bar.inc(jobs.len() as u64);
        client.producer()?.enqueue(jobs).await?;
    }
    bar.finish();
    Ok(ids)
}

/// Runs both supervisors until the queues are empty.
async fn run(client: &Arc<dyn Broker>, options: &Options, place: &Place) -> Result<(), Box<dyn Error>> {
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

fn supervise(name: &str, queues: [&str; 3], options: &Options, place: &Place) -> std::io::Result<Child> {
    let workers = options.workers.to_string();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["run", "--burst", "--runtime", &options.runtime])
        .args(queues.iter().flat_map(|queue| ["--queue", *queue]))
        .args(["--min-workers", &workers, "--max-workers", &workers])
        .args(["--log-level", "warn", "--broker", &place.url])
        .arg("--socket")
        .arg(place.path(&format!("{name}.sock")));
    if options.runtime != "native" {
        command
            .args(["--preload", "tasks", "--directory"])
            .arg(&options.directory)
            .arg("--python")
            .arg(&options.python);
    }
    if options.runtime == "rq" {
        command.args(["--name", name]);
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
        if let Ok(backlog) = client.queues().backlog(&queues).await {
            bar.set_position(jobs.saturating_sub(backlog.waiting()));
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
        let found = client.reader()?.find(ids).await?;
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
