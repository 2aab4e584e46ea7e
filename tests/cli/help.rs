//! What `--help` says, under review.

use crate::kit::Place;

macro_rules! help_of {
    ($($name:ident: $($arg:literal)*;)+) => {$(
        #[test]
        fn $name() {
            let place = Place::new();
            let args = [$($arg,)* "--help"];
            insta::assert_snapshot!(place.transcript(&args, &place.run(&args)));
        }
    )+};
}

help_of! {
    help_of_the_program:;
    help_of_run: "run";
    help_of_enqueue: "enqueue";
    help_of_wait: "wait";
    help_of_result: "result";
    help_of_jobs: "jobs";
    help_of_jobs_show: "jobs" "show";
    help_of_queues: "queues";
    help_of_status: "status";
    help_of_explain: "explain";
    help_of_metrics: "metrics";
    help_of_health: "health";
    help_of_scale: "scale";
    help_of_pause: "pause";
    help_of_resume: "resume";
    help_of_reload: "reload";
    help_of_drain: "drain";
    help_of_stop: "stop";
    help_of_dead: "dead";
    help_of_dead_list: "dead" "list";
    help_of_dead_show: "dead" "show";
    help_of_dead_retry: "dead" "retry";
    help_of_dead_delete: "dead" "delete";
    help_of_schedules: "schedules";
    help_of_schedules_list: "schedules" "list";
    help_of_schedules_pause: "schedules" "pause";
    help_of_demo: "demo";
    help_of_simulate: "simulate";
    help_of_completions: "completions";
    help_of_man: "man";
}

#[test]
fn check_takes_the_flags_of_run() {
    let place = Place::new();
    let flags_of = |verb: &str| -> Vec<String> {
        let lines = place.lines(&[verb, "--help"]);
        lines
            .into_iter()
            .filter(|line| line.trim_start().starts_with("--"))
            .collect()
    };
    assert!(flags_of("check").len() > 40);
    assert_eq!(flags_of("check"), flags_of("run"));
}

#[test]
fn completions_know_the_verbs_and_their_flags() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.lines(&["completions", shell]).join("\n");
        for word in ["enqueue", "result-ttl", "max-workers"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn each_verb_has_a_man_page_of_its_own() {
    let place = Place::new();
    assert!(place.run(&["man", "."]).status.success());
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    for verb in ["run", "enqueue", "dead-list", "health"] {
        let page = read(&format!("pool-{verb}.1"));
        assert!(page.contains(&format!(".TH pool-{verb} 1")), "{page}");
    }
    assert!(read("pool.1").contains("pool\\-enqueue(1)"));
    let nowhere = place.run(&["man", "nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(said.contains("cannot write the man pages to `nowhere`"), "{said}");
}

#[test]
fn the_man_page_has_its_sections() {
    let page = Place::new().lines(&["man"]).join("\n");
    for section in [".TH pool 1", ".SH SYNOPSIS", "pool\\-enqueue(1)"] {
        assert!(page.contains(section), "{section} in {page}");
    }
}

#[test]
fn help_and_version_are_found_where_people_look_for_them() {
    let place = Place::new();
    assert_eq!(
        place.lines(&["help", "dead", "list"]),
        place.lines(&["dead", "list", "--help"])
    );
    assert_eq!(place.lines(&["-v"]), place.lines(&["--version"]));
    assert!(
        place
            .lines(&["help"])
            .iter()
            .any(|line| line.trim_start().starts_with("man "))
    );
}

#[test]
fn help_takes_a_verb_like_the_flag() {
    let place = Place::new();
    let outputs = |args: &[&str]| {
        let output = place.run(args);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(
        outputs(&["help", "dead", "list"]),
        outputs(&["dead", "list", "--help"])
    );
    assert_eq!(outputs(&["help"]), outputs(&["--help"]));
    assert_eq!(outputs(&["help", "nosuch"]).0, Some(2));
}

#[test]
fn top_is_the_status_that_is_watched() {
    let place = Place::new();
    assert_eq!(
        place.lines(&["top", "--help"]),
        place.lines(&["status", "--help"])
    );
    assert_eq!(
        place.run(&["top"]).status.code(),
        place.run(&["status", "--watch"]).status.code()
    );
    let both = place.run(&["top", "--json"]);
    assert_eq!(both.status.code(), Some(2), "nothing is watched as JSON");
}

#[test]
fn the_program_tells_of_the_command_lines_that_it_takes_as_they_are() {
    let place = Place::new();
    let help = place.lines(&["help"]).join(" ");
    assert!(help.contains("`pool rq …` and `pool celery …` take"), "{help}");
    // Each shows its own settings, and none of the other's.
    for (program, own, others) in [
        ("rq", "--rq-config", "--celery-config"),
        ("celery", "--celery-config", "--rq-config"),
    ] {
        let help = place.lines(&[program, "worker", "--help"]).join("\n");
        assert!(!help.contains(others), "{help}");
        assert!(help.contains(own), "{help}");
    }
}

#[test]
fn a_flag_ahead_of_its_verb_is_told_its_place() {
    let output = Place::new().run(&["--broker", "sqlite:jobs.db", "status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("as in `pool status --broker URL`"), "{said}");
}
