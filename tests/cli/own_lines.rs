//! Command lines of other programs, taken as they are: `pool rq worker …`.

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
fn a_file_printed_for_a_line_is_read_as_that_line() {
    let place = Place::new();
    let line = [
        "rq",
        "worker-pool",
        "-n",
        "3",
        "--url",
        "redis://h/3",
        "-s",
        "high",
        "low",
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
fn other_commands_are_left_to_their_program() {
    let output = Place::new().run(&["rq", "info"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("unrecognized subcommand"), "{said}");
}
