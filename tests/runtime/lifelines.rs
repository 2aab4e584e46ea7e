//! Nothing outlives its supervisor, and no program outlives its worker, however they die.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use pool::sys::pidfd::PidFd;

use crate::harness::{Job, Template, line, wait_for_end, wait_until_gone};

crate::trials![
    a_worker_dies_with_its_lifeline_and_takes_its_children_along,
    killing_a_supervisor_kills_template_workers_and_their_children,
    a_program_dies_with_its_worker,
    a_program_that_closed_what_it_inherited_dies_with_its_worker,
];

/// First argument with which this binary is a supervisor to be killed.
pub const SUPERVISOR_ROLE: &str = "__supervisor";

fn a_worker_dies_with_its_lifeline_and_takes_its_children_along() {
    let mut worker = Template::native("tasks").fork();
    let child: i32 = worker.run("spawn", "").data.parse().unwrap();
    let child = PidFd::open(child).unwrap().unwrap();
    drop(worker.lifeline);
    wait_for_end(worker.pidfd.as_ref().unwrap());
    wait_for_end(&child);
}

/// A supervisor with a template and a busy worker of each runtime, which prints all their process ids.
pub fn supervisor() -> ExitCode {
    let mut native = Template::native("tasks");
    let mut worker = native.fork();
    let child = worker.run("spawn", "").data;
    let mut commands = sleeper();
    let (program, its_child, command_worker) = run_sleeper(&mut commands);
    println!(
        "{} {} {child} {} {} {program} {its_child}",
        native.spawned.pid, worker.pid, commands.spawned.pid, command_worker.pid
    );
    let _ = std::io::stdout().flush();
    // Until it is killed, or the test is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
    ExitCode::SUCCESS
}

/// A program that starts another and tells both process ids.
fn sleeper() -> Template {
    Template::command("sleep", &["sh", "-c", "sleep 1000 & echo $$ $! >&2; wait"])
}

fn run_sleeper(template: &mut Template) -> (i32, i32, crate::harness::Worker) {
    let worker = template.fork();
    let job = Job {
        task: "sleep",
        payload: b"",
        timeout_ms: 0,
    };
    worker.send(1, &job);
    let pids: Vec<i32> = line(&worker.stderr)
        .split(' ')
        .map(|pid| pid.parse().unwrap())
        .collect();
    (pids[0], pids[1], worker)
}

fn killing_a_supervisor_kills_template_workers_and_their_children() {
    let (mut supervisor, family) = start_supervisor();
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    for pid in family {
        wait_until_gone(pid);
    }
}

fn start_supervisor() -> (Child, Vec<i32>) {
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .arg(SUPERVISOR_ROLE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(supervisor.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let family: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(family.len(), 7, "{line}");
    for pid in &family {
        assert!(PidFd::open(*pid).unwrap().is_some(), "{pid} is not alive");
    }
    (supervisor, family)
}

fn a_program_dies_with_its_worker() {
    let mut template = sleeper();
    let (program, its_child, worker) = run_sleeper(&mut template);
    worker.kill();
    wait_until_gone(program);
    wait_until_gone(its_child);
}

fn a_program_that_closed_what_it_inherited_dies_with_its_worker() {
    let script = "for fd in $(ls /proc/$$/fd); do [ $fd -gt 2 ] && eval \"exec $fd>&-\"; done; \
                  echo $$ >&2; exec sleep 1000";
    let mut template = Template::command("sleep", &["bash", "-c", script]);
    let worker = template.fork();
    let job = Job {
        task: "sleep",
        payload: b"",
        timeout_ms: 0,
    };
    worker.send(1, &job);
    let program: i32 = line(&worker.stderr).parse().unwrap();
    worker.kill();
    wait_until_gone(program);
}
