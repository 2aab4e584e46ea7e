//! What the system refuses never ends the supervisor by a panic.

use std::process::Command;

use crate::kit::{Place, Supervisor};

/// What runs a program as a user whose processes can be limited, as root's can't: each test has one that nothing
/// else runs as.
fn as_limited_user(place: &Place, test: u32) -> Vec<String> {
    if !nix::unistd::getuid().is_root() {
        return Vec::new();
    }
    let user = 60_000 + std::process::id() % 2_000 * 2 + test;
    std::os::unix::fs::chown(place.path(""), Some(user), Some(user)).unwrap();
    let words = [
        "setpriv",
        "--clear-groups",
        &format!("--reuid={user}"),
        &format!("--regid={user}"),
    ];
    words.map(str::to_owned).to_vec()
}

/// The binary where that user may run it.
fn program(place: &Place) -> String {
    let program = place.path("pool");
    crate::program::copy(env!("CARGO_BIN_EXE_pool"), &program);
    program.display().to_string()
}

#[test]
fn a_supervisor_that_may_start_nothing_more_goes_on() {
    let place = Place::new();
    // No scaling period starts a thread meanwhile.
    let run = "run --max-workers 1 --scaling-period 1h --utilization-window 1h";
    let user = as_limited_user(&place, 0);
    let run = run.split(' ').map(str::to_owned).collect();
    let words = [user.clone(), vec![program(&place)], run].concat();
    let mut supervisor = Supervisor::start_command(place.command_of(&words[0], &words[1..]));
    let limit = ["prlimit", &format!("--pid={}", supervisor.pid()), "--nproc=1:"].map(str::to_owned);
    let words = [user, limit.to_vec()].concat();
    let limited = Command::new(&words[0]).args(&words[1..]).status();
    assert!(limited.expect("setpriv and prlimit run (util-linux)").success());
    assert!(place.run(&["status"]).status.success());
    assert!(place.run(&["metrics"]).status.success());
    let reload = place.run(&["reload"]);
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert_eq!(reload.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the app does not load, generation 1 stays"),
        "{said}"
    );
    assert!(place.run(&["status"]).status.success());
    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(supervisor.wait(), Some(0));
}

#[test]
fn where_no_thread_can_be_started_that_is_said() {
    let place = Place::new();
    let limit = ["--nproc=1".to_owned()].to_vec();
    let words = [
        limit,
        as_limited_user(&place, 1),
        vec![program(&place), "run".to_owned()],
    ]
    .concat();
    let output = place.command_of("prlimit", &words).output();
    let output = output.expect("prlimit runs (util-linux)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: cannot start: "), "{said}");
    assert!(said.contains("hint: the limit of processes"), "{said}");
}

/// One that starts also works: it does not meet the limit in the middle of a burst.
#[test]
fn where_too_few_files_may_be_open_that_is_said() {
    let place = Place::new();
    place.lines(&["enqueue", "fib", r#"{"n": 5}"#]);
    let burst = |most: u32| {
        let limit = format!("--nofile={most}");
        let output = place
            .command_of("prlimit", [&limit, env!("CARGO_BIN_EXE_pool"), "run", "--burst"])
            .output();
        let output = output.expect("prlimit runs (util-linux)");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for most in [4, 18, 63] {
        let (code, said) = burst(most);
        let reason = format!(
            "error: cannot start: {most} files may be open at once, and 64 are needed\nhint: raise the limit"
        );
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with(&reason), "{said}");
    }
    let (code, said) = burst(64);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_size_follows_the_processors_that_may_be_used() {
    let place = Place::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = allowed
        .and_then(|list| list.trim().split([',', '-']).next())
        .unwrap();
    let pool = program(&place);
    let words = [
        "-c",
        first,
        &pool,
        "run",
        "--min-workers",
        "1",
        "--max-workers",
        "3/cpu",
    ];
    let supervisor = Supervisor::start_command(place.command_of("taskset", words));
    let told = String::from_utf8(place.run(&["status"]).stdout).unwrap();
    assert!(
        told.contains("default has at most 3 workers: 3/cpu with 1 processor"),
        "{told}"
    );
    place.run(&["scale", "--max", "5"]);
    let told = String::from_utf8(place.run(&["status"]).stdout).unwrap();
    assert!(told.contains("(1..5)") && !told.contains("at most"), "{told}");
    drop(supervisor);
    let checked = place
        .lines(&["check", "--min-workers", "7", "--max-workers", "auto"])
        .join("\n");
    assert!(checked.contains("max_workers = \"auto\""), "{checked}");
    assert!(checked.contains("# pool default: at most "), "{checked}");
    let mistaken = place.run(&["check", "--max-workers", "2/core"]);
    let said = String::from_utf8_lossy(&mistaken.stderr).into_owned();
    assert!(said.contains("such as \"2/cpu\", or \"auto\""), "{said}");
}
