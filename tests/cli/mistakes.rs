//! Each kind of mistake gets a message that says what to do, and its exit code.

use std::os::unix::net::UnixListener;

use crate::kit::{Place, Supervisor, occupy};

#[test]
fn wrong_flags() {
    insta::assert_snapshot!(Place::new().transcripts(&[
        &["--max-worker", "3"],
        &["fly"],
        &["--max-workers"],
        &[
            "run",
            "--max-workers",
            "many",
            "--scaling-period",
            "5x",
            "--utilization-threshold",
            "1.5"
        ],
        &["run", "--min-workers", "6", "--max-workers", "5"],
        &["run", "--runtime", "ruby"],
        &["run", "--log-format", "xml"],
        &["run", "--broker", "mysql://root:secret@db/jobs"],
        &["run", "--config", "nowhere.toml"],
        &["enqueue"],
        &["enqueue", "noop", "--count", "0"],
        &["enqueue", "noop", "--count", "2", "--id", "x"],
        &["enqueue", "noop", "1", "--jsonl", "lines.jsonl"],
        &["enqueue", "noop", "--in", "soon"],
        &["enqueue", "noop", "--timeout", "0"],
        &["enqueue", "noop", "--expires", "0s"],
        &["enqueue", "noop", "--queue", ""],
        &["enqueue", "no\nop"],
        &["wait"],
        &["result", ""],
        &["scale"],
        &["scale", "--max", "-1"],
        &["dead", "retry"],
        &["dead", "delete", "x", "--all"],
        &["jobs", "--limit", "0"],
        &["dead", "list", "--limit", "0"],
    ]));
}

#[test]
fn wrong_variables() {
    let place = Place::new();
    let args = ["run"];
    let output = place
        .command(args)
        .env("POOL_MAX_WORKERS", "lots")
        .env("POOL_SCALING_PERIOD", "-1")
        .output()
        .unwrap();
    insta::assert_snapshot!(place.transcript(&args, &output));
}

#[test]
fn a_wrong_file_shows_all_its_problems() {
    let place = Place::new();
    place.write(
        "pool.toml",
        "[broker]\nlease = \"5s\"\nheartbeat = \"4s\"\n\n[pools.default]\nmin_workers = 4\nmax_workers = 2\nmax_worker = 3\n",
    );
    place.write("torn.toml", "[broker\nurl = 1\n");
    insta::assert_snapshot!(place.transcripts(&[
        &["run", "--config", "pool.toml"],
        &["check", "--config", "torn.toml"],
        &["enqueue", "noop", "--config", "torn.toml"],
    ]));
}

#[test]
fn wrong_arguments() {
    let place = Place::new();
    let mut text = place.transcripts(&[
        &["enqueue", "fib", "{\"n\": 30]"],
        &["enqueue", "fib", "{n: 30}"],
        &["enqueue", "fib", "{\"n\": 30} x"],
        &["enqueue", "fib", ""],
    ]);
    let args = ["enqueue", "fib", "-"];
    text.push('\n');
    text.push_str(&place.transcript(&args, &place.run_with(&args, "{\n  \"n\": 30,\n}\n")));
    insta::assert_snapshot!(text);
}

#[test]
fn wrong_lines() {
    let place = Place::new();
    place.write("first.jsonl", "{\"n\": 30]\n1\n");
    place.write("third.jsonl", "1\n\n{n: 30}\n2\n");
    let mut text = place.transcripts(&[
        &["enqueue", "echo", "--jsonl", "missing.jsonl"],
        &["enqueue", "echo", "--jsonl", "."],
        &["enqueue", "echo", "--jsonl", "first.jsonl"],
        &["enqueue", "echo", "--jsonl", "third.jsonl"],
    ]);
    let args = ["enqueue", "echo", "--jsonl", "-"];
    let output = place.run_with(&args, &format!("\"{}\"\n", "x".repeat(1 << 20)));
    text.push('\n');
    text.push_str(&place.transcript(&args, &output));
    insta::assert_snapshot!(text);
}

#[test]
fn arguments_over_the_limit() {
    let place = Place::new();
    let args = ["enqueue", "echo", "-"];
    let output = place.run_with(&args, &format!("\"{}\"", "x".repeat(1 << 20)));
    insta::assert_snapshot!(place.transcript(&args, &output));
}

