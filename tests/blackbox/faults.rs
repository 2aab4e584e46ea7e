//! Faults on purpose: whoever dies, stops or talks nonsense, no job is lost, and none runs twice but those whose
//! process was killed.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::harness::{Pool, is_alive, send, wait_gone};

#[test]
fn a_killed_worker_gives_its_job_back() {
    let mut pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 1]"]);
    send(pool.pid_of(&ids[0]), Signal::SIGKILL);
    pool.assert_finished(&ids);
    assert_eq!(pool.ledger(), ["job", "job"], "it ran again, once");
    assert_eq!(pool.default_pool()["lost"], 1);
    pool.assert_clean_stop();
}

#[test]
fn a_job_that_kills_its_workers_is_buried_as_poison() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.die", "[]"]);
    let ended = &pool.wait(&ids)[0];
    assert_eq!(ended["state"], "dead");
    assert!(ended["error"].to_string().contains("worker lost"), "{ended}");
    assert_eq!(pool.default_pool()["lost"], 3);
}

#[test]
fn jobs_whose_frames_another_job_read_run_elsewhere() {
    // With a third job behind them the worker answers for that one; without, it waits for ever.
    for jobs in [vec!["a", "b"], vec!["a", "b", "c"]] {
        let pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\nprefetch = 3\n");
        let mut ids = pool.enqueue(&["app.steal", "[2]"]);
        for name in &jobs {
            let name = format!("[{name:?}]");
            ids.extend(pool.enqueue(&["app.mark", &name, "--retries", "0"]));
        }
        pool.assert_finished(&ids);
        let mut ledger = pool.ledger();
        ledger.sort();
        assert_eq!(ledger, jobs, "each ran once\n{}", pool.log());
        pool.wait_log("jobs were read from a worker's socket by something else");
        assert_eq!(pool.default_pool()["lost"], 0);
    }
}

#[test]
fn workers_outlive_their_template_and_a_new_one_takes_its_place() {
    let mut pool = Pool::start("");
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let (workers, template) = (pool.workers(), pool.template());
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 1]"]);
    pool.pid_of(&ids[0]);
    send(template, Signal::SIGKILL);
    pool.assert_finished(&ids);
    assert_eq!(pool.ledger(), ["job"], "its worker went on");
    pool.wait_for("another template", |pool| {
        ![0, template].contains(&pool.template())
    });
    assert_eq!(pool.workers(), workers);
    // A worker whose parent is gone is reaped and replaced all the same.
    send(*workers.first().expect("two workers"), Signal::SIGKILL);
    pool.wait_for("a worker of the new template", |pool| {
        pool.workers().len() == 2 && pool.workers() != workers
    });
    pool.assert_clean_stop();
}

#[test]
fn nothing_outlives_a_killed_supervisor_and_its_jobs_run_again() {
    let mut pool = Pool::start("");
    let ids = pool.enqueue(&["app.with_child", "[100]", "--retries", "0"]);
    pool.pid_of(&ids[0]);
    pool.wait_for("the job's child", |pool| !pool.ledger().is_empty());
    let child: i32 = pool.ledger()[0]
        .trim_start_matches("child ")
        .parse()
        .expect("a process id");
    let mut processes = pool.workers();
    processes.extend([pool.template(), child]);
    assert!(processes.iter().all(|pid| is_alive(*pid)), "{processes:?}");
    pool.signal(Signal::SIGKILL);
    pool.ended();
    for pid in processes {
        wait_gone(pid);
    }
    pool.launch();
    pool.wait_for("the job to run again", |pool| pool.ledger().len() == 2);
}

