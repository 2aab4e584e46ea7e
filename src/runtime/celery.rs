//! What the template needs to run Celery's tasks, from `[broker]` and `[celery]`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{RuntimeError, TemplateCommand, python};
use crate::config::{BrokerUrl, Config};

/// What `celery worker` is told; the names are those of its options. `None`: what the application says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Options {
    /// The application: `proj`, `proj.celery` or `proj:app`.
    app: String,
    config: Option<String>,
    loader: Option<String>,
    /// Secrets included, as kombu reads it.
    broker: Option<String>,
    result_backend: Option<String>,
    include: Vec<String>,
    hostname: Option<String>,
    /// Names with commas between, of all pools; `None`: a pool serves whatever the application names.
    queues: Option<String>,
    exclude_queues: Option<String>,
    concurrency: u32,
    loglevel: &'static str,
    /// Seconds.
    time_limit: Option<f64>,
    soft_time_limit: Option<f64>,
    task_events: bool,
    without_gossip: bool,
    without_mingle: bool,
    without_heartbeat: bool,
    /// Tasks whose batches run again in halves when they fail as a whole.
    batch_split: Vec<String>,
    /// Seconds.
    heartbeat_interval: Option<f64>,
    /// File of what was revoked.
    state_db: Option<String>,
}

/// What the template's Celery runner is told.
pub(super) fn options(config: &Config) -> Map<String, Value> {
    let celery = &config.broker.dialects.celery;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let joined = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
    let options = Options {
        app: celery.app.clone(),
        config: celery.config.clone(),
        loader: celery.loader.clone(),
        broker: match &config.broker.url {
            BrokerUrl::App(_) => None,
            url => url.with_secrets(),
        },
        result_backend: celery
            .result_backend
            .as_ref()
            .map(|url| url.with_secrets().to_owned()),
        include: celery.include.clone(),
        hostname: celery.hostname.clone(),
        queues: queues(config),
        exclude_queues: joined(&celery.exclude_queues),
        concurrency: config.max_workers(),
        loglevel: celery.loglevel.name(),
        time_limit: seconds(celery.time_limit),
        soft_time_limit: seconds(celery.soft_time_limit),
        batch_split: batch_split(config),
        task_events: celery.task_events,
        without_gossip: true,
        without_mingle: !celery.mingle,
        without_heartbeat: celery.heartbeat_interval.is_none(),
        heartbeat_interval: seconds(celery.heartbeat_interval),
        state_db: celery.state_db.clone(),
    };
    match serde_json::to_value(options) {
        Ok(Value::Object(options)) => options,
        other => panic!("the options of Celery's runner are a JSON object: {other:?}"),
    }
}

fn batch_split(config: &Config) -> Vec<String> {
    let split = config.tasks.iter().filter(|(_, task)| task.batch_split);
    split.map(|(name, _)| name.to_string()).collect()
}

/// The queues of all pools; `None`: one of them names none.
fn queues(config: &Config) -> Option<String> {
    if config.pools.values().any(|pool| pool.queues.is_empty()) {
        return None;
    }
    let mut seen = BTreeSet::new();
    let queues = config.pools.values().flat_map(|pool| &pool.queues);
    let names: Vec<&str> = queues
        .map(|queue| queue.as_str())
        .filter(|name| seen.insert(*name))
        .collect();
    Some(names.join(","))
}

/// Python's template, with what Celery reads when it is imported.
pub(super) fn template_command(config: &Config) -> Result<TemplateCommand, RuntimeError> {
    let mut command = python::template_command(&config.app)?;
    if config.broker.dialects.celery.skip_checks {
        let name = "CELERY_SKIP_CHECKS".to_owned();
        command
            .environment
            .entry(name)
            .or_insert_with(|| "true".to_owned());
    }
    Ok(command)
}
