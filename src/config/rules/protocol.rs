//! The protocol, the broker's place and the runtime fit together. Pure.

use crate::config::dialect;
use crate::config::findings::Rules;
use crate::config::problem::Problem;
use crate::config::url::BrokerUrl;
use crate::config::values::{Config, Dialects, Protocol, RuntimeKind};

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
        if !dialect::is_spoken_at(protocol, url) {
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
        self.problems.push(Problem {
            key: "app.runtime".to_owned(),
            message,
            origin,
            hint: Some(hint),
        });
    }
}
