//! The keys of `[celery]`, and how those values read that it alone has.

use super::values::{CeleryConfig, Level, SecretUrl};
use crate::config::keys::{Key, Section, Visit, key};
use crate::config::scalars::setting::{Atom, Base, Expected, Scalar, quoted};
use crate::config::url::without_secrets;

impl Section for CeleryConfig {
    fn each_key(&mut self, visit: Visit<'_>) {
        visit(
            key!("app", "app" "APP", "The Celery application: proj, proj.celery or proj:app; also CELERY_APP"),
            &mut self.app,
        );
        visit(
            key!("config", "celery-config" "MODULE", "Module with the settings of the Celery application"),
            &mut self.config,
        );
        visit(
            key!("loader", "celery-loader" "CLASS", "Loader of the Celery application, by dotted name"),
            &mut self.loader,
        );
        visit(
            key!("result_backend", "result-backend" "URL", "Where results go, in place of the application's setting"),
            &mut self.result_backend,
        );
        visit(
            key!("include", "include" "MODULE", "Module with tasks to import besides those of the application; repeatable"),
            &mut self.include,
        );
        visit(
            key!("hostname", "hostname" "NAME", "Name of the node: w1@%h; %h, %n and %d are the host, its first part and its domain"),
            &mut self.hostname,
        );
        visit(
            key!("exclude_queues", "exclude-queue" "NAME", "Queue of the application not to serve; repeatable"),
            &mut self.exclude_queues,
        );
        visit(
            key!("purge", "purge" "BOOL", "Delete all tasks that wait in the queues of the pools, at each start"),
            &mut self.purge,
        );
        visit(
            key!("loglevel", "loglevel" "LEVEL", "Level of the application's own log: DEBUG, INFO, WARNING, ERROR or CRITICAL"),
            &mut self.loglevel,
        );
        visit(
            key!("time_limit", "time-limit" "TIME", "Longest run of a task that does not say; none: the application's task_time_limit"),
            &mut self.time_limit,
        );
        visit(
            key!("soft_time_limit", "soft-time-limit" "TIME", "Time after which such a task gets SoftTimeLimitExceeded"),
            &mut self.soft_time_limit,
        );
        visit(
            key!("task_events", "task-events" "BOOL", "Send events of tasks from the start on, for Flower and other monitors"),
            &mut self.task_events,
        );
        visit(
            key!("heartbeat_interval", "heartbeat-interval" "TIME", "Time between events that say that the node is there; none: send none"),
            &mut self.heartbeat_interval,
        );
        visit(
            key!("mingle", "mingle" "BOOL", "Ask other nodes at the start which tasks were revoked"),
            &mut self.mingle,
        );
        visit(
            key!("state_db", "statedb" "FILE", "File in which revoked tasks are remembered from one start to the next; `.pool` is added"),
            &mut self.state_db,
        );
        visit(
            key!("skip_checks", "skip-checks" "BOOL", "Skip Django's checks when the application is loaded"),
            &mut self.skip_checks,
        );
    }
}

impl Scalar for SecretUrl {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        const WHAT: &str = "a URL such as `redis://HOST:6379/1`";
        match atom.text_for_programs(WHAT)? {
            "" => Err(WHAT.into()),
            text => Ok(SecretUrl::new(text)),
        }
    }
    fn print(&self) -> String {
        quoted(&self.to_string())
    }
    fn shown(text: &str) -> String {
        without_secrets(text)
    }
}

/// As in Celery, in letters of either size; `FATAL` is another name for `CRITICAL`. Source: `celery/bin/base.py`.
impl Scalar for Level {
    fn read(atom: Atom<'_>, _: &Base) -> Result<Self, Expected> {
        let name = atom.text().map(str::to_ascii_uppercase);
        Ok(match name.as_deref() {
            Some("DEBUG") => Level::Debug,
            Some("INFO") => Level::Info,
            Some("WARNING") => Level::Warning,
            Some("ERROR") => Level::Error,
            Some("CRITICAL" | "FATAL") => Level::Critical,
            _ => return Err("DEBUG, INFO, WARNING, ERROR or CRITICAL".into()),
        })
    }
    fn print(&self) -> String {
        quoted(self.name())
    }
}
