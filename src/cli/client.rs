//! How verbs find the broker and the supervisor.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{self, Broker};
use crate::config::{
    BrokerUrl, ClientArgs, ClientConfig, Config, ConfigErrors, Wanted, broker_address, load_client,
};
use crate::control::client::call_addressed;
use crate::control::request::Addressed;
use crate::control::{Reply, Request};
use crate::fleet::health::Health;
use crate::fleet::snapshot::Snapshot;
use crate::supervisor::check::load_app;

use super::report::{Code, Failure, note};

/// How long a supervisor that is alive may take for an answer that it need not work for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take for one without which the verb goes on.
pub const BRIEFLY: Duration = Duration::from_millis(500);

/// What a verb does with jobs at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It adds some: a database that is not there is made.
    Add,
    /// It looks for some, which only a database that is there can have.
    Look,
}

/// The broker that flags, environment and file name, opened.
pub async fn broker(args: &ClientArgs, access: Access) -> Result<Arc<dyn Broker>, Failure> {
    open(&config(args, Wanted::Broker)?, access).await
}

/// Where supervisor and broker are, as flags, environment and file say.
pub fn config(args: &ClientArgs, wanted: Wanted) -> Result<ClientConfig, Failure> {
    load_client(args, |name| std::env::var_os(name), wanted)
        .map_err(|errors| Failure::from(errors).context("cannot use the configuration"))
}

/// Opens the broker. One that is named and is not there may be named wrongly: that is said.
pub async fn open(config: &ClientConfig, access: Access) -> Result<Arc<dyn Broker>, Failure> {
    if config.broker.url == BrokerUrl::Memory {
        let message =
            "the jobs of `memory:` are in the process of their supervisor, where no other reaches them";
        return Err(Failure::new(Code::Usage, message)
            .hint("name a broker that others can use, such as `sqlite:PATH`"));
    }
    if let BrokerUrl::Sqlite(path) = &config.broker.url
        && config.broker_is_named
        && !path.exists()
    {
        let url = &config.broker.url;
        if access == Access::Look {
            return Err(Failure::new(Code::Nobody, format!("there is no {url}"))
                .hint("is the path right? `pool run` and `pool enqueue` make the database"));
        }
        note(&format!("note: {url} is not there yet, and is made"));
    }
    let options = match &config.loads {
        None => config.broker.options()?,
        Some(loads) => config.broker.options_by_app(&facts(config, loads).await?)?,
    };
    Ok(broker::open(&options).await?)
}

/// What the application says about its broker: the supervisor that has loaded it knows; else it is loaded.
async fn facts(config: &ClientConfig, loads: &Config) -> Result<String, Failure> {
    if !config.socket.as_os_str().is_empty()
        && let Ok(Reply::Facts { facts: Some(facts) }) =
            call_addressed(&config.socket, &told_of(config), Some(PATIENCE))
    {
        return Ok(facts);
    }
    if let Some((why, hint)) = loads.broker.misses_app() {
        let message = format!("no supervisor of {} answers, and {why}", config.broker.url);
        return Err(Failure::new(Code::Usage, message).hint(hint));
    }
    let loaded = load_app(loads, |_| {}).await.map_err(|reason| {
        let reason = reason.trim_end();
        Failure::new(
            Code::Failed,
            format!("{} can't be asked for its broker: {reason}", config.broker.url),
        )
        .hint("its interpreter is that of POOL_PYTHON, of the file or of the activated environment")
    })?;
    Ok(loaded.report.facts.unwrap_or_default())
}

/// The question for what the application says, to the supervisor of this broker alone.
fn told_of(config: &ClientConfig) -> Addressed {
    let url = &config.broker.url;
    Addressed {
        request: Request::Facts,
        broker: config.broker_is_named.then(|| broker_address(url)),
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure::new(Code::Usage, errors.to_string())
    }
}

/// Asks the supervisor for the whole picture.
pub fn snapshot(args: &ClientArgs) -> Result<Snapshot, Failure> {
    snapshot_within(args, PATIENCE)
}

/// The same, where it may take only so long.
pub fn snapshot_within(args: &ClientArgs, patience: Duration) -> Result<Snapshot, Failure> {
    match ask(args, Request::Status, Some(patience))? {
        Reply::Snapshot { snapshot } => Ok(std::sync::Arc::unwrap_or_clone(snapshot)),
        other => Err(unexpected(other)),
    }
}

/// Asks the supervisor for its metrics as text.
pub fn metrics(args: &ClientArgs, openmetrics: bool) -> Result<String, Failure> {
    match ask(args, Request::Metrics { openmetrics }, Some(PATIENCE))? {
        Reply::Metrics { text } => Ok(text),
        other => Err(unexpected(other)),
    }
}

/// Asks the supervisor whether all is well. It may take only so long.
pub fn health(args: &ClientArgs, patience: Duration) -> Result<Health, Failure> {
    match ask(args, Request::Health, Some(patience))? {
        Reply::Health { health } => Ok(health),
        other => Err(unexpected(other)),
    }
}

/// Asks the supervisor to do something and returns what it says about it. Without `is_quick` it may take
/// its time: a reload, a drain.
pub fn command(args: &ClientArgs, request: Request, is_quick: bool) -> Result<String, Failure> {
    match ask(args, request, is_quick.then_some(PATIENCE))? {
        Reply::Done { message } => Ok(message),
        other => Err(unexpected(other)),
    }
}

/// Asks the supervisor, which refuses if a broker is named and it serves another one.
fn ask(args: &ClientArgs, request: Request, timeout: Option<Duration>) -> Result<Reply, Failure> {
    let config = config(args, Wanted::Supervisor)?;
    let url = &config.broker.url;
    let broker = config.broker_is_named.then(|| broker_address(url));
    match call_addressed(&config.socket, &Addressed { request, broker }, timeout)? {
        Reply::OtherBroker { pid, broker } => {
            let socket = config.socket.display();
            let message = format!(
                "no supervisor of {url} answers on `{socket}`: the one there (pid {pid}) serves {broker}"
            );
            Err(Failure::new(Code::Nobody, message)
                .hint("name the socket of the one that you mean, or the broker of this one"))
        }
        reply => Ok(reply),
    }
}

fn unexpected(reply: Reply) -> Failure {
    match reply {
        Reply::Error { message, hint } => {
            let failure = Failure::new(Code::Failed, message);
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        Reply::Done { .. }
        | Reply::Snapshot { .. }
        | Reply::Metrics { .. }
        | Reply::Health { .. }
        | Reply::Serving { .. }
        | Reply::Facts { .. }
        | Reply::OtherBroker { .. } => Failure::new(
            Code::Failed,
            "the supervisor answered something else than was asked",
        )
        .hint("does it run another version of this program?"),
    }
}
