//! What must hold for `[celery]`.

use super::values::CeleryConfig;
use crate::config::findings::{Rules, is_dotted};
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::values::{Config, DialectKind, Protocol, RuntimeKind};

impl Rules<'_> {
    pub(super) fn celery(&mut self, celery: &CeleryConfig, config: &Config) {
        if config.app.runtime == RuntimeKind::Dialect(DialectKind::Celery) {
            self.celery_app(celery);
        }
        let is_spoken = config.broker.protocol == Protocol::Dialect(DialectKind::Celery);
        if let Some(name) = config.schedules.keys().next().filter(|_| is_spoken) {
            let path = format!("schedules.{}.", bare_or_quoted(name));
            let message =
                "`[schedules]` is not for Celery's tasks, which have a scheduler of their own".to_owned();
            self.add(
                &path,
                message,
                "leave them in `beat_schedule`, and run `celery -A APP beat` beside the pool",
            );
        }
        for module in &celery.include {
            let ok = is_dotted(module);
            self.text("celery.include", module, ok, "a module such as `proj.tasks`");
        }
        for (path, limit) in [
            ("celery.time_limit", celery.time_limit),
            ("celery.soft_time_limit", celery.soft_time_limit),
            ("celery.heartbeat_interval", celery.heartbeat_interval),
        ] {
            self.timeout(path, limit);
            self.value(
                path,
                limit.is_none_or(|limit| !limit.is_zero()),
                "more than 0s, or \"none\"",
            );
        }
    }

    fn celery_app(&mut self, celery: &CeleryConfig) {
        let (module, attribute) = celery.app.split_once(':').unwrap_or((&celery.app, "app"));
        let ok = is_dotted(module) && is_dotted(attribute);
        if celery.app.is_empty() && !self.is_bad("celery.app") {
            let message = "`celery.app` is missing; expected the Celery application".to_owned();
            self.add(
                "celery.app",
                message,
                "name it as for `celery`: `-A proj`, or `--app proj`",
            );
        } else {
            let expected = "an application such as `proj`, `proj.celery` or `proj:app`";
            self.text("celery.app", &celery.app, ok, expected);
        }
    }
}
