//! `pool demo`: the reference load on a broker of its own, and a chart of what the pool made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::broker::{self, Broker, Producer};
use crate::config::{self, Config, LogConfig, Lookup, RunArgs};
use crate::control::{Call, Reply, Request};
use crate::fleet::snapshot::PoolSnapshot;
use crate::job::{NewJob, QueueName};
use crate::supervisor::{self, Options};
use crate::telemetry::log;
use crate::time::{Human, Mono, parse_duration};

use super::chart::{self, Sample};
use super::report::{Code, Failure, Outcome, print};

/// Two jobs a second …
const JOB_EVERY: Duration = Duration::from_millis(500);
/// … that take a second each: what keeps two workers busy.
const JOB: (&str, &str) = ("sleep", r#"{"seconds": 1}"#);
const POOL: &str = "default";
const MIN_WORKERS: u32 = 2;
const MAX_WORKERS: u32 = 5;
/// Columns of the chart.
const WIDTH: usize = 80;
/// Windows after the end of the load within which the pool must be small again.
const WINDOWS_MAX: u32 = 6;

/// Watch a pool grow and shrink under a small load, on a broker of its own
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The load is 2 jobs a second of 1 s each, then silence. The exit code is 0 only if the pool grew and fell back.")]
pub struct DemoArgs {
    /// How long jobs arrive
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    load: Duration,
    /// Time between scaling decisions
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    period: Duration,
    /// Time over which utilization is measured
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    window: Duration,
}

/// Runs the demonstration in a directory of its own, removed at the end.
pub async fn run(args: DemoArgs) -> Outcome {
    let directory = Directory::create()?;
    let config = settings(&args, directory.path())?;
    log::init(&LogConfig {
        level: "info".into(),
        jobs: false,
        ..config.log.clone()
    })?;
    print(&format!(
        "A pool of {MIN_WORKERS} to {MAX_WORKERS} workers, one more above utilization 0.50, one less below 0.25, decided each {}\n\
         over the last {}. The load: 2 jobs a second of 1 s each for {}, then silence.\n\n",
        Human(args.period),
        Human(args.window),
        Human(args.load),
    ))?;
    let broker = broker::open(&config.broker.options()?).await?;
    let (calls, received) = mpsc::channel(1);
    let options = Options {
        dry_run: false,
        burst: false,
        reload: Arc::new(|| Err("the demonstration can't be reloaded".into())),
    };
    let supervisor = supervisor::run(config, broker.clone(), received, options);
    let (ended, samples) = tokio::join!(supervisor, drive(&args, broker, calls));
    ended?;
    conclude(&samples?)
}

/// The configuration of the demonstration; nothing of the user's own has a say in it.
fn settings(args: &DemoArgs, directory: &Path) -> Result<Config, Failure> {
    let flags = [
        "--broker".to_owned(),
        format!("sqlite:{}", directory.join("jobs.db").display()),
        "--socket".to_owned(),
        directory.join("pool.sock").display().to_string(),
        format!("--min-workers={MIN_WORKERS}"),
        format!("--max-workers={MAX_WORKERS}"),
        format!("--scaling-period={}", Human(args.period)),
        format!("--utilization-window={}", Human(args.window)),
    ];
    let mut flags = RunArgs::from_flags(flags)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot set up the demonstration: {error}")))?;
    flags.lookup = Lookup::None;
    Ok(config::load(&flags, |_| None)?)
}

/// Feeds the pool and watches it until it is small again; then stops it.
async fn drive(
    args: &DemoArgs,
    broker: Arc<dyn Broker>,
    calls: mpsc::Sender<Call>,
) -> Result<Vec<Sample>, Failure> {
    let samples = watch(args, broker.producer()?, &calls).await;
    ask(&calls, Request::Stop { now: false }).await;
    samples
}

async fn watch(
    args: &DemoArgs,
    producer: &dyn Producer,
    calls: &mpsc::Sender<Call>,
) -> Result<Vec<Sample>, Failure> {
    let start = Mono::now();
    let mut samples = Vec::new();
    let mut next_job = interval(JOB_EVERY);
    let mut next_look = interval(args.period / 4);
    next_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let passed = Mono::now().since(start);
        tokio::select! {
            _ = next_job.tick(), if passed < args.load => feed(producer).await?,
            _ = next_look.tick() => {
                // A supervisor that leaves early, by a signal say, ends the demonstration.
                let Some(pool) = look(calls).await else { return Ok(samples) };
                samples.push(sample(&pool, passed));
                let is_over = passed > args.load && pool.workers == MIN_WORKERS && pool.busy == 0;
                if is_over || passed > args.load + args.window * WINDOWS_MAX {
                    return Ok(samples);
                }
            }
        }
    }
}

async fn feed(producer: &dyn Producer) -> Outcome {
    let queue = QueueName::new("default").expect("a valid name");
    producer.enqueue(vec![NewJob::new(queue, JOB.0, JOB.1)]).await?;
    Ok(())
}

async fn look(calls: &mpsc::Sender<Call>) -> Option<PoolSnapshot> {
    match ask(calls, Request::Status).await? {
        Reply::Snapshot { snapshot } => snapshot.pools.get(POOL).cloned(),
        _ => None,
    }
}

/// The supervisor's answer; `None` when it leaves.
async fn ask(calls: &mpsc::Sender<Call>, request: Request) -> Option<Reply> {
    let (reply, answer) = oneshot::channel();
    calls.send(Call { request, reply }).await.ok()?;
    answer.await.ok()
}

fn sample(pool: &PoolSnapshot, passed: Duration) -> Sample {
    Sample {
        at_s: passed.as_secs_f64(),
        workers: pool.workers,
        busy: pool.busy,
        utilization: pool.utilization,
        waiting: pool.waiting,
    }
}

/// The chart, and whether the pool did what it is for.
fn conclude(samples: &[Sample]) -> Outcome {
    let most = samples.iter().map(|sample| sample.workers).max().unwrap_or(0);
    let last = samples.last().map_or(0, |sample| sample.workers);
    print(&format!("\n{}\n", chart::draw(samples, WIDTH)))?;
    if most > MIN_WORKERS && last == MIN_WORKERS {
        return print(&format!(
            "The pool grew from {MIN_WORKERS} to {most} workers and fell back to {last}.\n"
        ));
    }
    let message = format!(
        "the pool had {most} workers at most and {last} at the end, expected it to grow and to fall back to {MIN_WORKERS}"
    );
    Err(Failure::new(Code::Failed, message))
}

/// A directory for the owner alone, removed with all that is in it when dropped.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("pool-demo-{}", crate::job::JobId::generate());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                let message = format!("cannot create the directory `{}`: {error}", path.display());
                Failure::new(Code::Failed, message).hint("set TMPDIR to a directory that may be written")
            })?;
        Ok(Directory(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    /// Best effort: what is left is in the directory for temporary files.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
