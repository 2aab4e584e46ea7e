//! `[broker] protocol`: which protocol is spoken with the broker, said once. Pure.

use super::dialect::{DialectKind, Dialects};
use super::rules::Rules;
use super::setting::{Atom, Base, Expected, Scalar, quoted};
use super::{BrokerUrl, Config, RuntimeKind};

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

    /// The only one that can be spoken at this place, for a producer to whom nobody named a runtime or protocol.
    pub(super) fn only_one_at(url: &BrokerUrl) -> Option<Self> {
        let mut spoken = Protocol::all().filter(|protocol| protocol.is_spoken_at(url));
        let first = spoken.next()?;
        spoken.next().is_none().then_some(first)
    }

    fn is_spoken_at(self, url: &BrokerUrl) -> bool {
        match self {
            Protocol::Embedded => matches!(url, BrokerUrl::Sqlite(_) | BrokerUrl::Memory),
            Protocol::Dialect(kind) => Dialects::default().of(kind).is_spoken_at(url),
        }
    }
}

impl Scalar for Protocol {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let named = |name| Protocol::all().find(|protocol| protocol.name() == name);
        atom.text().and_then(named).ok_or_else(|| {
            let names: Vec<String> = Protocol::all().map(|protocol| quoted(protocol.name())).collect();
            names.join(" or ").into()
        })
    }
    fn print(&self) -> String {
        quoted(self.name())
    }
}

impl Rules<'_> {
    /// The protocol is spoken at the broker's place, and the runtime runs its jobs.
    pub(super) fn protocol(&mut self, config: &Config) {
        if ["broker.url", "broker.protocol", "app.runtime"]
            .iter()
            .any(|path| self.is_bad(path))
        {
            return;
        }
        let (protocol, url, runtime) = (config.broker.protocol, &config.broker.url, config.app.runtime);
        if !protocol.is_spoken_at(url) {
            self.protocol_is_elsewhere(protocol, runtime, url);
        } else if protocol != Protocol::of(runtime) && self.is_set("broker.protocol") {
            let name = self.origin("broker.protocol").name("broker.protocol").to_owned();
            let message = format!(
                "`{name}` is \"{}\", whose jobs the {} runtime can't run",
                protocol.name(),
                runtime.name()
            );
            let hint = match protocol {
                Protocol::Embedded => "leave the protocol out: it follows the runtime".to_owned(),
                Protocol::Dialect(kind) => format!("add `--runtime {}`", kind.name()),
            };
            self.of_no_matter_to_producers("broker.protocol", message, hint);
        } else if protocol != Protocol::of(runtime) {
            self.another_runtime_is_needed(url, runtime);
        }
    }

    fn another_runtime_is_needed(&mut self, url: &BrokerUrl, runtime: RuntimeKind) {
        let dialects = Dialects::default();
        let (titles, names): (Vec<&str>, Vec<&str>) = dialects
            .each()
            .filter(|dialect| dialect.is_spoken_at(url))
            .map(|dialect| (dialect.title(), dialect.kind().name()))
            .unzip();
        let name = self.origin("broker.url").name("broker.url").to_owned();
        let message = format!(
            "`{name}` holds jobs of {}, which the {} runtime can't run",
            titles.join(" or "),
            runtime.name()
        );
        let hint = format!("add `--runtime {}`", names.join("` or `--runtime "));
        self.of_no_matter_to_producers("broker.url", message, hint);
    }

    fn protocol_is_elsewhere(&mut self, protocol: Protocol, runtime: RuntimeKind, url: &BrokerUrl) {
        let (place, example) = match protocol {
            Protocol::Embedded => ("a file", "sqlite:PATH"),
            Protocol::Dialect(kind) => Dialects::default().of(kind).place(),
        };
        let hint = format!("name the place with `--broker {example}`");
        if self.is_set("broker.protocol") {
            let name = self.origin("broker.protocol").name("broker.protocol").to_owned();
            let message = format!(
                "`{name}` is \"{}\", whose jobs are in {place}; the broker is {url}",
                protocol.name()
            );
            self.add("broker.protocol", message, &hint);
        } else if runtime.dialect().is_some() {
            let name = self.origin("app.runtime").name("app.runtime").to_owned();
            let message = format!("`{name}` is \"{}\", whose jobs are in {place}", runtime.name());
            self.of_no_matter_to_producers("app.runtime", message, hint);
        } else {
            self.another_runtime_is_needed(url, runtime);
        }
    }

    /// A producer knows a broker alone.
    fn of_no_matter_to_producers(&mut self, path: &str, message: String, hint: String) {
        let origin = self.origin(path).clone();
        self.problems.push(super::Problem {
            key: "app.runtime".to_owned(),
            message,
            origin,
            hint: Some(hint),
        });
    }
}
