//! `pool run`: the supervisor, until it is told to stop.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::broker::{self, Broker, BrokerError};
use crate::config::{self, Config, Explained, Lookup, RunArgs};
use crate::control::pid_file;
use crate::control::server::{self, Listener};
use crate::http::server::{self as http, ListenError};
use crate::job::QueueName;
use crate::supervisor::{self, Jobs, Open, Options, Reload, SupervisorError};
use crate::telemetry::log;

use super::default_file;
use super::report::{Code, Failure, Out, Outcome};

/// Requests that may wait for the supervisor's attention.
const CALLS_MAX: usize = 64;
/// Jobs that are deleted in one step.
const PURGED_AT_ONCE: usize = 1000;

/// Run jobs until told to stop
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Signals: TERM and INT (^C) let running jobs finish. A second one, at least a second later, ends the jobs and puts them \
back into their queues. QUIT stops at once. HUP reloads; if the terminal was closed, it stops like TERM. USR1 logs the \
status. TTIN and TTOU raise and lower max_workers by one.

Examples:
  pool run --min-workers 2 --max-workers 8
  pool run --config /etc/pool/config.toml
  pool run --runtime python --preload shop.jobs --queue mail --queue default
  pool run --burst                            until the queues are empty")]
pub struct RunVerb {
    /// Queues to serve, behind those of `--queue`
    #[arg(value_name = "QUEUE")]
    pub queues: Vec<String>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Starts everything, supervises, and leaves nothing behind.
pub async fn run(args: RunArgs) -> Outcome {
    if args.print_config {
        return print_config(&args);
    }
    let cannot_start = |failure: Failure| failure.context("cannot start the pool");
    let explained = explain(&args).map_err(|errors| cannot_start(errors.into()))?;
    let config = &explained.config;
    log::init(&config.log).map_err(|error| cannot_start(error.into()))?;
    for (name, meant) in misspelled() {
        tracing::warn!("the variable `{name}` is none of pool's; did you mean `{meant}`?");
    }
    // Before the broker: a second supervisor by mistake touches nothing.
    let listener = server::bind(&config.socket).map_err(|error| cannot_start(error.into()))?;
    let listener = listener.of_broker(&config::broker_address(&config.broker.url));
    let pages = http::bind(&config.metrics).map_err(|error| cannot_start(error.into()))?;
    if let Some(path) = &config.supervisor.pid_file {
        write_pid(path).map_err(cannot_start)?;
    }
    let jobs = jobs(config).await.map_err(|error| cannot_start(error.into()))?;
    default_file::note_project(&explained);
    let options = Options {
        burst: args.burst,
        dry_run: args.dry_run,
        reload: reload(args, config.file.clone()),
    };
    supervise(explained.config, jobs, (listener, pages), options)
        .await
        .map_err(|error| match error {
            SupervisorError::NoWorkerStarts(_) => Failure::from(error),
            error => cannot_start(error.into()),
        })
}

/// How a reload reads the settings: from the same places, and the `file` that was found must still be there.
fn reload(mut args: RunArgs, file: Option<PathBuf>) -> Reload {
    if let Some(file) = file {
        args.lookup = Lookup::Again(file);
    }
    Arc::new(move || match explain(&args) {
        Ok(explained) => Ok(explained.config),
        Err(errors) => Err(errors.to_string()),
    })
}

/// Where the jobs are: at a broker that is open, or at one that is opened as the loaded application says.
async fn jobs(config: &Config) -> Result<Jobs, BrokerError> {
    if config.broker.app_names_broker() {
        return Ok(Jobs::AsTheAppSays(Arc::new(ByApp(config.clone()))));
    }
    Ok(broker::open(&config.broker.options()?).await?.into())
}

/// Opens the broker that the loaded application names.
struct ByApp(Config);

#[async_trait]
impl Open for ByApp {
    async fn open(&self, facts: &str) -> Result<Arc<dyn Broker>, BrokerError> {
        let ByApp(config) = self;
        let broker = broker::open(&config.broker.options_by_app(facts)?).await?;
        if config.broker.purges_at_start() {
            purge(&*broker, config).await?;
        }
        Ok(broker)
    }

