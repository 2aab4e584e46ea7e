//! Commands: what a program's end means, and that its arguments never pass a shell.

use std::collections::BTreeMap;

use pool::sys::socket::{Sent, Wait, send};
use pool::sys::spawn::spawn_template;
use pool::wire::frame::Code;
use pool::wire::message::{CommandTask, FromTemplate, Load, ToTemplate};

use crate::harness::{Job, Template, command, hear, line, load};

crate::trials![
    the_payload_is_the_input_and_the_output_the_result,
    output_that_is_no_json_becomes_a_string,
    the_job_is_in_the_environment,
    a_timeout_of_three_months_arrives_whole,
    arguments_pass_no_shell,
    a_megabyte_passes_through_a_program,
    an_exit_status_is_a_failure_with_the_end_of_stderr,
    status_75_asks_for_another_run,
    too_much_output_is_a_failure,
    a_program_is_ended_at_its_timeout,
    an_unknown_task_is_rejected,
    programs_that_are_missing_fail_the_load,
    a_program_that_goes_missing_fails_its_job,
];

fn shell(script: &str) -> Template {
    Template::command("run", &["sh", "-c", script])
}

fn the_payload_is_the_input_and_the_output_the_result() {
    let mut template = Template::command("copy", &["cat"]);
    assert_eq!(template.report.tasks, ["copy"]);
    assert!(template.report.runtime.starts_with("command "));
    let done = template.fork().run("copy", r#"{"a": [1, 2]}"#);
    assert_eq!((done.code, &*done.data), (Code::Success, r#"{"a": [1, 2]}"#));
}

fn output_that_is_no_json_becomes_a_string() {
    let done = shell("echo two; echo lines").fork().run("run", "");
    assert_eq!((done.code, &*done.data), (Code::Success, r#""two\nlines""#));
}

fn the_job_is_in_the_environment() {
    let script = r#"echo "$POOL_JOB_ID $POOL_JOB_QUEUE $POOL_JOB_TASK $POOL_JOB_ATTEMPT $POOL_JOB_TIMEOUT $POOL_JOB_ARG_width""#;
    let done = shell(script).fork().run_job(&Job {
        task: "run",
        payload: br#"{"width": 640}"#,
        timeout_ms: 2500,
    });
    assert_eq!(done.data, r#""job-1 mail run 1 2.5 640""#);
}

fn a_timeout_of_three_months_arrives_whole() {
    let done = shell("echo $POOL_JOB_TIMEOUT").fork().run_job(&Job {
        task: "run",
        payload: b"",
        timeout_ms: 90 * 86_400_000,
    });
    assert_eq!(done.data, "7776000");
}

fn arguments_pass_no_shell() {
    let mut template = Template::command("print", &["printf", "%s|", "$HOME", "a b", "`id`", "*"]);
    let done = template.fork().run("print", "");
    assert_eq!(done.data, r#""$HOME|a b|`id`|*|""#);
}

fn a_megabyte_passes_through_a_program() {
    let payload = format!("\"{}\"", "0123456789abcdef".repeat(65_536));
    let done = Template::command("copy", &["cat"]).fork().run("copy", &payload);
    assert_eq!(done.code, Code::Success);
    assert!(done.data == payload);
}

fn an_exit_status_is_a_failure_with_the_end_of_stderr() {
    let mut worker = shell("echo no such parcel >&2; exit 3").fork();
    let done = worker.run("run", "");
    let told: pool::job::JobError = serde_json::from_str(&done.data).unwrap();
    assert_eq!(done.code, Code::Failure);
    assert_eq!(told.to_string(), "exit status: `sh` ended with exit status 3");
    assert_eq!(told.detail, "no such parcel\n");
    let death = told.death.unwrap();
    assert_eq!((death.exit_code, death.out_of_memory), (Some(3), false));
    assert!(death.peak_memory > Some(0));
    assert_eq!(line(&worker.stderr), "no such parcel", "it is logged too");
    let done = shell("kill -SEGV $$").fork().run("run", "");
    assert!(
        done.data.contains("`sh` was killed by signal 11 (SIGSEGV"),
        "{}",
        done.data
    );
}

fn status_75_asks_for_another_run() {
    let done = shell("echo the mail server is away >&2; exit 75")
        .fork()
        .run("run", "");
    assert_eq!(
        (done.code, done.after_ms, &*done.data),
        (Code::Retry, None, "the mail server is away")
    );
}

fn too_much_output_is_a_failure() {
    let done = shell("yes").fork().run("run", "");
    let told = r#"{"kind":"output too large","message":"`sh` printed more than 8388608 bytes (`max_output`) and was killed"}"#;
    assert_eq!((done.code, &*done.data), (Code::Failure, told));
}

fn a_program_is_ended_at_its_timeout() {
    for script in [
        "exec sleep 1000",
        "trap '' TERM; sleep 1000",
        "trap 'exit 0' TERM; sleep 1000",
    ] {
        let mut worker = shell(script).fork();
        let done = worker.run_job(&Job {
            task: "run",
            payload: b"",
            timeout_ms: 50,
        });
        let told = r#"{"kind":"timeout","message":"ran longer than its timeout of 50ms""#;
        assert_eq!(done.code, Code::TimedOut, "{script}");
        assert!(done.data.starts_with(told), "{script}: {}", done.data);
    }
}

fn an_unknown_task_is_rejected() {
    let done = shell("true").fork().run("walk", "");
    assert_eq!(done.code, Code::Rejected);
    assert!(done.data.contains("no task is named `walk`"), "{}", done.data);
}

fn programs_that_are_missing_fail_the_load() {
    let task = CommandTask {
        command: vec!["no-such-program".into()],
        ..CommandTask::default()
    };
    let order = Load {
        commands: BTreeMap::from([("resize".to_owned(), task)]),
        ..load()
    };
    let spawned = spawn_template(&command("command", "")).unwrap();
    let packet = serde_json::to_vec(&ToTemplate::Load(Box::new(order))).unwrap();
    assert_eq!(send(&spawned.control, &packet, Wait::Block).unwrap(), Sent::Whole);
    let Some(FromTemplate::Failed { error, .. }) = hear(&spawned.control) else {
        panic!("it loaded");
    };
    assert_eq!(
        error,
        "not runnable: task `resize`: no program `no-such-program` in PATH"
    );
}

fn a_program_that_goes_missing_fails_its_job() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    crate::program::copy("/bin/true", &program);
    let program = program.to_str().unwrap();
    let mut worker = Template::command("run", &[program]).fork();
    assert_eq!(worker.run("run", "").code, Code::Success);
    std::fs::remove_file(program).unwrap();
    let done = worker.run("run", "");
    assert_eq!(done.code, Code::Failure);
    assert!(
        done.data.contains(&format!("cannot start `{program}`")),
        "{}",
        done.data
    );
}
