//! What must hold for `[rq]`.

use std::time::Duration;

use super::dialect::order_of;
use super::values::RqConfig;
use crate::broker::rq::options::Running;
use crate::config::findings::{Rules, is_dotted};
use crate::config::values::Config;

/// A supervisor that is busy for half a second is no dead one.
const RECOVER_MIN: Duration = Duration::from_secs(3);

impl Rules<'_> {
    pub(super) fn rq(&mut self, rq: &RqConfig) {
        self.text(
            "rq.key_prefix",
            &rq.key_prefix,
            is_key_prefix(&rq.key_prefix),
            "letters, digits and `_ . : - { }`",
        );
        for (path, prefix) in [
            ("rq.queue_key_prefix", &rq.queue_key_prefix),
            ("rq.job_key_prefix", &rq.job_key_prefix),
        ] {
            if let Some(prefix) = prefix {
                self.text(
                    path,
                    prefix,
                    is_key_prefix(prefix),
                    "letters, digits and `_ . : - { }`",
                );
            }
        }
        self.rq_classes(rq);
        let serializer = ["json", "pickle"].contains(&rq.serializer.as_str()) || rq.serializer.contains('.');
        self.text(
            "rq.serializer",
            &rq.serializer,
            serializer,
            "json, pickle or a dotted name",
        );
        for handler in &rq.exception_handlers {
            self.text(
                "rq.exception_handlers",
                handler,
                is_dotted(handler) && handler.contains('.'),
                "a function such as `myapp.errors.report`",
            );
        }
        if let Some(module) = &rq.config {
            self.text(
                "rq.config",
                module,
                is_dotted(module),
                "a module such as `myapp.settings`",
            );
        }
        self.positive("rq.worker_ttl", rq.worker_ttl);
        self.positive("rq.job_monitoring_interval", rq.job_monitoring_interval);
        self.positive("rq.maintenance_interval", rq.maintenance_interval);
        let can_renew = rq.recover.is_none_or(|within| within >= RECOVER_MIN);
        self.value("rq.recover", can_renew, "3s or more, or \"none\"");
        if rq.recover.is_none() && rq.recover_running == Running::Requeue {
            let running = self.origin("rq.recover_running").name("rq.recover_running");
            self.add(
                "rq.recover_running",
                format!(
                    "`{running}` is \"requeue\", and without `rq.recover` nobody takes over from a killed supervisor"
                ),
                "set `rq.recover` too, such as \"15s\"",
            );
        }
    }

    /// One setting with two names: what was said by both must be the same.
    pub(super) fn rq_order(&mut self, rq: &RqConfig, config: &Config) {
        let strategy = match rq.strategy_of_class() {
            Some(_) if !self.is_set("rq.dequeue_strategy") => "rq.worker_class",
            _ => "rq.dequeue_strategy",
        };
        for (name, pool) in &config.pools {
            let order = order_of(name);
            if self.is_set(&order) && self.is_set(strategy) {
                let same = pool.order == rq.dequeue_strategy.order();
                let hint =
                    "they are two names for one thing: leave out the strategy, which is RQ's word for it";
                self.pair(&order, same, "another way of choosing than", strategy, hint);
            }
        }
    }

    fn rq_classes(&mut self, rq: &RqConfig) {
        let classes = [
            ("rq.job_class", &rq.job_class),
            ("rq.queue_class", &rq.queue_class),
            ("rq.worker_class", &rq.worker_class),
        ];
        for (path, class) in classes {
            self.text(
                path,
                class,
                is_dotted(class) && class.contains('.'),
                "a class such as `myapp.rq.Job`",
            );
        }
        if rq
            .strategy_of_class()
            .is_some_and(|strategy| strategy != rq.dequeue_strategy)
        {
            let message = format!(
                "`{}` is another way of choosing than `{}`, which the class {} stands for",
                self.origin("rq.dequeue_strategy").name("rq.dequeue_strategy"),
                self.origin("rq.worker_class").name("rq.worker_class"),
                rq.worker_class
            );
            self.add(
                "rq.dequeue_strategy",
                message,
                "leave the worker class out: RQ has deprecated it",
            );
        }
    }
}

/// A key that can't be anything but letters, digits and `_ . : - { }`: it becomes part of key names and patterns.
/// Source: `rq/defaults.py`.
fn is_key_prefix(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_.:{}-".contains(c);
    !text.is_empty() && text.chars().all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_safe_in_keys() {
        assert!(is_key_prefix("rq") && is_key_prefix("{app}:rq-2"));
        assert!(!is_key_prefix("") && !is_key_prefix("a b") && !is_key_prefix("a'"));
    }
}