#[test]
fn check_finds_a_module_of_jobs_that_cannot_be_imported() {
    let place = Place::new();
    let args = ["--runtime", "python", "--module", "nosuch", "--huge-pages=false"];
    let output = place.run(&[&["check"], &args[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = "error: the app does not load: cannot import `nosuch` (app.modules): ModuleNotFoundError";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_program_that_is_no_pool_is_named() {
    let place = Place::new();
    for verb in ["check", "run"] {
        // It ends before it is told what to load, or after.
        for program in ["/bin/true", "/bin/ls"] {
            let output = place.run(&[verb, "--program", program]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            let expected = format!(
                "the app does not load: `{program}` ended before it had loaded its tasks: exit status "
            );
            assert!(said.contains(&expected), "{verb}: {said}");
            assert!(
                said.contains("`app.program` must name a program that calls `pool::App::main`"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written() {
    insta::assert_snapshot!(Place::new().transcripts(&[
        &["run", "--socket", "/proc/nobody/pool.sock"],
        &[
            "run",
            "--broker",
            "sqlite:/proc/nobody/jobs.db",
            "--socket",
            "pool.sock"
        ],
    ]));
}

#[test]
fn nobody_answers() {
    let place = Place::new();
    let socket = place.path("stale.sock");
    drop(UnixListener::bind(&socket).unwrap());
    insta::assert_snapshot!(place.transcripts(&[
        &["status"],
        &["stop", "--socket", "stale.sock"],
        &[
            "scale",
            "--max",
            "3",
            "--socket",
            &format!("/tmp/{}", "x".repeat(120))
        ],
        &["enqueue", "noop", "--broker", "sqlite:/proc/nobody/jobs.db"],
        &["wait", "x", "--broker", "sqlite:/proc/nobody/jobs.db"],
    ]));
}

#[test]
fn a_file_that_is_no_broker() {
    let place = Place::new();
    place.write("notes.txt", &"these are my notes, not a database\n".repeat(100));
    insta::assert_snapshot!(place.transcripts(&[
        &["enqueue", "noop", "--broker", "sqlite:notes.txt"],
        &["run", "--broker", "sqlite:notes.txt"],
    ]));
}

#[test]
fn a_second_supervisor_on_the_same_socket() {
    let place = Place::new();
    let _alive = occupy(&place.path("pool.sock"));
    insta::assert_snapshot!(place.transcripts(&[&["run", "--socket", "pool.sock"]]));
}

#[test]
fn a_socket_path_that_is_taken_by_something_else() {
    let place = Place::new();
    place.write("pool.sock", "precious");
    insta::assert_snapshot!(place.transcripts(&[&["run", "--socket", "pool.sock"]]));
}

#[test]
fn an_address_for_metrics_that_is_taken() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = place.transcripts(&[&["run", "--metrics-listen", &address]]);
    insta::assert_snapshot!(text.replace(&address, "127.0.0.1:9464"));
    assert!(!place.path("pool.db.sock").exists());
}

#[test]
fn jobs_that_are_not_there() {
    let place = Place::new();
    let waiting = place.lines(&["enqueue", "noop"]).remove(0);
    let later = place.lines(&["enqueue", "noop", "--in", "1d"]).remove(0);
    let text = place.transcripts(&[
        &["result", "nosuch"],
        &["wait", "nosuch"],
        &["result", &waiting],
        &["result", &later],
        &["wait", &waiting, &later, "--timeout", "0.1"],
        &["result", &waiting, "--wait=0.1"],
        &["dead", "show", "nosuch"],
        &["dead", "retry", "nosuch"],
    ]);
    insta::assert_snapshot!(hidden(
        &hidden(&text, "`default` for ", " now"),
        "it is due in ",
        "\n"
    ));
}

#[test]
fn a_task_that_nobody_knows() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    insta::assert_snapshot!(place.transcripts(&[
        &["enqueue", "fob", "{\"n\": 3}", "--wait"],
        &["enqueue", "fib", "{\"m\": 3}", "--wait"],
    ]));
}

/// The text with `[TIME]` for whatever stands between two others.
fn hidden(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(after).map_or("", |at| &part[at..]);
        shown.extend([before, "[TIME]", rest]);
    }
    shown
}
