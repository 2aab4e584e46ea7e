//! Who serves the jobs that were enqueued: said on standard error where it is nobody, or somebody unexpected.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use crate::config::{BrokerUrl, ClientConfig};
use crate::control::client::{CallError, call};
use crate::control::{Reply, Request};
use crate::job::QueueName;

use super::report::note;

/// How long the supervisor may take for its answer; then nothing is said.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tells whoever enqueued jobs of these queues what they may not expect. `waits`: they wait for the results.
pub fn tell(config: &ClientConfig, queues: &BTreeSet<QueueName>, waits: bool) {
    if matches!(config.broker.url, BrokerUrl::Memory) || config.socket.as_os_str().is_empty() {
        return;
    }
    let here = std::env::current_dir().unwrap_or_default();
    let is_read = std::io::stderr().is_terminal();
    let said = match call(&config.socket, &Request::Serving, Some(PATIENCE)) {
        Ok(Reply::Serving {
            pid,
            directory,
            queues: served,
        }) => {
            let unserved = unserved(config, queues, &served, pid);
            unserved.or_else(|| elsewhere(config, &here, &directory, pid).filter(|_| is_read))
        }
        Err(CallError::Nobody { .. } | CallError::HungUp { .. }) => {
            nobody(config).filter(|_| waits || (is_read && !config.broker_is_named))
        }
        // A supervisor of another user or version, or one that is busy.
        Ok(_) | Err(_) => None,
    };
    if let Some(said) = said {
        note(&format!("note: {said}"));
    }
}

fn unserved(
    config: &ClientConfig,
    queues: &BTreeSet<QueueName>,
    served: &[String],
    pid: i32,
) -> Option<String> {
    let missing = queues
        .iter()
        .filter(|queue| !served.iter().any(|name| name == queue.as_str()));
    let missing: Vec<String> = missing.map(|queue| format!("`{queue}`")).collect();
    let (queue, it) = match missing.len() {
        0 => return None,
        1 => ("the queue", "it serves"),
        _ => ("the queues", "it serves"),
    };
    let others = match config.broker.url {
        BrokerUrl::Redis(_) => "; a worker elsewhere may serve more",
        BrokerUrl::Sqlite(_) | BrokerUrl::Memory => "",
    };
    Some(format!(
        "the supervisor (pid {pid}) does not serve {queue} {}; {it} {}{others}",
        missing.join(", "),
        served.join(", "),
    ))
}

/// The default broker is that of whoever came first.
fn elsewhere(config: &ClientConfig, here: &Path, directory: &str, pid: i32) -> Option<String> {
    let is_default = !config.broker_is_named && matches!(config.broker.url, BrokerUrl::Sqlite(_));
    (is_default && !here.starts_with(directory)).then(|| {
        format!(
            "this is the default broker, {}, whose supervisor (pid {pid}) runs the application in {directory}; \
             name another one with --broker sqlite:PATH",
            config.broker.url
        )
    })
}

fn nobody(config: &ClientConfig) -> Option<String> {
    let (url, socket) = (&config.broker.url, config.socket.display());
    let others = match url {
        BrokerUrl::Redis(_) => " or a worker elsewhere serves it",
        BrokerUrl::Sqlite(_) | BrokerUrl::Memory => " serves it",
    };
    let default = if config.broker_is_named {
        ""
    } else {
        " (the default broker)"
    };
    Some(format!(
        "no supervisor answers on `{socket}`: what was enqueued on {url}{default} waits until one{others}"
    ))
}
