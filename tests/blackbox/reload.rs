//! A reload means it: after it no old code begins a job, and meanwhile nothing is lost that only new code knows.

use nix::sys::signal::Signal;

use crate::harness::{Pool, send};

/// The application in its second version: slow to import, with a function that the first one lacks.
fn deploy_second_version(pool: &Pool) {
    let path = pool.path("app.py");
    let app = std::fs::read_to_string(&path).expect("the app is there");
    let app = app.replace("VERSION = 1", "VERSION = 2");
    let new = "time.sleep(2)\n\ndef only_new(name):\n    write(name)\n    return VERSION\n";
    std::fs::write(path, format!("{app}\n\n{new}")).expect("the app is written");
}

/// Runs `pool reload` on another thread. From when the supervisor has heard of it until it answers, `meanwhile`
/// happens. Returns what the verb says and whether it went well.
fn reload_while(pool: &Pool, mut meanwhile: impl FnMut()) -> (String, bool) {
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| pool.run(&["reload"]));
        pool.wait_log(" reloading");
        while !reload.is_finished() {
            meanwhile();
        }
        reload.join().expect("the verb ran")
    })
}

fn takes_over_under_load(app: &str, settings: &str) {
    let mut pool = Pool::start_with_app(app, settings);
    let mut jobs = pool.enqueue(&["app.nap", "[0.05]", "--count", "40"]);
    let mut new = Vec::new();
    deploy_second_version(&pool);
    let (said, ok) = reload_while(&pool, || {
        jobs.extend(pool.enqueue(&["app.nap", "[0.02]", "--count", "5"]));
        new.extend(pool.enqueue(&["app.only_new", "\"x\""]));
    });
    assert!(ok, "{said}\n{}", pool.log());
    let after = pool.enqueue(&["app.version", "[]", "--count", "30"]);
    for ended in pool.wait(&after) {
        assert_eq!(
            ended["result"],
            2,
            "old code ran after the reload: {ended}\n{}",
            pool.log()
        );
    }
    for ended in pool.wait(&new) {
        assert_eq!(ended["result"], 2, "{ended}\n{}", pool.log());
    }
    assert!(!new.is_empty());
    assert_eq!(pool.ledger().len(), new.len(), "each ran once");
    pool.assert_finished(&jobs);
    pool.assert_clean_stop();
}

#[test]
fn new_code_takes_over_under_load() {
    takes_over_under_load("", "[defaults]\nmin_workers = 3\nmax_workers = 3\n");
}

#[test]
fn new_code_takes_over_where_each_job_has_a_process() {
    takes_over_under_load(
        "isolation = \"fresh\"\n",
        "[defaults]\nmin_workers = 3\nmax_workers = 3\n",
    );
}

#[test]
fn a_reload_does_not_wait_for_long_jobs() {
    let pool = Pool::start("[defaults]\nmin_workers = 2\nmax_workers = 2\n");
    let gate = pool.path("gate").display().to_string();
    let long = pool.enqueue(&["app.wait_for", &format!("\"{gate}\""), "--count", "2"]);
    long.iter().for_each(|job| _ = pool.pid_of(job));
    deploy_second_version(&pool);
    let (said, ok) = pool.run(&["reload"]);
    assert!(ok, "{said}\n{}", pool.log());
    let after = pool.enqueue(&["app.version", "[]", "--count", "10"]);
    std::fs::write(&gate, "").expect("the gate opens");
    for ended in pool.wait(&after) {
        assert_eq!(ended["result"], 2, "{ended}\n{}", pool.log());
    }
    pool.assert_finished(&long);
}

#[test]
fn what_no_code_knows_is_a_dead_letter_when_the_new_code_does_not_load() {
    let pool = Pool::start("");
    let broken = "import time\ntime.sleep(2)\nimport nothing_of_this_name\n";
    std::fs::write(pool.path("app.py"), broken).expect("the app is written");
    let mut ids = Vec::new();
    let (said, ok) = reload_while(&pool, || {
        if ids.is_empty() {
            ids = pool.enqueue(&["app.only_new", "\"x\""]);
        }
        std::thread::yield_now();
    });
    assert!(!ok, "{said}");
    let ended = &pool.wait(&ids)[0];
    assert_eq!(ended["state"], "dead", "{ended}");
    assert!(ended["error"].to_string().contains("unknown task"), "{ended}");
}

#[test]
fn a_reload_whose_workers_do_not_start_says_so_and_the_old_ones_go_on() {
    let pool = Pool::start_with_app("after_fork = [\"app.after_fork\"]\n", "");
    let path = pool.path("app.py");
    let app = std::fs::read_to_string(&path).expect("the app is there");
    let broken = app.replace(
        "def after_fork():\n    pass",
        "def after_fork():\n    raise OSError(\"no licence\")",
    );
    assert_ne!(app, broken);
    std::fs::write(&path, broken).expect("the app is written");
    let said = pool.refused(&["reload"]);
    assert!(
        said.contains("its workers do not start; generation 1 stays"),
        "{said}"
    );
    let ids = pool.enqueue(&["app.add", "[1, 2]"]);
    pool.assert_finished(&ids);
    let error = pool.state()["reload_error"].clone();
    assert!(
        error
            .as_str()
            .is_some_and(|error| error.contains("workers of generation 2 do not start")),
        "{error}"
    );
    // The old code has successors of its own.
    let old = pool.workers();
    old.iter().for_each(|worker| send(*worker, Signal::SIGKILL));
    pool.wait_for("other workers of the same code", |pool| {
        let now = pool.workers();
        now.len() == old.len() && now.is_disjoint(&old)
    });
    pool.assert_finished(&pool.enqueue(&["app.add", "[1, 2]"]));
    std::fs::write(&path, app).expect("the app is written");
    pool.run(&["reload"]);
    assert_eq!(pool.state()["reload_error"], serde_json::Value::Null);
    pool.assert_finished(&pool.enqueue(&["app.add", "[1, 2]"]));
}

#[test]
fn a_command_that_a_reload_adds_is_not_lost_to_old_workers() {
    let settings = |more: &str| {
        format!(
            "[defaults]\nmin_workers = 2\nmax_workers = 2\n[tasks.old]\ncommand = [\"echo\", \"old\"]\n{more}"
        )
    };
    let pool = Pool::start_commands(&settings(""));
    pool.configure_commands(&settings("[tasks.new]\ncommand = [\"echo\", \"new\"]\n"));
    let mut new = Vec::new();
    let (said, ok) = reload_while(&pool, || new.extend(pool.enqueue(&["new"])));
    assert!(ok, "{said}\n{}", pool.log());
    new.extend(pool.enqueue(&["new", "--count", "10"]));
    pool.assert_finished(&new);
}
