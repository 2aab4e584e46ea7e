//! Settings: flags, `POOL_*` environment, TOML file and defaults, in that order of strength,
//! become one checked [`Config`]. Nothing past this module sees an unchecked value.
//!
//! Each of these rests on those above it:
//!
//! - [`url`], [`values`]: what a broker's URL says; what the settings are, with their defaults;
//! - [`scalars`]: how a value of each type reads and prints;
//! - [`keys`]: every key, once: its name, its flag, its field, its meaning;
//! - [`problem`], [`explained`], [`findings`]: what is wrong, where a value comes from, and what rules are written with;
//! - [`dialect`]: what is asked of another program's words and settings; [`rq`], [`celery`]: those of RQ and Celery;
//! - [`entries`], [`rules`]: all values as a list; what they must be;
//! - [`load`]: reads flags, variables and the file;
//! - [`options`], [`render`], [`reload`]: what a broker is told; the settings as TOML; what a reload changes.

mod celery;
mod dialect;
mod entries;
mod explained;
mod findings;
mod keys;
mod load;
mod options;
mod problem;
mod reload;
mod render;
mod rq;
mod rules;
mod scalars;
#[cfg(test)]
mod tests;
mod url;
mod values;

pub use celery::CeleryConfig;
pub use explained::Explained;
pub use load::{
    ClientArgs, ClientConfig, Lookup, RunArgs, SettingsArgs, Wanted, broker_address, explain, load,
    load_client, misspelled_variables, own_line, spelled_out,
};
pub use problem::{ConfigErrors, Origin, Problem};
pub use reload::{Change, Effect, reload_changes};
pub use rq::{DequeueStrategy, RqConfig};
pub use rules::WORKERS_MAX;
pub use scalars::{PerProcessor, Size, parse_size};
pub use url::{BrokerUrl, RedisUrl, encoded};
pub use values::{
    AppConfig, BATCH_SIZE_MAX, BrokerConfig, Config, DialectKind, Dialects, History, Immortal, Isolation,
    LogConfig, LogFormat, MetricsConfig, PoolConfig, Protocol, RuntimeKind, ScheduleConfig, SupervisorConfig,
    TaskConfig, TaskInput, TaskOutput,
};

pub use crate::broker::rq::options::Keep;
pub use crate::job::QueueOrder;
pub use crate::policy::memory::{COST_UNKNOWN, MemoryLimit};
pub use crate::policy::prefetch::Prefetch;
pub use crate::policy::retry::Rules as RetryConfig;
pub use crate::policy::scaling::{Policy as ScalingPolicy, Settings as ScalingSettings};
