//! What `[app]` must be, and the tasks that its runtime needs. Pure.

use std::time::Duration;

use crate::config::findings::{Rules, is_dotted};
use crate::config::keys::literals;
use crate::config::values::{AppConfig, BATCH_SIZE_MAX, Config, RuntimeKind, TaskConfig, TaskOutput};

impl Rules<'_> {
    pub(super) fn app(&mut self, app: &AppConfig) {
        self.positive("app.load_timeout", app.load_timeout);
        let defaults = literals(&mut AppConfig::default());
        let python: Vec<RuntimeKind> = RuntimeKind::all().filter(|kind| kind.is_python()).collect();
        for (key, known_to) in [
            ("python", &*python),
            ("preload", &python),
            ("modules", &[RuntimeKind::Python]),
            ("before_fork", &python),
            ("after_fork", &python),
            ("program", &[RuntimeKind::Native]),
        ] {
            self.only_for(&format!("app.{key}"), &defaults[key], app.runtime, known_to);
        }
        for module in &app.preload {
            self.text(
                "app.preload",
                module,
                is_dotted(module),
                "a module such as `myapp.tasks`",
            );
        }
        for module in &app.modules {
            let ok = is_dotted(module.strip_suffix(".*").unwrap_or(module));
            self.text(
                "app.modules",
                module,
                ok,
                "a module such as `myapp.tasks`, or a package and all below it: `myapp.*`",
            );
        }
        for (key, functions) in [("before_fork", &app.before_fork), ("after_fork", &app.after_fork)] {
            for function in functions {
                let ok = is_dotted(function) && function.contains('.');
                self.text(
                    &format!("app.{key}"),
                    function,
                    ok,
                    "a function such as `myapp.hooks.connect`",
                );
            }
        }
    }

    pub(super) fn task(&mut self, at: &str, task: &TaskConfig, config: &Config) {
        let runtime = config.app.runtime;
        let path = |key: &str| format!("{at}.{key}");
        let defaults = literals(&mut TaskConfig::default());
        for key in [
            "command",
            "environment",
            "directory",
            "stdin",
            "stdout",
            "output_directory",
            "max_output",
            "max_memory",
            "max_cpu_time",
        ] {
            self.only_for(&path(key), &defaults[key], runtime, &[RuntimeKind::Command]);
        }
        if runtime == RuntimeKind::Command && task.command.is_empty() && !self.bad.contains(&path("command"))
        {
            let message = format!("`{at}.command` is missing; expected a program and its arguments");
            // The table itself is where the key is missing.
            self.add(
                &format!("{at}."),
                message,
                "for example `command = [\"convert\", \"-\", \"png:-\"]`",
            );
        }
        if let Some(program) = task.command.first() {
            self.text(
                &path("command"),
                program,
                !program.is_empty(),
                "a program's name first",
            );
        }
        self.value(
            &path("timeout"),
            task.timeout != Some(Duration::ZERO),
            "more than 0s, or \"none\"",
        );
        self.timeout(&path("timeout"), task.timeout);
        self.value(
            &path("max_output"),
            task.max_output != Some(0),
            "1 byte or more, or \"none\"",
        );
        self.value(
            &path("batch_size"),
            task.batch_size
                .is_none_or(|size| (1..=BATCH_SIZE_MAX).contains(&size)),
            "1 to 4096 jobs, or \"none\"",
        );
        let is_file = task.stdout == TaskOutput::File;
        let ok = task
            .max_output
            .is_none_or(|bytes| is_file || bytes <= config.broker.max_result);
        self.pair(&path("max_output"), ok, "above", "broker.max_result", "");
        self.task_resources(at, task);
    }

    fn task_resources(&mut self, at: &str, task: &TaskConfig) {
        let path = |key: &str| format!("{at}.{key}");
        let is_file = task.stdout == TaskOutput::File;
        if is_file && task.output_directory.is_none() && !self.is_bad(&path("output_directory")) {
            let message =
                format!("`{at}.output_directory` is missing; expected a directory for the files of `stdout`");
            self.add(&path("stdout"), message, "");
        }
        if !is_file && task.output_directory.is_some() {
            let message = format!("`{at}.output_directory` is only for `stdout = \"file\"`");
            self.add(&path("output_directory"), message, "");
        }
        self.value(
            &path("max_memory"),
            task.max_memory != Some(0),
            "1 byte or more, or \"none\"",
        );
        self.value(
            &path("max_cpu_time"),
            task.max_cpu_time != Some(Duration::ZERO),
            "more than 0s, or \"none\"",
        );
        self.timeout(&path("max_cpu_time"), task.max_cpu_time);
    }

    /// An application without a single task can't be meant.
    pub(super) fn runtime_has_tasks(&mut self, config: &Config) {
        let app = &config.app;
        let (missing, hint) = match app.runtime {
            RuntimeKind::Python if app.preload.is_empty() && app.modules.is_empty() => (
                "a module in `app.preload` or `app.modules`",
                "`--preload myapp.tasks` imports the module whose functions are the tasks",
            ),
            RuntimeKind::Command if config.tasks.is_empty() => (
                "a command in `[tasks.NAME]`",
                "add `[tasks.NAME]` with `command = [\"program\", \"argument\"]` to the configuration file",
            ),
            RuntimeKind::Native | RuntimeKind::Python | RuntimeKind::Command | RuntimeKind::Dialect(_) => {
                return;
            }
        };
        if ["app.preload", "app.modules"]
            .iter()
            .any(|path| self.bad.contains(*path))
        {
            return;
        }
        let name = self.origin("app.runtime").name("app.runtime");
        let literal = self.literal("app.runtime");
        let message = format!("`{name}` is {literal}, which has no tasks; expected {missing}");
        self.add("app.runtime", message, hint);
    }
}
