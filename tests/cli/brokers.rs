//! Which broker and which supervisor a verb speaks to: never another one than it was given, and never in silence.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kit::{Place, Supervisor};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_verb_refuses_the_supervisor_of_another_broker() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    let socket = place.path("pool.db.sock").display().to_string();
    for other in ["redis://user:secret@other:6379/3", "sqlite:other.db"] {
        for verb in ["pause", "status", "stop"] {
            let output = place.run(&[verb, "--broker", other, "--socket", &socket]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(3), "{verb} {other}: {said}");
            assert!(
                said.contains("serves sqlite:") && !said.contains("secret"),
                "{said}"
            );
        }
        // Without --socket it is looked for where that broker's supervisor would be.
        let output = place.run(&["pause", "--broker", other]);
        assert_eq!(output.status.code(), Some(3), "{other}: {}", self::said(&output));
    }
    // The same file by another name is the same broker.
    std::os::unix::fs::symlink(place.path("pool.db"), place.path("link.db")).unwrap();
    for same in ["sqlite:pool.db", "sqlite:link.db", "sqlite:./pool.db"] {
        let lines = place.lines(&["pause", "--broker", same, "--socket", &socket]);
        assert_eq!(lines, ["paused: default"], "{same}");
    }
}

#[test]
fn the_memory_of_another_process_is_refused() {
    let output = Place::new().run(&["enqueue", "noop", "--broker", "memory:"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("in the process of their supervisor"),
        "{output:?}"
    );
}

#[test]
fn a_queue_that_nobody_serves_is_said() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &["--queue", "default", "--queue", "high"]);
    let output = place.run(&["enqueue", "noop", "--queue", "hihg"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let text = said(&output);
    assert!(
        text.contains("does not serve the queue `hihg`; it serves default, high"),
        "{text}"
    );
    let output = place.run(&["enqueue", "noop", "--queue", "high"]);
    assert_eq!(said(&output), "");
    place.write(
        "jobs.jsonl",
        "{\"task\": \"noop\"}\n{\"task\": \"noop\", \"queue\": \"low\"}\n",
    );
    let text = said(&place.run(&["enqueue", "--group", "jobs.jsonl"]));
    assert!(text.contains("the queue `low`"), "{text}");
}

#[test]
fn an_interrupted_wait_names_the_job_and_ends_by_the_signal() {
    let place = Place::new();
    let mut waiting = place
        .command(["enqueue", "noop", "--id", "mine", "--wait"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("note: no supervisor answers on "), "{line}");
    kill(
        Pid::from_raw(i32::try_from(waiting.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("note: job mine goes on: `pool wait mine`"),
        "{rest}"
    );
    assert_eq!(waiting.wait().unwrap().signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_path_that_is_mistyped_is_not_made_by_who_looks() {
    let place = Place::new();
    for verb in [
        &["dead", "list"][..],
        &["wait", "a"],
        &["result", "a"],
        &["dead", "retry", "a"],
    ] {
        let output = place.run(&[verb, &["--broker", "sqlite:nope.db"]].concat());
        assert_eq!(output.status.code(), Some(3), "{verb:?}");
        assert!(said(&output).contains("there is no sqlite:"), "{}", said(&output));
    }
    assert!(!place.path("nope.db").exists());
    let output = place.run(&["enqueue", "noop", "--broker", "sqlite:new.db"]);
    assert!(output.status.success());
    assert!(
        said(&output).contains("is not there yet, and is made"),
        "{}",
        said(&output)
    );
    assert_eq!(
        said(&place.run(&["enqueue", "noop", "--broker", "sqlite:new.db"])),
        ""
    );
}

/// The broker that `pool check` finds in this directory of the place, with nothing said about it.
fn broker_in(place: &Place, directory: &str) -> String {
    let output = place
        .command(["check"])
        .env_remove("STATE_DIRECTORY")
        .env("HOME", place.path("home"))
        .current_dir(place.path(directory))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let url = text
        .lines()
        .find_map(|line| line.strip_prefix("url = ")?.split('"').nth(1));
    url.unwrap_or_else(|| panic!("{text}{}", said(&output)))
        .to_owned()
}

#[test]
fn each_directory_with_a_pool_toml_is_a_project_with_a_broker_of_its_own() {
    let place = Place::new();
    for directory in ["home", "one/deep/down", "other", "none"] {
        std::fs::create_dir_all(place.path(directory)).unwrap();
    }
    for directory in ["one", "other"] {
        place.write(&format!("{directory}/pool.toml"), "");
    }
    let one = broker_in(&place, "one");
    assert!(one.contains("/home/.local/state/pool/one-"), "{one}");
    assert_eq!(
        broker_in(&place, "one/deep/down"),
        one,
        "as cargo finds its manifest"
    );
    assert_ne!(broker_in(&place, "other"), one);
    assert!(broker_in(&place, "none").ends_with("/home/.local/state/pool/pool.db"));
}

/// What a supervisor says that runs in this directory until its queues are empty.
fn burst_in(place: &Place, directory: &str, flags: &[&str]) -> String {
    let mut command = place.command(["run", "--burst"].iter().chain(flags));
    command.current_dir(place.path(directory));
    said(&command.output().unwrap())
}

#[test]
fn a_default_file_that_served_another_directory_is_said() {
    const SHARED: &str = "used for another directory before";
    let place = Place::new();
    for directory in ["one", "two"] {
        std::fs::create_dir(place.path(directory)).unwrap();
    }
    let one = place.path("one").canonicalize().unwrap().display().to_string();
    assert!(!burst_in(&place, "one", &[]).contains(SHARED));
    assert!(!burst_in(&place, "one", &[]).contains(SHARED));
    let named = burst_in(&place, "two", &["--broker", "sqlite:own.db"]);
    assert!(!named.contains(SHARED), "{named}");
    let default = burst_in(&place, "two", &[]);
    assert!(default.contains(SHARED) && default.contains(&one), "{default}");
    assert!(!burst_in(&place, "two", &[]).contains(SHARED));
}

#[test]
fn pool_uses_the_pool_toml_of_its_directory_and_says_so() {
    let place = Place::new();
    place.write(
        "pool.toml",
        "[app]\nruntime = 'command'\n[tasks.where]\ncommand = ['sh', '-c', 'pwd; echo \"$POOL_BROKER\"']\n",
    );
    std::fs::create_dir(place.path("below")).unwrap();
    let mut started = place.command(["run"]);
    started.current_dir(place.path("below"));
    let supervisor = Supervisor::start_command(started);
    let lines = place.lines(&["enqueue", "where", "--wait", "--raw"]);
    // The application runs where its file is, and its jobs know the broker that they come from.
    let directory = place.path("").canonicalize().unwrap();
    assert_eq!(lines[0], directory.display().to_string().trim_end_matches('/'));
    assert!(
        lines[1].starts_with("sqlite:") && lines[1].ends_with("/pool.db"),
        "{lines:?}"
    );
    drop(supervisor);
    let output = place.command(["run", "--burst"]).output().unwrap();
    assert!(said(&output).contains("config=pool.toml"), "{}", said(&output));
    let named = place
        .command(["run", "--burst", "--config", "/dev/null"])
        .output()
        .unwrap();
    assert!(said(&named).contains("runtime=\"native"), "{}", said(&named));
}

/// Without its file a supervisor would take the defaults for its settings, and its jobs would be unknown to it.
#[test]
fn a_reload_refuses_while_the_pool_toml_that_was_found_is_gone() {
    let place = Place::new();
    let file = "[app]\nruntime = 'command'\n[tasks.hello]\ncommand = ['echo', 'hello']\n";
    place.write("pool.toml", file);
    let _supervisor = Supervisor::start(&place, &[]);
    let elsewhere = place.path("elsewhere.toml");
    std::fs::rename(place.path("pool.toml"), &elsewhere).unwrap();
    let output = place.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("`pool.toml` can't be read: No such file"),
        "{}",
        said(&output)
    );
    assert_eq!(place.lines(&["enqueue", "hello", "--wait", "--raw"]), ["hello"]);
    std::fs::rename(&elsewhere, place.path("pool.toml")).unwrap();
    let output = place.run(&["reload"]);
    assert!(output.status.success(), "{}", said(&output));
}
