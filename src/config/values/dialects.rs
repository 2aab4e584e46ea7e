//! The list of dialects, and the settings of each. Pure.

use crate::config::celery::CeleryConfig;
use crate::config::rq::RqConfig;

/// The dialects, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialectKind {
    /// Jobs of RQ, in Redis.
    Rq,
    /// Tasks of Celery, in Redis.
    Celery,
}

impl DialectKind {
    /// All of them.
    pub const ALL: &[DialectKind] = &[DialectKind::Rq, DialectKind::Celery];

    /// Its name: of its runtime, its protocol and its table.
    pub fn name(self) -> &'static str {
        match self {
            DialectKind::Rq => "rq",
            DialectKind::Celery => "celery",
        }
    }

    /// The dialect of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// The settings of each dialect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dialects {
    /// Jobs of RQ, in Redis.
    pub rq: RqConfig,
    /// Tasks of Celery, in Redis.
    pub celery: CeleryConfig,
}