#[test]
fn a_ledger_of_jobs_survives_kills_of_everything() {
    let mut pool = Pool::start("[defaults]\nmin_workers = 3\nmax_workers = 3\n");
    let mut ids = Vec::new();
    for round in 0..6 {
        for job in 0..40 {
            let name = format!("[0.02, \"{round}.{job}\"]");
            ids.extend(pool.enqueue(&["app.nap", &name]));
        }
        match round {
            0 | 3 => pool
                .workers()
                .into_iter()
                .for_each(|pid| send(pid, Signal::SIGKILL)),
            1 => send(pool.template(), Signal::SIGKILL),
            2 | 4 => {
                pool.signal(Signal::SIGKILL);
                pool.ended();
                pool.launch();
            }
            _ => {}
        }
        pool.wait_for("the app to load", |pool| {
            pool.state()["generation"].as_u64() >= Some(1)
        });
        pool.wait_for("three workers", |pool| pool.workers().len() == 3);
    }
    pool.assert_finished(&ids);
    let mut ran: BTreeMap<String, u32> = BTreeMap::new();
    for line in pool.ledger() {
        let entry: serde_json::Value = serde_json::from_str(&line).expect("JSON lines");
        *ran.entry(entry["name"].to_string()).or_default() += 1;
    }
    assert_eq!(ran.len(), ids.len(), "enqueued = finished");
    // Kills hit three workers at most, four times; each had at most one job begun.
    let twice = ran.values().filter(|times| **times > 1).count();
    assert!(twice <= 12, "{twice} jobs ran twice");
    pool.assert_clean_stop();
}

#[test]
fn a_stopped_idle_worker_does_not_keep_its_job() {
    let pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\n");
    pool.wait_for("a worker", |pool| pool.workers().len() == 1);
    let frozen = *pool.workers().first().expect("one worker");
    send(frozen, Signal::SIGSTOP);
    let ids = pool.enqueue(&["app.mark", "\"job\""]);
    pool.assert_finished(&ids);
    assert_eq!(pool.ledger(), ["job"]);
    wait_gone(frozen);
}

#[test]
fn a_stopped_busy_worker_is_killed_when_its_job_is_overdue() {
    let pool = Pool::start("[defaults]\nkill_grace = \"500ms\"\n");
    let job = "[\"job\", 60]";
    let ids = pool.enqueue(&["app.nap_at_first", job, "--timeout", "5s", "--retries", "1"]);
    let frozen = pool.pid_of(&ids[0]);
    send(frozen, Signal::SIGSTOP);
    pool.assert_finished(&ids);
    wait_gone(frozen);
    assert_eq!(pool.ledger(), ["job", "job"]);
}

#[test]
fn a_job_is_interrupted_at_its_timeout() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.nap", "[60]", "--timeout", "200ms"]);
    let ended = &pool.wait(&ids)[0];
    assert!(ended["error"].to_string().contains("timeout"), "{ended}");
    assert_eq!(pool.default_pool()["lost"], 0, "its worker lives on");
}

#[test]
fn a_job_that_ignores_its_timeout_is_killed() {
    let pool = Pool::start("[defaults]\nkill_grace = \"300ms\"\n");
    let ids = pool.enqueue(&["app.stubborn", "[60]", "--timeout", "200ms"]);
    let ended = &pool.wait(&ids)[0];
    assert!(ended["error"].to_string().contains("timeout"), "{ended}");
}

#[test]
fn the_children_of_a_killed_job_go_with_it() {
    let pool = Pool::start("[defaults]\nmax_worker_losses = 1\n");
    let ids = pool.enqueue(&["app.with_child", "[100]"]);
    let worker = pool.pid_of(&ids[0]);
    pool.wait_for("the job's child", |pool| !pool.ledger().is_empty());
    let child: i32 = pool.ledger()[0]
        .trim_start_matches("child ")
        .parse()
        .expect("a process id");
    send(worker, Signal::SIGKILL);
    pool.wait(&ids);
    wait_gone(child);
}

#[test]
fn garbage_on_the_job_socket_costs_one_worker_and_no_other_job() {
    let pool = Pool::start("");
    let bad = pool.enqueue(&["app.garbage", "[]"]);
    let good = pool.enqueue(&["app.mark", "\"x\"", "--count", "20"]);
    let ended = &pool.wait(&bad)[0];
    assert_eq!(ended["state"], "dead", "{ended}");
    assert!(ended["error"].to_string().contains("protocol"), "{ended}");
    pool.assert_finished(&good);
}

#[test]
fn outcomes_wait_for_a_disk_that_is_full() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 1]"]);
    pool.pid_of(&ids[0]);
    // From now on no file of the supervisor's may grow: for its broker, and for its log, the disk is full.
    pool.limit_files("1");
    pool.wait_for("the broker to refuse", |pool| {
        pool.state()["broker_error"].is_string()
    });
    assert_eq!(pool.ledger(), ["job"]);
    pool.limit_files("unlimited");
    pool.assert_finished(&ids);
    assert_eq!(pool.ledger(), ["job"], "it ran once");
}
