//! Native tasks: what each ending of a task, a worker and a template means to a supervisor.

use std::os::fd::AsRawFd;

use nix::sys::signal::Signal;

use pool::job::Progress;
use pool::sys::socket::{Received, Sent, Wait, recv, send};
use pool::sys::spawn::spawn_template;
use pool::wire::frame::{Code, PACKET_LEN_MAX};
use pool::wire::message::{FromTemplate, ToTemplate};

use crate::harness::{Heard, Job, Template, command, hear, line, load, text, wait_for_end};

crate::trials![
    a_task_runs_with_its_arguments_and_context,
    the_state_is_loaded_once_by_the_template,
    a_failure_tells_what_happened,
    arguments_that_do_not_fit_are_rejected,
    an_unknown_task_is_rejected,
    a_panic_fails_the_job_and_not_the_worker,
    a_task_may_ask_to_be_run_again,
    a_task_that_looks_at_the_clock_ends_at_its_timeout,
    a_task_says_how_far_it_is,
    a_result_above_the_limit_is_a_failure,
    a_megabyte_travels_both_ways,
    jobs_that_wait_begin_when_the_one_before_ended,
    jobs_not_begun_can_be_taken_back,
    a_ping_is_answered_between_two_jobs,
    a_worker_that_aborts_is_reported_and_the_next_one_works,
    a_worker_leaves_at_end_of_file,
    a_worker_leaves_after_garbage,
    a_worker_that_is_asked_to_end_finishes_its_job,
    a_worker_outlives_its_template,
    what_a_job_prints_comes_out_of_its_worker,
    titles_say_role_pool_and_state,
    a_hook_that_fails_ends_the_worker,
    an_app_that_does_not_load_says_why,
    threads_left_by_the_load_are_refused,
    sockets_left_by_the_load_are_warned_of,
    a_template_leaves_when_told_and_its_workers_stay,
    a_template_leaves_on_sigterm_and_passes_over_sigint,
    a_fork_without_descriptors_is_refused,
    the_heap_is_collapsed_or_the_reason_told,
    the_built_in_tasks_answer,
    the_example_answers,
];

