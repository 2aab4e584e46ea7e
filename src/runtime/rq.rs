//! What the template needs to run RQ's jobs, from `[broker]` and `[rq]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::broker::redis::options::{Address, Sentinels, SignIn};
use crate::config::{BrokerConfig, BrokerUrl, Config, RedisUrl, RqConfig, encoded};

/// What a worker needs to run RQ's jobs; the names are those of `rq worker`'s options.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Options {
    /// Where Redis is, secrets included, as redis-py takes it: `redis://`, `rediss://`, `unix://`.
    /// With Sentinel: user, password and database of the Redis server alone count.
    url: String,
    /// More keyword arguments of the connection: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` …
    connection: BTreeMap<String, String>,
    /// The Sentinels to ask where Redis is; `None`: the URL says it.
    sentinel: Option<Sentinel>,
    /// A worker's name; `{}` stands for its ordinal.
    worker_name: String,
    /// The queues of each pool by its name.
    queues: BTreeMap<String, Vec<String>>,
    /// `pickle`, `json` or a dotted name; `None`: pickle.
    serializer: Option<String>,
    /// Dotted names of classes in place of RQ's own.
    job_class: Option<String>,
    /// See `job_class`.
    queue_class: Option<String>,
    /// What the job class's keys begin with; `None`: as RQ's do.
    job_key_prefix: Option<String>,
    /// See `job_key_prefix`.
    queue_key_prefix: Option<String>,
    /// See `job_class`; it configures, and finishes the jobs that need more than a plain one.
    worker_class: Option<String>,
    /// Dotted names of functions, in the order of `--exception-handler`.
    exception_handlers: Vec<String>,
    /// Whether failed jobs are kept out of the failed registry.
    disable_default_exception_handler: bool,
    /// Seconds to keep results of jobs that do not say; `None`: RQ's default.
    results_ttl: Option<i64>,
    /// Seconds after which a silent worker is forgotten; `None`: RQ's default.
    worker_ttl: Option<u64>,
    /// Seconds between two signs of life of a running job; `None`: RQ's default.
    job_monitoring_interval: Option<u64>,
    /// Whether log lines may hold a job's description.
    disable_job_desc_logging: bool,
    /// Directories behind the module path.
    path: Vec<String>,
    /// Module of RQ's settings; the template puts its `DICT_CONFIG` in force.
    config: Option<String>,
    /// Module or file of cron jobs, as `rq cron` takes it.
    cron: Option<String>,
    /// Tasks whose batches run again in halves when they fail as a whole.
    batch_split: Vec<String>,
}

/// Where Redis is found by Sentinel.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Sentinel {
    /// Host and port of each.
    hosts: Vec<(String, u16)>,
    /// The name that they know the primary by.
    service: String,
    /// Keyword arguments of the connections to the Sentinels themselves: `username`, `password` …
    connection: BTreeMap<String, String>,
}

/// What the template's RQ runner is told; a URL that is none of Redis leaves it without a server.
pub(super) fn options(config: &Config) -> Map<String, Value> {
    let BrokerUrl::Redis(url) = &config.broker.url else {
        return Map::new();
    };
    let rq = &config.broker.dialects.rq;
    let other = |name: &str, default: String| (*name != default).then(|| name.to_owned());
    let stock = RqConfig::default();
    let (url, sentinel) = address(url, &config.broker);
    let options = Options {
        url,
        connection: certificates(&config.broker),
        sentinel,
        worker_name: rq.worker_names().pattern(),
        queues: config
            .pools
            .iter()
            .map(|(name, pool)| {
                (
                    name.to_string(),
                    pool.queues.iter().map(ToString::to_string).collect(),
                )
            })
            .collect(),
        serializer: other(&rq.serializer, stock.serializer),
        job_class: other(&rq.job_class, stock.job_class),
        queue_class: other(&rq.queue_class, stock.queue_class),
        job_key_prefix: rq.job_key_prefix.clone(),
        queue_key_prefix: rq.queue_key_prefix.clone(),
        worker_class: other(&rq.worker_class, stock.worker_class),
        exception_handlers: rq.exception_handlers.clone(),
        disable_default_exception_handler: rq.disable_default_exception_handler,
        results_ttl: Some(rq.results_ttl.seconds()),
        worker_ttl: Some(rq.worker_ttl.as_secs()),
        job_monitoring_interval: Some(rq.job_monitoring_interval.as_secs()),
        disable_job_desc_logging: rq.disable_job_desc_logging,
        path: rq.path.clone(),
        config: rq.config.clone(),
        cron: rq.cron.clone(),
        batch_split: config
            .tasks
            .iter()
            .filter(|(_, task)| task.batch_split)
            .map(|(name, _)| name.to_string())
            .collect(),
    };
    match serde_json::to_value(options) {
        Ok(Value::Object(options)) => options,
        other => panic!("the options of RQ's runner are a JSON object: {other:?}"),
    }
}

/// The URL as redis-py takes it, and the Sentinels.
fn address(url: &RedisUrl, broker: &BrokerConfig) -> (String, Option<Sentinel>) {
    let sentinels = match url.address() {
        Address::Server(_) => return (url.secret_text_for_python().to_owned(), None),
        Address::Sentinels(sentinels) => sentinels,
    };
    let sentinel = Sentinel {
        hosts: sentinels.hosts.clone(),
        service: sentinels.master.clone(),
        connection: sentinel_connection(sentinels, broker),
    };
    let scheme = if sentinels.tls { "rediss" } else { "redis" };
    let SignIn { user, password } = &sentinels.at_server;
    let who = match (user.as_str(), password.as_str()) {
        ("", "") => String::new(),
        (user, password) => format!("{}:{}@", encoded(user), encoded(password)),
    };
    (
        format!("{scheme}://{who}localhost/{}", sentinels.database),
        Some(sentinel),
    )
}

/// Keyword arguments of redis-py's connections to the Sentinels.
fn sentinel_connection(sentinels: &Sentinels, broker: &BrokerConfig) -> BTreeMap<String, String> {
    let mut connection = BTreeMap::new();
    if sentinels.tls {
        connection = certificates(broker);
        connection.insert("ssl".to_owned(), "true".to_owned());
    }
    let SignIn { user, password } = &sentinels.sign_in;
    let sign_in = [("username", user), ("password", password)];
    let given = sign_in.into_iter().filter(|(_, value)| !value.is_empty());
    connection.extend(given.map(|(name, value)| (name.to_owned(), value.clone())));
    connection
}

fn certificates(broker: &BrokerConfig) -> BTreeMap<String, String> {
    let files: [(&str, &Option<PathBuf>); 3] = [
        ("ssl_ca_certs", &broker.tls_ca),
        ("ssl_certfile", &broker.tls_cert),
        ("ssl_keyfile", &broker.tls_key),
    ];
    let given = files
        .into_iter()
        .filter_map(|(name, file)| Some((name, file.as_ref()?)));
    given
        .map(|(name, file)| (name.to_owned(), file.to_string_lossy().into_owned()))
        .collect()
}
