//! How verbs find the broker and the supervisor.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{self, Broker};
use crate::config::{ClientArgs, ConfigErrors, load_broker, load_socket};
use crate::control::client::call;
use crate::control::{Reply, Request};
use crate::fleet::snapshot::Snapshot;

use super::report::{Code, Failure};

/// How long a supervisor that is alive may take for an answer that it need not work for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The broker that flags, environment and file name, opened.
pub async fn broker(args: &ClientArgs) -> Result<Arc<dyn Broker>, Failure> {
    let config = load_broker(args, |name| std::env::var_os(name)).map_err(unusable)?;
    Ok(broker::open(&config).await?)
}

/// The control socket that flags, environment and file name.
pub fn socket(args: &ClientArgs) -> Result<PathBuf, Failure> {
    load_socket(args, |name| std::env::var_os(name)).map_err(unusable)
}

fn unusable(errors: ConfigErrors) -> Failure {
    Failure::from(errors).context("cannot use the configuration")
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure::new(Code::Usage, errors.to_string())
    }
}

/// Asks the supervisor for the whole picture.
pub fn snapshot(args: &ClientArgs) -> Result<Snapshot, Failure> {
    match call(&socket(args)?, &Request::Status, Some(PATIENCE))? {
        Reply::Snapshot { snapshot } => Ok(*snapshot),
        other => Err(unexpected(other)),
    }
}

/// Asks the supervisor for its metrics as text.
pub fn metrics(args: &ClientArgs, openmetrics: bool) -> Result<String, Failure> {
    match call(&socket(args)?, &Request::Metrics { openmetrics }, Some(PATIENCE))? {
        Reply::Metrics { text } => Ok(text),
        other => Err(unexpected(other)),
    }
}

/// Asks the supervisor to do something and returns what it says about it. Without `is_quick` it may take
/// its time: a reload, a drain.
pub fn command(args: &ClientArgs, request: &Request, is_quick: bool) -> Result<String, Failure> {
    match call(&socket(args)?, request, is_quick.then_some(PATIENCE))? {
        Reply::Done { message } => Ok(message),
        other => Err(unexpected(other)),
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
        Reply::Done { .. } | Reply::Snapshot { .. } | Reply::Metrics { .. } => Failure::new(
            Code::Failed,
            "the supervisor answered something else than was asked",
        )
        .hint("does it run another version of this program?"),
    }
}