    fn retries(&self, facts: &str) -> Option<u32> {
        let options = self.0.broker.options_by_app(facts);
        options.map_or(Some(0), |options| options.retries_at_start())
    }
}

/// Deletes what waits in the queues of all pools, before anything is taken.
async fn purge(broker: &dyn Broker, config: &Config) -> Result<(), BrokerError> {
    let by_app = broker.app_queues();
    let queues = config.pools.values().flat_map(|pool| match &*pool.queues {
        [] => &*by_app,
        named => named,
    });
    let queues: BTreeSet<&QueueName> = queues.collect();
    let purge = broker.purge()?;
    for queue in queues {
        let (mut deleted, mut gone) = (0, u64::MAX);
        while gone >= PURGED_AT_ONCE as u64 {
            gone = purge.purge_waiting(queue, PURGED_AT_ONCE).await?;
            deleted += gone;
        }
        tracing::info!(%queue, deleted, "what waited in the queue is deleted");
    }
    Ok(())
}

/// What somebody set, as a file that says the same.
fn print_config(args: &RunArgs) -> Outcome {
    let explained =
        explain(args).map_err(|errors| Failure::from(errors).context("the configuration is wrong"))?;
    let mut out = Out::new();
    out.line(explained.to_file().trim_end())?;
    out.flush()
}

/// For whoever watches or stops this process by its id. The file stays when the process ends.
fn write_pid(path: &Path) -> Outcome {
    let written = pid_file::open(path, 0o644).and_then(|mut file| pid_file::write(&mut file));
    written.map_err(|error| {
        let path = path.display();
        Failure::new(
            Code::Failed,
            format!("cannot write the process id to `{path}`: {error}"),
        )
        .hint("name another file with `--pid-file PATH`")
    })
}

/// Variables of our environment that are probably a typing error, each with the one that was meant.
pub fn misspelled() -> Vec<(String, String)> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    config::misspelled_variables(names)
}

fn explain(args: &RunArgs) -> Result<Explained, config::ConfigErrors> {
    config::explain(args, |name| std::env::var_os(name))
}

async fn supervise(
    config: Config,
    jobs: Jobs,
    (listener, pages): (Listener, Option<http::Listener>),
    options: Options,
) -> Result<(), SupervisorError> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        config = config.file.as_ref().map(|file| file.display().to_string()),
        broker = %config.broker.url,
        socket = %listener.path().display(),
        "starting"
    );
    for (pool, settings) in &config.pools {
        if let Some(from) = settings.max_workers_from {
            tracing::info!(%pool, max_workers = settings.max_workers, %from, "the processors say how many workers");
        }
    }
    let (calls, received) = mpsc::channel(CALLS_MAX);
    if let Some(pages) = pages {
        tracing::info!(url = %pages.url(), "serving metrics and health");
        tokio::spawn(pages.serve(calls.clone()));
    }
    let serving = tokio::spawn(listener.serve(calls));
    let ended = supervisor::run(config, jobs, received, options).await;
    // Lets the last answers out and removes the socket. It ends by itself: nobody receives its calls any more.
    let _ = serving.await;
    ended
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        let failure = Failure::new(Code::Failed, error.to_string());
        match error {
            ListenError::Listen { .. } => {
                failure.hint("name another address with `--metrics-listen ADDR:PORT`")
            }
            ListenError::Token { .. } | ListenError::NoToken { .. } => failure,
        }
    }
}

impl From<SupervisorError> for Failure {
    fn from(error: SupervisorError) -> Self {
        let failure = Failure::new(Code::Failed, error.to_string());
        match error {
            SupervisorError::Broker(error) => Failure::from(error),
            SupervisorError::AppDoesNotLoad(_) => {
                failure.hint("`pool check` with the same flags tries again without running jobs")
            }
            SupervisorError::NoWorkerStarts(_) => failure.hint(
                "the log says what the workers printed; do the hooks `after_fork` of the application work?",
            ),
            SupervisorError::System(_) => failure,
        }
    }
}
