//! What the broker of RQ's jobs is told, from the settings. Pure.

use super::RqConfig;
use crate::broker::redis::options as redis;
use crate::broker::rq::options::{Options, Recover};
use crate::config::url::BrokerUrl;
use crate::config::values::BrokerConfig;

/// `None`: the jobs are at a place that is no Redis.
pub(super) fn options(rq: &RqConfig, broker: &BrokerConfig) -> Option<Options> {
    let BrokerUrl::Redis(url) = &broker.url else {
        return None;
    };
    Some(Options {
        redis: redis::Options {
            address: url.address().clone(),
            others: Vec::new(),
            shown: broker.url.to_string(),
            certificates: redis::Certificates {
                ca: broker.tls_ca.clone(),
                own: broker.tls_cert.clone(),
                key: broker.tls_key.clone(),
                unchecked: false,
            },
        },
        payload_len_max: broker.max_payload,
        heartbeat: broker.heartbeat,
        key_prefix: rq.key_prefix.clone(),
        queue_key_prefix: rq.queue_key_prefix.clone(),
        job_key_prefix: rq.job_key_prefix.clone(),
        serializer: rq.serializer.clone(),
        names: rq.worker_names(),
        with_scheduler: rq.with_scheduler,
        results_ttl: rq.results_ttl,
        worker_ttl: rq.worker_ttl,
        job_monitoring_interval: rq.job_monitoring_interval,
        maintenance_interval: rq.maintenance_interval,
        recover: rq.recover.map(|within| Recover {
            within,
            running: rq.recover_running,
        }),
    })
}
