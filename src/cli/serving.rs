//! Who serves the jobs that were enqueued: said on standard error where it is nobody, or somebody unexpected.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use crate::broker::Broker;
use crate::config::{BrokerUrl, ClientConfig};
use crate::control::client::{CallError, call};
use crate::control::{Reply, Request};
use crate::job::QueueName;

use super::report::note;

/// How long broker and supervisor may take for their answers; then nothing is said. Some brokers ask the workers, and give them a second.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What was enqueued.
pub struct Added<'a> {
    /// The queues of the jobs.
    pub queues: &'a BTreeSet<QueueName>,
    /// They are due later.
    pub later: bool,
    /// Their results are waited for.
    pub waits: bool,
}

/// Tells whoever enqueued jobs what they may not expect.
pub async fn tell(config: &ClientConfig, broker: &dyn Broker, added: Added<'_>) {
    let queues: Vec<QueueName> = added.queues.iter().cloned().collect();
    // Nothing depends on the answer: without one, nothing is said.
    let registered = tokio::time::timeout(PATIENCE, broker.queues().unserved(&queues)).await;
    let said = match registered {
        Ok(Ok(Some(unserved))) => named(&unserved).map(|them| format!("no worker serves {them} now")),
        Ok(Ok(None)) => ask_supervisor(config, &queues, added.waits),
        Ok(Err(_)) | Err(_) => None,
    };
    if let Some(said) = said {
        note(&format!("note: {said}"));
    }
    if added.later {
        tell_of_scheduler(broker, &queues).await;
    }
}

async fn tell_of_scheduler(broker: &dyn Broker, queues: &[QueueName]) {
    let asked = tokio::time::timeout(PATIENCE, broker.queues().without_scheduler(queues)).await;
    if let Ok(Ok(without)) = asked
        && let Some(them) = named(&without)
    {
        note(&format!(
            "note: no scheduler moves jobs that come due into {them} now; a pool with `--with-scheduler` does"
        ));
    }
}

/// What the supervisor of this host has to say, which is the only one of such a broker.
fn ask_supervisor(config: &ClientConfig, queues: &[QueueName], waits: bool) -> Option<String> {
    if matches!(config.broker.url, BrokerUrl::Memory) || config.socket.as_os_str().is_empty() {
        return None;
    }
    let is_read = std::io::stderr().is_terminal();
    match call(&config.socket, &Request::Serving, Some(PATIENCE)) {
        Ok(Reply::Serving {
            pid,
            directory,
            queues: served,
        }) => {
            unserved(queues, &served, pid).or_else(|| elsewhere(config, &directory, pid).filter(|_| is_read))
        }
        Err(CallError::Nobody { .. } | CallError::HungUp { .. }) => {
            (waits || (is_read && !config.broker_is_named)).then(|| nobody(config))
        }
        // A supervisor of another user or version, or one that is busy.
        Ok(_) | Err(_) => None,
    }
}

fn unserved(queues: &[QueueName], served: &[String], pid: i32) -> Option<String> {
    let is_served = |queue: &QueueName| served.iter().any(|name| name == queue.as_str());
    let missing: Vec<QueueName> = queues.iter().filter(|queue| !is_served(queue)).cloned().collect();
    let served = served.join(", ");
    named(&missing)
        .map(|them| format!("the supervisor (pid {pid}) does not serve {them}; it serves {served}"))
}

/// ``the queue `a` ``, ``the queues `a`, `b` ``; nothing for none.
fn named(queues: &[QueueName]) -> Option<String> {
    let names: Vec<String> = queues.iter().map(|queue| format!("`{queue}`")).collect();
    match names.as_slice() {
        [] => None,
        [only] => Some(format!("the queue {only}")),
        several => Some(format!("the queues {}", several.join(", "))),
    }
}

/// The default broker is that of whoever came first.
fn elsewhere(config: &ClientConfig, directory: &str, pid: i32) -> Option<String> {
    let here = std::env::current_dir().unwrap_or_default();
    let is_default = !config.broker_is_named && matches!(config.broker.url, BrokerUrl::Sqlite(_));
    (is_default && !here.starts_with(directory)).then(|| {
        format!(
            "this is the default broker, {}, whose supervisor (pid {pid}) runs the application in {directory}; \
             name another one with --broker sqlite:PATH",
            config.broker.url
        )
    })
}

fn nobody(config: &ClientConfig) -> String {
    let (url, socket) = (&config.broker.url, config.socket.display());
    let default = if config.broker_is_named {
        ""
    } else {
        " (the default broker)"
    };
    format!(
        "no supervisor answers on `{socket}`: what was enqueued on {url}{default} waits until one serves it"
    )
}
