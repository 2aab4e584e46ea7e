//! What a broker is told, from the settings. Pure.

use super::url::BrokerUrl;
use super::values::{BrokerConfig, Protocol};
use crate::broker::{self, BrokerError, memory, sqlite};

impl BrokerConfig {
    /// What the broker is opened with.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] if the protocol is not spoken at the broker's place.
    pub fn options(&self) -> Result<broker::Options, BrokerError> {
        match self.protocol {
            Protocol::Dialect(kind) if self.app_names_broker() => Err(BrokerError::Refused(format!(
                "{} is known to the loaded application of {} alone",
                self.url,
                self.dialects.of(kind).title(),
            ))),
            _ => self.options_by_app(""),
        }
    }

    /// Its place and queues are known once the application is loaded.
    pub fn app_names_broker(&self) -> bool {
        match self.protocol {
            Protocol::Embedded => false,
            Protocol::Dialect(kind) => self.dialects.of(kind).app_names_broker(),
        }
    }

    /// Which application knows them is not said: what to say of it, and what to do.
    pub fn misses_app(&self) -> Option<(String, &'static str)> {
        match self.protocol {
            Protocol::Embedded => None,
            Protocol::Dialect(kind) => {
                let dialect = self.dialects.of(kind);
                let why = format!("it is not said which application of {} uses it", dialect.title());
                dialect.misses_app().map(|hint| (why, hint))
            }
        }
    }

    /// What waits in the queues is deleted when a supervisor starts.
    pub fn purges_at_start(&self) -> bool {
        match self.protocol {
            Protocol::Embedded => false,
            Protocol::Dialect(kind) => self.dialects.of(kind).purges_at_start(),
        }
    }

    /// What the broker is opened with, once the application is loaded and says this about it.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] if the protocol is not spoken at the broker's place.
    pub fn options_by_app(&self, facts: &str) -> Result<broker::Options, BrokerError> {
        let found = match (self.protocol, &self.url) {
            (Protocol::Embedded, BrokerUrl::Memory) => Some(broker::Options::Memory(self.memory())),
            (Protocol::Embedded, BrokerUrl::Sqlite(path)) => Some(broker::Options::Sqlite(sqlite::Options {
                path: path.clone(),
                lease: self.lease,
                heartbeat: self.heartbeat,
                result_ttl: self.result_ttl,
                dead_ttl: self.dead_ttl,
                payload_len_max: self.max_payload,
                fsync: self.fsync,
            })),
            (Protocol::Embedded, BrokerUrl::Redis(_) | BrokerUrl::Kombu(_) | BrokerUrl::App(_)) => None,
            (Protocol::Dialect(kind), _) => self.dialects.of(kind).broker_options(self, facts),
        };
        found.ok_or_else(|| {
            let (url, protocol) = (&self.url, self.protocol.name());
            let names: Vec<&str> = Protocol::all().map(Protocol::name).collect();
            BrokerError::Refused(format!(
                "{url} does not speak the protocol `{protocol}`, which the settings name; `POOL_PROTOCOL` names another one ({}), and \
                 `--config` other settings",
                names.join(", ")
            ))
        })
    }

    /// What a broker in memory is told.
    pub fn memory(&self) -> memory::Options {
        memory::Options {
            lease: self.lease,
            heartbeat: self.heartbeat,
            result_ttl: self.result_ttl,
            dead_ttl: self.dead_ttl,
            payload_len_max: self.max_payload,
        }
    }
}