fn a_task_runs_with_its_arguments_and_context() {
    let mut worker = Template::native("tasks").fork();
    let done = worker.run("square", r#"{"number": -12}"#);
    assert_eq!((done.code, &*done.data), (Code::Success, "144"));
    assert!(done.started <= done.ended);
    assert_eq!(worker.run("about", "null").data, r#"["job-1","mail",1]"#);
}

fn the_state_is_loaded_once_by_the_template() {
    let mut template = Template::native("tasks");
    let loaded_by = template.spawned.pid.to_string();
    let mut workers = [template.fork(), template.fork()];
    for worker in &mut workers {
        assert_eq!(worker.run("loaded_by", "").data, loaded_by);
    }
}

fn a_failure_tells_what_happened() {
    let done = Template::native("tasks").fork().run("fail", "");
    let told = r#"{"kind":"std::io::error::Error","message":"disk on fire"}"#;
    assert_eq!((done.code, &*done.data), (Code::Failure, told));
}

fn arguments_that_do_not_fit_are_rejected() {
    let done = Template::native("tasks")
        .fork()
        .run("square", r#"{"number": "x"}"#);
    let told = r#"{"kind":"wrong arguments","message":"`number`: invalid type: string \"x\", expected i64 at line 1 column 14"}"#;
    assert_eq!((done.code, &*done.data), (Code::Rejected, told));
}

fn an_unknown_task_is_rejected() {
    let done = Template::native("tasks").fork().run("sqare", "{}");
    let told = r#"{"kind":"unknown task","message":"no task is named `sqare`; did you mean `square`?"}"#;
    assert_eq!((done.code, &*done.data), (Code::Rejected, told));
}

fn a_panic_fails_the_job_and_not_the_worker() {
    let mut worker = Template::native("tasks").fork();
    let done = worker.run("panic", "");
    assert_eq!(done.code, Code::Failure);
    let told = r#"{"kind":"panic","message":"out of luck","detail":"at tests/runtime/apps.rs:"#;
    assert!(done.data.starts_with(told), "{}", done.data);
    assert_eq!(worker.run("square", r#"{"number": 2}"#).data, "4");
}

fn a_task_may_ask_to_be_run_again() {
    let done = Template::native("tasks").fork().run("retry", "");
    assert_eq!(
        (done.code, done.after_ms, &*done.data),
        (Code::Retry, Some(1500), "not yet")
    );
}

fn a_task_that_looks_at_the_clock_ends_at_its_timeout() {
    let done = Template::native("tasks").fork().run_job(&Job {
        task: "spin",
        payload: b"",
        timeout_ms: 30,
    });
    let told = r#"{"kind":"timeout","message":"ran longer than its timeout of 30ms"}"#;
    assert_eq!((done.code, &*done.data), (Code::TimedOut, told));
}

fn a_task_says_how_far_it_is() {
    let mut worker = Template::native("tasks").fork();
    worker.send(
        5,
        &Job {
            task: "steps",
            payload: b"null",
            timeout_ms: 0,
        },
    );
    let told = [worker.hear(), worker.hear(), worker.hear()].map(|heard| match heard {
        Some(Heard::Progress(5, json)) => Progress::read(json.as_bytes()).unwrap().to_string(),
        other => panic!("no progress: {other:?}"),
    });
    let half = format!("50 % {}", "ä".repeat(100));
    assert_eq!(told, ["counting", &half, "100 %"]);
    assert_eq!(worker.done().code, Code::Success);
}

fn a_result_above_the_limit_is_a_failure() {
    let done = Template::native("tasks").fork().run("large", "16777216");
    let told = "the result of 16777218 bytes is above the limit of 16777216 (`broker.max_result`)";
    assert_eq!(done.code, Code::Failure);
    assert!(done.data.contains(told), "{}", done.data);
}

fn a_megabyte_travels_both_ways() {
    let mut worker = Template::native("tasks").fork();
    let payload = format!("\"{}\"", "0123456789abcdef".repeat(65_536));
    let done = worker.run("echo", &payload);
    assert_eq!(done.code, Code::Success);
    assert!(done.data == payload);
    assert_eq!(worker.run("echo", "1").data, "1");
}

fn jobs_that_wait_begin_when_the_one_before_ended() {
    let mut worker = Template::native("tasks").fork();
    let gate = Gate::new();
    gate.send_to(&worker, 1);
    for execution in 2..=20 {
        worker.send(execution, &square());
    }
    gate.open();
    let mut free_since = worker.done().ended;
    for execution in 2..=20 {
        let done = worker.done();
        assert_eq!((done.execution, &*done.data), (execution, "49"));
        assert_eq!(done.started, free_since, "the worker was busy without a gap");
        free_since = done.ended;
    }
}

fn jobs_not_begun_can_be_taken_back() {
    let mut worker = Template::native("tasks").fork();
    let gate = Gate::new();
    gate.send_to(&worker, 1);
    gate.wait_until_begun();
    worker.send(2, &square());
    let mut buffer = vec![0; PACKET_LEN_MAX];
    let taken = recv(&worker.jobs_theirs, &mut buffer, Wait::Never).unwrap();
    assert!(matches!(taken, Received::Packet(_)), "{taken:?}");
    gate.open();
    assert_eq!(worker.done().execution, 1);
    worker.retire();
    assert_eq!(worker.hear(), None, "the job that was taken back is not run");
}

fn a_ping_is_answered_between_two_jobs() {
    let mut worker = Template::native("tasks").fork();
    let gate = Gate::new();
    gate.send_to(&worker, 1);
    gate.wait_until_begun();
    worker.ping(1);
    gate.open();
    assert_eq!(worker.done().execution, 1, "not while a job runs");
    assert_eq!(worker.hear(), Some(Heard::Pong(1)));
    assert_eq!(worker.run("square", r#"{"number": 7}"#).data, "49");
}

fn a_worker_that_aborts_is_reported_and_the_next_one_works() {
    let mut template = Template::native("tasks");
    let mut worker = template.fork();
    worker.send(
        1,
        &Job {
            task: "abort",
            payload: b"",
            timeout_ms: 0,
        },
    );
    assert_eq!(worker.hear(), None);
    let (number, how) = template.hear_exit();
    assert_eq!(number, worker.number);
    assert!(how.starts_with("killed by signal 6 (SIGABRT"), "{how}");
    assert_eq!(template.fork().run("square", r#"{"number": 3}"#).data, "9");
}

fn a_worker_leaves_at_end_of_file() {
    let mut template = Template::native("tasks");
    let mut worker = template.fork();
    worker.send(1, &square());
    worker.retire();
    assert_eq!(worker.done().data, "49", "what was sent before is run");
    assert_eq!(template.hear_exit(), (worker.number, "exit status 0".into()));
}

fn a_worker_leaves_after_garbage() {
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], &[1, 99, 0, 0, 1, 2], &[1, 1, 0, 0, 1]] {
        let mut template = Template::native("tasks");
        let worker = template.fork();
        assert_eq!(send(&worker.jobs, garbage, Wait::Block).unwrap(), Sent::Whole);
        assert_eq!(template.hear_exit(), (worker.number, "exit status 1".into()));
        let said = text(&worker.stderr);
        assert!(
            said.contains("the supervisor sent something that is no job"),
            "{said}"
        );
    }
}

fn a_worker_that_is_asked_to_end_finishes_its_job() {
    let mut template = Template::native("tasks");
    let mut worker = template.fork();
    let gate = Gate::new();
    gate.send_to(&worker, 1);
    gate.wait_until_begun();
    worker.send(2, &square());
    worker.signal(Signal::SIGINT);
    worker.signal(Signal::SIGTERM);
    gate.open();
    assert_eq!(worker.done().execution, 1);
    assert_eq!(worker.hear(), None, "the job that waits is left to others");
    assert_eq!(template.hear_exit(), (worker.number, "exit status 0".into()));
    let idle = template.fork();
    idle.signal(Signal::SIGTERM);
    assert_eq!(template.hear_exit(), (idle.number, "exit status 0".into()));
}

fn a_worker_outlives_its_template() {
    let mut template = Template::native("tasks");
    let mut worker = template.fork();
    template.kill();
    assert_eq!(worker.run("square", r#"{"number": 5}"#).data, "25");
    worker.retire();
    let pidfd = worker.pidfd.as_ref().unwrap();
    wait_for_end(pidfd);
    assert_eq!(pidfd.wait().unwrap().status(), Some(0), "it became our child");
}

fn what_a_job_prints_comes_out_of_its_worker() {
    let mut template = Template::native("tasks");
    let mut worker = template.fork();
    assert_eq!(line(&worker.stdout), "worker with 33554432 bytes");
    worker.run("print", r#""hello""#);
    assert_eq!(line(&worker.stdout), "hello");
    assert_eq!(line(&worker.stderr), "loudly: hello");
    template.tell(&ToTemplate::Stop, &[]);
    assert_eq!(text(&template.spawned.stdout), "half a line");
}

fn titles_say_role_pool_and_state() {
    let mut template = Template::native("tasks");
    let worker = template.fork();
    let gate = Gate::new();
    gate.send_to(&worker, 1);
    gate.wait_until_begun();
    assert_eq!(worker.title(), "pool: worker 1 default gen 1 busy gate");
    gate.open();
    let cmdline = std::fs::read_to_string(format!("/proc/{}/cmdline", template.spawned.pid)).unwrap();
    assert_eq!(cmdline.trim_end_matches('\0'), "pool: template native gen 1");
}

fn a_hook_that_fails_ends_the_worker() {
    let mut template = Template::native("hook");
    let mut worker = template.fork_unready();
    assert_eq!(worker.hear(), None);
    assert_eq!(template.hear_exit(), (worker.number, "exit status 1".into()));
    let said = text(&worker.stderr);
    assert_eq!(
        said,
        "error: this worker can't go on: `after_fork` failed: failure: no database\n"
    );
}

/// Loads an app that does not load: the error that it tells.
fn load_error(app: &str) -> String {
    let spawned = spawn_template(&command("native", app)).unwrap();
    let order = serde_json::to_vec(&ToTemplate::Load(Box::new(load()))).unwrap();
    assert_eq!(send(&spawned.control, &order, Wait::Block).unwrap(), Sent::Whole);
    let Some(FromTemplate::Failed { error, .. }) = hear(&spawned.control) else {
        panic!("it loaded");
    };
    wait_for_end(&spawned.pidfd);
    assert_eq!(spawned.pidfd.wait().unwrap().status(), Some(1 << 8));
    error
}

fn an_app_that_does_not_load_says_why() {
    assert_eq!(
        load_error("failing"),
        "core::num::error::ParseIntError: invalid digit found in string"
    );
    assert_eq!(load_error("panicking"), "panic: no model in the drawer");
}

fn threads_left_by_the_load_are_refused() {
    assert_eq!(
        load_error("threads"),
        "not safe to fork: loading the app left 1 thread running (prefetcher), and a fork copies no threads; \
         start them in the `after_fork` hook, which runs in each worker"
    );
}

fn sockets_left_by_the_load_are_warned_of() {
    let template = Template::native("socket");
    let [listener, connection] = &template.report.warnings[..] else {
        panic!("{:?}", template.report.warnings);
    };
    assert!(listener.contains("open, a socket: "), "{listener}");
    assert!(
        connection.contains("a socket connected to 127.0.0.1:"),
        "{connection}"
    );
    assert!(
        connection.contains("open it in the `after_fork` hook"),
        "{connection}"
    );
    assert!(Template::native("tasks").report.warnings.is_empty());
}

fn a_template_leaves_when_told_and_its_workers_stay() {
    let mut template = Template::native("tasks");
    let mut worker = template.fork();
    template.tell(&ToTemplate::Stop, &[]);
    wait_for_end(&template.spawned.pidfd);
    assert_eq!(template.spawned.pidfd.wait().unwrap().status(), Some(0));
    assert_eq!(worker.run("square", r#"{"number": 6}"#).data, "36");
}

fn a_template_leaves_on_sigterm_and_passes_over_sigint() {
    let mut template = Template::native("tasks");
    assert!(template.spawned.pidfd.send_signal(Signal::SIGINT).unwrap());
    let _worker = template.fork();
    assert!(template.spawned.pidfd.send_signal(Signal::SIGTERM).unwrap());
    wait_for_end(&template.spawned.pidfd);
    assert_eq!(template.spawned.pidfd.wait().unwrap().status(), Some(0));
}

fn a_fork_without_descriptors_is_refused() {
    let mut template = Template::native("tasks");
    let order = ToTemplate::Fork {
        worker: 77,
        pool: "default".into(),
    };
    template.tell(&order, &[]);
    let expected = FromTemplate::ForkFailed {
        worker: 77,
        error: "0 descriptors came with `fork`, expected 4".into(),
    };
    assert_eq!(template.hear(), Some(expected));
    template.fork();
}

fn the_heap_is_collapsed_or_the_reason_told() {
    let mut order = load();
    order.huge_pages = true;
    let report = Template::start(&command("native", "tasks"), order).report;
    assert_ne!(report.collapsed_bytes > 0, report.collapse_skipped.is_some());
    assert!(report.runtime.starts_with("native "), "{}", report.runtime);
    assert!(report.tasks.contains(&"square".to_owned()));
    assert!(report.load_s > 0.0);
}

fn the_built_in_tasks_answer() {
    let mut worker = Template::native("builtin").fork();
    assert_eq!(worker.run("noop", "").data, "null");
    assert_eq!(worker.run("fib", r#"{"n": 20}"#).data, "6765");
    assert_eq!(worker.run("echo", "[1, 2]").data, "[1, 2]");
    assert_eq!(worker.run("sleep", "0.001").data, "null");
}

fn the_example_answers() {
    let mut worker = Template::native("example").fork();
    let done = worker.run("quote", r#"{"country": "IS", "grams": 1200}"#);
    assert_eq!((done.code, &*done.data), (Code::Success, r#"{"cents":3780}"#));
    let done = worker.run("quote", r#"{"country": "ZZ", "grams": 1}"#);
    assert_eq!(done.code, Code::Rejected);
    let done = worker.run("track", r#"{"parcel": "A7"}"#);
    assert_eq!((done.code, done.after_ms), (Code::Retry, Some(2000)));
}

fn square() -> Job<'static> {
    Job {
        task: "square",
        payload: br#"{"number": 7}"#,
        timeout_ms: 0,
    }
}

/// A job that runs until the test lets it end: it reads a named pipe.
struct Gate {
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
    payload: Vec<u8>,
    writer: std::cell::OnceCell<std::fs::File>,
}

impl Gate {
    fn new() -> Gate {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gate");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let payload = serde_json::to_vec(&path).unwrap();
        Gate {
            path,
            _directory: directory,
            payload,
            writer: std::cell::OnceCell::new(),
        }
    }

    fn send_to(&self, worker: &crate::harness::Worker, execution: u64) {
        let job = Job {
            task: "gate",
            payload: &self.payload,
            timeout_ms: 0,
        };
        worker.send(execution, &job);
    }

    /// The open for writing returns when the job has opened the pipe for reading.
    fn wait_until_begun(&self) {
        self.writer.get_or_init(|| {
            let pipe = std::fs::OpenOptions::new().write(true).open(&self.path).unwrap();
            assert!(pipe.as_raw_fd() > 2);
            pipe
        });
    }

    fn open(self) {
        self.wait_until_begun();
    }
}
