//! `[broker]`

use std::path::PathBuf;
use std::time::Duration;

use super::dialects::Dialects;
use super::protocol::Protocol;
use crate::config::url::BrokerUrl;

/// `[broker]`
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Which broker.
    pub url: BrokerUrl,
    /// How long claims are held without renewal.
    pub lease: Duration,
    /// How often the lease is renewed while jobs are held; at most a third of `lease`.
    pub heartbeat: Duration,
    /// How long results can be read.
    pub result_ttl: Duration,
    /// How long the embedded broker keeps dead letters; `None`: until somebody retries or deletes them.
    pub dead_ttl: Option<Duration>,
    /// Largest payload of a job, in bytes.
    pub max_payload: usize,
    /// Largest result of a job, in bytes.
    pub max_result: usize,
    /// The embedded broker waits for the disk at each commit (survives power loss, slower).
    pub fsync: bool,
    /// Certificates that vouch for the broker, PEM; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// Certificate by which the broker knows us, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Which protocol is spoken with it.
    pub protocol: Protocol,
    /// `[NAME]` of each dialect: what only its protocol needs.
    pub dialects: Dialects,
}

/// In memory: the place of the embedded broker's file depends on the environment.
impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            url: BrokerUrl::Memory,
            lease: Duration::from_secs(60),
            heartbeat: Duration::from_secs(15),
            result_ttl: Duration::from_secs(3600),
            dead_ttl: None,
            max_payload: 1 << 20,
            max_result: 1 << 20,
            fsync: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            protocol: Protocol::default(),
            dialects: Dialects::default(),
        }
    }
}
