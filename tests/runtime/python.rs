//! The Python template behind our own start and frames. What it does in detail is held by `tests/python`, which
//! plays the supervisor from Python, for each interpreter that is there.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use pool::config::AppConfig;
use pool::runtime::python;
use pool::sys::socket::{Sent, Wait, send};
use pool::sys::spawn::spawn_template;
use pool::wire::frame::Code;
use pool::wire::message::{FromTemplate, Load, ToTemplate};

use crate::harness::{Job, Template, hear, line, load, text, wait_for_end};

crate::trials![
    a_function_runs_with_its_arguments,
    long_payloads_and_results_travel,
    failures_timeouts_and_retries_are_told,
    a_worker_leaves_when_retired,
    a_worker_outlives_its_template,
    an_app_that_does_not_import_says_why,
    an_interpreter_that_is_too_old_says_so,
];

/// Whether there is a Python to run them.
pub fn is_there() -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]);
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

const APP: &str = "
import pool_job, time
def add(a, b): print('adding'); return a + b
def about(): return list(pool_job.current_job()[:4])
def echo(text): return text
def fail(): raise ValueError('no')
def again(): raise pool_job.Retry(after=1.5, reason='later')
def sleep(): time.sleep(1000)
";

struct App {
    directory: tempfile::TempDir,
}

impl App {
    fn new(source: &str) -> App {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("app.py"), source).unwrap();
        App { directory }
    }

    fn config(&self) -> AppConfig {
        AppConfig {
            python: "python3".into(),
            directory: self.directory.path().to_owned(),
            preload: vec!["app".into()],
            ..AppConfig::default()
        }
    }

    fn load(&self) -> Load {
        Load {
            preload: vec!["app".into()],
            ..load()
        }
    }

    fn start(&self) -> Template {
        Template::start(&python::template_command(&self.config()).unwrap(), self.load())
    }

    /// Why it does not load.
    fn refusal(&self, config: &AppConfig) -> (String, String) {
        let spawned = spawn_template(&python::template_command(config).unwrap()).unwrap();
        let packet = serde_json::to_vec(&ToTemplate::Load(Box::new(self.load()))).unwrap();
        assert_eq!(send(&spawned.control, &packet, Wait::Block).unwrap(), Sent::Whole);
        match hear(&spawned.control) {
            Some(FromTemplate::Failed { error, detail }) => (error, detail),
            other => panic!("{other:?}; {}", text(&spawned.stderr)),
        }
    }
}

fn a_function_runs_with_its_arguments() {
    let app = App::new(APP);
    let mut template = app.start();
    assert!(template.report.runtime.starts_with("python 3."));
    assert!(template.report.warnings.is_empty(), "{:?}", template.report);
    let mut worker = template.fork();
    let done = worker.run("app.add", r#"{"a": 1, "b": 2}"#);
    assert_eq!((done.code, &*done.data), (Code::Success, "3"));
    assert!(done.started <= done.ended);
    assert_eq!(line(&worker.stdout), "adding");
    assert_eq!(
        worker.run("app.about", "").data,
        r#"["job-1","mail","app.about",1]"#
    );
}

fn long_payloads_and_results_travel() {
    let app = App::new(APP);
    let mut worker = app.start().fork();
    let text = format!("\"{}\"", "0123456789abcdef".repeat(65_536));
    let done = worker.run("app.echo", &text);
    assert_eq!(done.code, Code::Success);
    assert!(done.data == text);
}

fn failures_timeouts_and_retries_are_told() {
    let app = App::new(APP);
    let mut worker = app.start().fork();
    let done = worker.run("app.fail", "");
    assert_eq!(done.code, Code::Failure);
    assert!(
        done.data
            .starts_with(r#"{"kind": "ValueError", "message": "no", "detail": "Traceback"#)
    );
    assert_eq!(worker.run("app.add", "[1]").code, Code::Rejected);
    let done = worker.run("app.again", "");
    assert_eq!(
        (done.code, done.after_ms, &*done.data),
        (Code::Retry, Some(1500), "later")
    );
    let done = worker.run_job(&Job {
        task: "app.sleep",
        payload: b"",
        timeout_ms: 50,
    });
    assert_eq!(done.code, Code::TimedOut);
}

fn a_worker_leaves_when_retired() {
    let app = App::new(APP);
    let mut template = app.start();
    let worker = template.fork();
    worker.retire();
    assert_eq!(template.hear_exit(), (worker.number, "exit status 0".into()));
    let worker = template.fork();
    worker.signal(Signal::SIGKILL);
    assert!(template.hear_exit().1.contains("signal 9"));
}

fn a_worker_outlives_its_template() {
    let app = App::new(APP);
    let mut template = app.start();
    let mut worker = template.fork();
    template.kill();
    assert_eq!(worker.run("app.add", "[1, 2]").data, "3");
    drop(worker.lifeline);
    wait_for_end(worker.pidfd.as_ref().unwrap());
}

fn an_app_that_does_not_import_says_why() {
    let app = App::new("import no_such_module");
    let (error, detail) = app.refusal(&app.config());
    assert!(
        error.starts_with("cannot import `app`: ModuleNotFoundError: No module named 'no_such_module'"),
        "{error}"
    );
    assert!(detail.contains("line 1, in <module>"), "{detail}");
}

fn an_interpreter_that_is_too_old_says_so() {
    let app = App::new("");
    let pretend = "import sys\nsys.version_info = (3, 8, 1, 'final', 0)\n";
    std::fs::write(app.directory.path().join("sitecustomize.py"), pretend).unwrap();
    let mut config = app.config();
    let path = app.directory.path().to_string_lossy().into_owned();
    config.environment.insert("PYTHONPATH".into(), path);
    let (error, _) = app.refusal(&config);
    assert!(
        error.ends_with("is Python 3.8; 3.9 or newer is needed"),
        "{error}"
    );
}
