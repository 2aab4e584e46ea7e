//! `broker.protocol`: which protocol is spoken with the broker, said once. Pure.

use super::app::RuntimeKind;
use super::dialects::DialectKind;

/// `broker.protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// This program's own, of the embedded broker.
    #[default]
    Embedded,
    /// Of the program whose producers write the jobs.
    Dialect(DialectKind),
}

impl Protocol {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Protocol> {
        let dialects = DialectKind::ALL.iter().copied().map(Protocol::Dialect);
        std::iter::once(Protocol::Embedded).chain(dialects)
    }

    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Embedded => "embedded",
            Protocol::Dialect(kind) => kind.name(),
        }
    }

    /// The one that the jobs of a runtime are written in.
    pub fn of(runtime: RuntimeKind) -> Self {
        runtime.dialect().map_or(Protocol::Embedded, Protocol::Dialect)
    }
}
