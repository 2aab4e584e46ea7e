//! Command lines of other programs, taken as they are: `pool rq worker …`, `pool celery -A proj worker …`.

use crate::kit::Place;

/// What `--print-config` prints for this command line, and what is said against it.
fn printed(line: &[&str]) -> (String, String) {
    let output = Place::new().run(&[line, &["--print-config"]].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

fn assert_says(line: &[&str], file: &str) {
    let (config, said) = printed(line);
    assert_eq!(config.trim(), file.trim(), "{line:?}: {said}");
}

fn assert_refused(line: &[&str], why: &str) {
    let (config, said) = printed(line);
    assert!(
        said.contains(why) && config.is_empty(),
        "{line:?} should say {why:?}:\n{config}{said}"
    );
    assert!(!said.contains("unexpected argument"), "{said}");
}

#[test]
fn a_line_of_celery_is_a_file_that_says_the_same() {
    assert_says(
        &[
            "celery",
            "-A",
            "proj",
            "worker",
            "-Q",
            "mail,reports",
            "-c",
            "4",
            "-l",
            "INFO",
        ],
        r#"
[celery]
app = "proj"
loglevel = "INFO"

[app]
runtime = "celery"

[pools.default]
queues = ["mail", "reports"]
min_workers = 4
max_workers = 4

[log]
level = "info"
"#,
    );
    assert_says(
        &[
            "celery",
            "--app=proj:app",
            "-b",
            "redis://:secret@localhost:6379/1",
            "--result-backend",
            "redis://:secret@localhost/2",
            "worker",
            "--autoscale=8,2",
            "--max-tasks-per-child",
            "100",
            "--max-memory-per-child",
            "204800",
            "--time-limit",
            "30",
            "--soft-time-limit=20.5",
            "-O",
            "fair",
            "-P",
            "prefork",
            "-n",
            "w1@%h",
            "-I",
            "a.tasks,b.tasks",
            "--without-gossip",
            "--without-mingle",
            "-S",
            "w1.state",
            "--prefetch-multiplier",
            "1",
            "--python",
            "/venv/bin/python",
            "--pidfile",
            "/run/pool.pid",
        ],
        r#"
[broker]
url = "redis://***@localhost:6379/1" # put the login in place of ***

[celery]
app = "proj:app"
result_backend = "redis://***@localhost/2" # put the login in place of ***
include = ["a.tasks", "b.tasks"]
hostname = "w1@%h"
time_limit = "30s"
soft_time_limit = "20s500ms"
mingle = false
state_db = "w1.state"

[app]
runtime = "celery"
python = "/venv/bin/python"

[supervisor]
pid_file = "/run/pool.pid"

[pools.default]
min_workers = 2
max_workers = 8
prefetch = 0
max_jobs = 100
max_worker_memory = "200MiB"
"#,
    );
}

#[test]
fn a_file_printed_for_a_line_is_read_as_that_line() {
    let place = Place::new();
    let line = [
        "celery",
        "-A",
        "proj",
        "worker",
        "-Q",
        "mail",
        "-c",
        "3",
        "-X",
        "slow",
        "--time-limit",
        "9",
    ];
    let first = place.run(&[&line[..], &["--print-config"]].concat());
    let file = place.path("printed.toml");
    std::fs::write(&file, &first.stdout).unwrap();
    let second = place.run(&["run", "--config", file.to_str().unwrap(), "--print-config"]);
    assert_eq!(
        String::from_utf8(second.stdout).unwrap(),
        String::from_utf8(first.stdout).unwrap()
    );
}

#[test]
fn options_of_celery_stand_on_both_sides_of_the_command() {
    let (ahead, _) = printed(&[
        "celery",
        "-A",
        "proj",
        "--min-workers",
        "1",
        "worker",
        "--max-workers",
        "7",
    ]);
    let (behind, said) = printed(&[
        "celery",
        "worker",
        "--max-workers",
        "7",
        "-A",
        "proj",
        "--min-workers",
        "1",
    ]);
    assert!(ahead.contains("max_workers = 7"), "{ahead}{said}");
    assert_eq!(ahead, behind);
}

#[test]
fn what_cannot_hold_is_refused_with_the_reason() {
    for (option, why) in [
        (&["-B"][..], "the scheduler is a program of its own"),
        (&["-s", "file"], "the scheduler is a program of its own"),
        (&["-D"], "it stays in the foreground"),
        (&["-P", "gevent"], "a process that runs one task at a time"),
        (&["--pool-start-method", "spawn"], "workers are forked"),
        (&["--uid", "nobody"], "it runs as the user who starts it"),
        (&["-f", "log"], "the log goes to standard error"),
        (
            &["--executable", "python"],
            "workers are forks of one interpreter",
        ),
        (
            &["--heartbeat-interval", "often"],
            "`--heartbeat-interval` is \"often\"",
        ),
        (
            &["--max-tasks-per-child", "0"],
            "`--max-tasks-per-child` is 0; expected 1",
        ),
        (&["-c", "many"], "`--concurrency` is `many`: it is no number"),
        (&["--autoscale", "1,2,3"], "it is not one or two numbers"),
        (&["-l", "LOUD"], "`--loglevel` is `LOUD`: no level has this name"),
    ] {
        assert_refused(&[&["celery", "-A", "proj", "worker"], option].concat(), why);
    }
    assert_refused(&["celery", "worker"], "`celery.app` is missing");
    let (_, said) = printed(&[
        "celery",
        "-A",
        "proj",
        "worker",
        "-b",
        "amqp://guest:secret@localhost//",
    ]);
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn the_letters_of_rq_mean_what_its_command_says() {
    let file = "[broker]\nurl = \"redis://h/3\"\n\n[rq]\nconfig = \"settings\"\nname = \"web\"\nwith_scheduler = true\n\n\
                [app]\nruntime = \"rq\"\n\n[pools.default]\nqueues = [\"high\", \"low\"]";
    // The module is not there: it is looked for when the settings are read.
    let line = [
        "rq",
        "worker",
        "-u",
        "redis://h/3",
        "-n",
        "web",
        "-s",
        "high",
        "low",
    ];
    assert_says(&line, &file.replace("config = \"settings\"\n", ""));
    let (_, said) = printed(&["rq", "worker", "-c", "settings_not_there", "high"]);
    assert!(said.contains("settings_not_there"), "{said}");
    let line = ["rq", "worker-pool", "-n", "3", "-u", "redis://h/3", "-b", "high"];
    assert_says(
        &line,
        "[broker]\nurl = \"redis://h/3\"\n\n[app]\nruntime = \"rq\"\n\n\
         [pools.default]\nqueues = [\"high\"]\nmin_workers = 3\nmax_workers = 3",
    );
    assert_refused(&["rq", "worker", "--sentry-dsn", "x"], "RQ 3 has it no more");
}

#[test]
fn other_commands_are_left_to_their_program() {
    for (line, tip) in [
        (["celery", "inspect"], "run by `celery` itself"),
        (["rq", "info"], "run by `rq` itself"),
    ] {
        let output = Place::new().run(&line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("unrecognized subcommand") && said.contains(tip),
            "{said}"
        );
    }
}

#[test]
fn a_producer_at_a_redis_is_one_of_rq_as_before() {
    let output = Place::new().run(&["enqueue", "f", "[]", "--broker", "redis://127.0.0.1:1"]);
    assert_eq!(
        output.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_verb_loads_the_application_that_alone_knows_its_broker() {
    let output = Place::new().run(&["enqueue", "f", "[]", "--broker", "app:proj"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("app:proj can't be asked for its broker"), "{said}");
}

#[test]
fn a_place_that_does_not_name_its_application_is_told_how() {
    let output = Place::new().run(&["queues", "--broker", "amqp://guest:secret@127.0.0.1:1//"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("`--broker app:proj`") && !said.contains("secret"),
        "{said}"
    );
}
