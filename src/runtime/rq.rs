//! What the template needs to run RQ's jobs, from `[broker]` and `[rq]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{BrokerConfig, BrokerUrl, Config, RedisUrl, RqConfig, RuntimeKind, Sentinels, encoded};
use crate::wire::message::{RqLoad, RqSentinel};

/// `None` under every other runtime.
pub(super) fn load(config: &Config) -> Option<RqLoad> {
    let (BrokerUrl::Redis(url), RuntimeKind::Rq) = (&config.broker.url, config.app.runtime) else {
        return None;
    };
    let rq = &config.broker.rq;
    let other = |name: &str, default: String| (*name != default).then(|| name.to_owned());
    let stock = RqConfig::default();
    let (url, sentinel) = address(url, &config.broker);
    Some(RqLoad {
        url,
        connection: certificates(&config.broker),
        sentinel,
        worker_name: rq.name_pattern(),
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
        worker_class: other(&rq.worker_class, stock.worker_class),
        exception_handlers: rq.exception_handlers.clone(),
        disable_default_exception_handler: rq.disable_default_exception_handler,
        results_ttl: Some(rq.results_ttl.seconds()),
        worker_ttl: Some(rq.worker_ttl.as_secs()),
        job_monitoring_interval: Some(rq.job_monitoring_interval.as_secs()),
        disable_job_desc_logging: rq.disable_job_desc_logging,
        path: rq.path.clone(),
        config: rq.config.clone(),
        batch_split: config
            .tasks
            .iter()
            .filter(|(_, task)| task.batch_split)
            .map(|(name, _)| name.to_string())
            .collect(),
    })
}

/// The URL as redis-py takes it, and the Sentinels.
fn address(url: &RedisUrl, broker: &BrokerConfig) -> (String, Option<RqSentinel>) {
    let text = url.secret_text();
    let Some(Ok(sentinels)) = url.sentinels() else {
        // redis-py has one name for a socket's path.
        return (text.replacen("redis+unix:", "unix:", 1), None);
    };
    let hosts = sentinels.addresses.iter().filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    });
    let sentinel = RqSentinel {
        hosts: hosts.collect(),
        service: sentinels.master.clone(),
        connection: sentinel_connection(&sentinels, broker),
    };
    let scheme = if sentinels.tls { "rediss" } else { "redis" };
    let who = match (sentinels.user.as_str(), sentinels.password.as_str()) {
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
    let sign_in = [
        ("username", &sentinels.sentinel_user),
        ("password", &sentinels.sentinel_password),
    ];
    for (name, value) in sign_in {
        connection.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
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
