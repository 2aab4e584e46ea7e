//! What a worker costs: figures, run on request (`cargo test --release --test runtime -- --ignored`).

use pool::time::Mono;

use crate::harness::{Job, Template};

/// Jobs measured, and jobs that wait at the worker meanwhile.
const JOBS: u64 = 50_000;
const AHEAD: u64 = 64;
const FORKS: u32 = 200;

/// Nanoseconds that a process has run on a processor. Source: Linux, Documentation/scheduler/sched-stats.rst.
fn on_cpu_ns(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

pub fn a_job_costs_its_worker_a_few_microseconds() {
    let mut worker = Template::native("builtin").fork();
    let job = Job {
        task: "noop",
        payload: b"null",
        timeout_ms: 0,
    };
    for execution in 0..AHEAD {
        worker.send(execution, &job);
    }
    let (begun, cpu) = (Mono::now(), on_cpu_ns(worker.pid));
    let mut busy = std::time::Duration::ZERO;
    for execution in AHEAD..JOBS + AHEAD {
        let done = worker.done();
        busy += done.ended - done.started;
        worker.send(execution, &job);
    }
    let wall = Mono::now() - begun;
    println!(
        "noop: {:.2} µs of the worker's processor time, {:.2} µs counted as busy, {:.2} µs wall, each",
        (on_cpu_ns(worker.pid) - cpu) as f64 / JOBS as f64 / 1e3,
        busy.as_secs_f64() * 1e6 / JOBS as f64,
        wall.as_secs_f64() * 1e6 / JOBS as f64,
    );
}

pub fn a_fork_takes_less_than_a_start() {
    for huge_pages in [false, true] {
        let mut load = crate::harness::load();
        load.huge_pages = huge_pages;
        let mut template = Template::start(&crate::harness::command("native", "tasks"), load);
        let begun = Mono::now();
        for _ in 0..FORKS {
            let worker = template.fork();
            worker.retire();
            template.hear_exit();
        }
        let each = (Mono::now() - begun) / FORKS;
        let collapsed = template.report.collapsed_bytes >> 20;
        println!("fork, first word and exit over 32 MiB, {collapsed} MiB in huge pages: {each:?} each");
    }
}
