//! What must hold for `[rq]`, and for a broker and a runtime that fit each other.

use super::{RqConfig, is_key_prefix};
use crate::config::problem::Problem;
use crate::config::rules::{Rules, is_dotted};
use crate::config::{BrokerUrl, Config, RuntimeKind, flat};

impl Rules<'_> {
    pub(in crate::config) fn rq(&mut self, config: &Config) {
        let (rq, runtime) = (&config.broker.rq, config.app.runtime);
        let redis = matches!(config.broker.url, BrokerUrl::Redis(_));
        self.broker_fits_runtime(redis, runtime);
        // With RQ's jobs and another runtime, that alone is the problem.
        let known_to = if redis { RuntimeKind::Rq } else { runtime };
        let defaults = flat::literals(&mut RqConfig::default());
        for (key, default) in &defaults {
            self.only_for(&format!("rq.{key}"), default, known_to, RuntimeKind::Rq);
        }
        self.text(
            "rq.key_prefix",
            &rq.key_prefix,
            is_key_prefix(&rq.key_prefix),
            "letters, digits and `_ . : - { }`",
        );
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
    }

    /// RQ's jobs are in Redis, and the rq runtime runs no others.
    fn broker_fits_runtime(&mut self, redis: bool, runtime: RuntimeKind) {
        if redis != (runtime == RuntimeKind::Rq)
            && !self.bad.contains("broker.url")
            && !self.bad.contains("app.runtime")
        {
            let (path, needs, hint) = if redis {
                (
                    "broker.url",
                    "holds RQ jobs, which only the rq runtime can run",
                    "add `--runtime rq`",
                )
            } else {
                (
                    "app.runtime",
                    "is \"rq\", whose jobs are in Redis",
                    "name the server with `--broker redis://HOST`",
                )
            };
            let origin = self.origin(path).clone();
            self.problems.push(Problem {
                // Of no matter to a producer, who knows a broker alone.
                key: "app.runtime".to_owned(),
                message: format!("`{}` {needs}", origin.name(path)),
                origin,
                hint: Some(hint.to_owned()),
            });
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
