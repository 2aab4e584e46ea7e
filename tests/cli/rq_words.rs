//! What of `rq worker` a command line may hold: it means the same here, or is refused with the reason.

use crate::kit::Place;

/// The configuration in force with these flags, or what is said against them.
fn checked(flags: &[&str]) -> (String, String) {
    let place = Place::new();
    // Nobody answers there: `check` ends after it has printed the configuration.
    let mut line = vec!["check", "--runtime", "rq"];
    if !flags
        .iter()
        .any(|flag| ["-u", "--url", "--broker", "-c"].contains(flag))
    {
        line.extend(["--broker", "redis://127.0.0.1:1"]);
    }
    line.extend(flags);
    let output = place.run(&line);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

fn assert_in_force(flags: &[&str], settings: &[&str]) {
    let (config, said) = checked(flags);
    for setting in settings {
        let found = config.lines().any(|line| line.starts_with(setting));
        assert!(found, "{flags:?} should mean {setting}:\n{config}{said}");
    }
}

fn assert_refused(flags: &[&str], why: &str) {
    let (config, said) = checked(flags);
    assert!(
        said.contains(why) && config.is_empty(),
        "{flags:?} should say {why:?}:\n{config}{said}"
    );
    assert!(!said.contains("unexpected argument"), "{said}");
}

#[test]
fn the_server_is_named_by_url() {
    for flag in ["--url", "-u"] {
        assert_in_force(
            &[flag, "redis://127.0.0.1:1/3"],
            &["url = \"redis://127.0.0.1:1/3\""],
        );
    }
}

#[test]
fn queues_stand_behind_the_options() {
    assert_in_force(&["high", "low"], &["queues = [\"high\", \"low\"]"]);
    assert_in_force(&["--queue", "high", "low"], &["queues = [\"high\", \"low\"]"]);
}

#[test]
fn no_verb_is_needed_before_them() {
    let place = Place::new();
    // Nobody answers there: it is the run that fails, not the command line.
    let output = place.run(&[
        "--runtime",
        "rq",
        "--broker",
        "redis://127.0.0.1:1",
        "-b",
        "high",
        "default",
    ]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let output = place.run(&["--broker", "redis://127.0.0.1:1", "staus"]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "elsewhere it is a verb in the wrong place"
    );
}

#[test]
fn options_of_the_worker_keep_name_and_meaning() {
    for (flags, setting) in [
        (&["--name", "web"][..], "name = \"web\""),
        (
            &["--worker-class", "rq.SimpleWorker"],
            "worker_class = \"rq.SimpleWorker\"",
        ),
        (&["-w", "rq.SimpleWorker"], "worker_class = \"rq.SimpleWorker\""),
        (&["-j", "my.Job"], "job_class = \"my.Job\""),
        (&["--queue-class", "my.Queue"], "queue_class = \"my.Queue\""),
        (&["-S", "json"], "serializer = \"json\""),
        (&["-P", "lib", "--path", "src"], "path = [\"lib\", \"src\"]"),
        (
            &["--exception-handler", "a.b", "--exception-handler", "c.d"],
            "exception_handlers = [\"a.b\", \"c.d\"]",
        ),
        (&["-d"], "disable_default_exception_handler = true"),
        (&["-s"], "with_scheduler = true"),
        (
            &["--dequeue-strategy", "round_robin"],
            "dequeue_strategy = \"round_robin\"",
        ),
        (&["-ds", "random"], "dequeue_strategy = \"random\""),
        (&["--results-ttl", "7"], "results_ttl = \"7s\""),
        (&["--results-ttl", "-1"], "results_ttl = \"forever\""),
        (&["--worker-ttl", "90"], "worker_ttl = \"1m30s\""),
        (
            &["--job-monitoring-interval", "5"],
            "job_monitoring_interval = \"5s\"",
        ),
        (&["--maintenance-interval", "60"], "maintenance_interval = \"1m\""),
        (&["--disable-job-desc-logging"], "disable_job_desc_logging = true"),
        (&["--max-jobs", "100"], "max_jobs = 100"),
        (&["--max-idle-time", "60"], "max_idle_time = \"1m\""),
        (&["--pid", "/run/rq.pid"], "pid_file = \"/run/rq.pid\""),
        (&["--connection-class", "redis.Redis"], "name = \"none\""),
    ] {
        assert_in_force(flags, &[setting]);
    }
}

#[test]
fn the_level_of_the_log_has_the_words_of_rq() {
    for (flags, level) in [
        (&["--logging_level", "WARNING"][..], "warn"),
        (&["--logging-level", "critical"], "error"),
        (&["-l", "DEBUG"], "debug"),
        (&["--verbose"], "debug"),
        (&["-v"], "debug"),
        (&["-q"], "warn"),
        (&["--logging_level", "ERROR", "--quiet"], "warn"),
    ] {
        assert_in_force(flags, &[&format!("level = \"{level}\"")]);
    }
    assert_refused(
        &["--verbose", "--quiet"],
        "`--quiet` and `--verbose` are two words for one thing",
    );
    assert_refused(&["--logging_level", "LOUD"], "no level has this name");
}

#[test]
fn the_number_of_workers_of_worker_pool_is_fixed() {
    assert_in_force(&["--num-workers", "4"], &["min_workers = 4", "max_workers = 4"]);
    assert_refused(
        &["--num-workers", "4", "--max-workers", "8"],
        "two words for one thing",
    );
    assert_refused(&["-n", "4"], "`--name NAME` or `--num-workers N`");
}

#[test]
fn a_strategy_is_the_order_of_the_pool() {
    assert_in_force(&["-ds", "round_robin"], &["order = \"round-robin\""]);
    assert_in_force(&["--order", "random"], &["order = \"random\""]);
    assert_in_force(&["-ds", "random", "--order", "random"], &["order = \"random\""]);
    assert_refused(
        &["-ds", "random", "--order", "round-robin"],
        "`--order` is \"round-robin\", another way of choosing than `--dequeue-strategy`, which is \"random\"",
    );
    assert_refused(
        &["-w", "rq.worker.RandomWorker", "--order", "strict"],
        "another way of choosing than `--worker-class`",
    );
}

#[test]
fn deprecated_worker_classes_are_strategies() {
    assert_in_force(
        &["-w", "rq.worker.RoundRobinWorker"],
        &["dequeue_strategy = \"round_robin\"", "order = \"round-robin\""],
    );
    assert_in_force(
        &["-w", "rq.worker.RandomWorker"],
        &["dequeue_strategy = \"random\""],
    );
    assert_refused(
        &["-w", "rq.worker.RandomWorker", "-ds", "default"],
        "which the class rq.worker.RandomWorker stands for",
    );
    assert_refused(
        &["-ds", "fifo"],
        "expected \"default\", \"round_robin\" or \"random\"",
    );
}

#[test]
fn what_a_pool_can_not_have_is_refused_with_the_reason() {
    assert_refused(&["--connection-class", "my.Redis"], "by a client of its own");
    assert_refused(&["--date-format", "%H:%M"], "times in ISO 8601");
    assert_refused(
        &["--log-format", "%(asctime)s %(message)s"],
        "a format of Python's logging",
    );
    assert_refused(&["--sentry-dsn", "https://x@y/1"], "sentry_sdk.init(...)");
    assert_refused(&["--sentry-ca-certs", "ca.pem"], "sentry_sdk.init(...)");
    assert_refused(&["--sentry-debug"], "sentry_sdk.init(...)");
    assert_refused(&["--config", "myapp.settings"], "--rq-config");
}

#[test]
fn variables_of_rq_are_read_below_ours() {
    let place = Place::new();
    let config = |ours: &[(&str, &str)]| {
        let rq = [
            ("RQ_REDIS_URL", "redis://127.0.0.1:1/7"),
            ("RQ_KEY_PREFIX", "acme"),
            ("RQ_JOB_CLASS", "my.Job"),
            ("RQ_QUEUE_CLASS", "my.Queue"),
            ("RQ_WORKER_CLASS", "my.Worker"),
        ];
        let variables: Vec<_> = rq.iter().chain(ours).copied().collect();
        String::from_utf8(place.command(["check"]).envs(variables).output().unwrap().stdout).unwrap()
    };
    let rq = config(&[("POOL_RUNTIME", "rq"), ("POOL_JOB_CLASS", "our.Job")]);
    for line in [
        "url = \"redis://127.0.0.1:1/7\"",
        "key_prefix = \"acme\"",
        "job_class = \"our.Job\"",
        "queue_class = \"my.Queue\"",
    ] {
        assert!(rq.contains(line), "{line}: {rq}");
    }
    let native = config(&[]);
    assert!(
        native.contains("url = \"sqlite:") && !native.contains("key_prefix") && !native.contains("acme"),
        "{native}"
    );
}

#[test]
fn a_connection_class_of_the_environment_is_refused_too() {
    let place = Place::new();
    let variables = [("RQ_CONNECTION_CLASS", "my.Redis"), ("POOL_RUNTIME", "rq")];
    let output = place.command(["check"]).envs(variables).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("RQ_CONNECTION_CLASS"));
}

#[test]
fn without_a_url_the_server_is_where_rq_looks_for_it() {
    let place = Place::new();
    let url = |variables: &[(&str, &str)]| {
        let all: Vec<_> = [("POOL_RUNTIME", "rq")]
            .iter()
            .chain(variables)
            .copied()
            .collect();
        // The port is nobody's, or a server's that holds nothing of interest: only the configuration counts.
        let config = String::from_utf8(place.command(["check"]).envs(all).output().unwrap().stdout).unwrap();
        let line = config
            .lines()
            .find(|line| line.starts_with("url = "))
            .unwrap_or_default();
        line.split('"').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(
        url(&[("REDIS_URL", "redis://127.0.0.1:1/2")]),
        "redis://127.0.0.1:1/2"
    );
    let parts = [
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", "1"),
        ("REDIS_PASSWORD", "p/w"),
    ];
    assert_eq!(url(&parts), "redis://***@127.0.0.1:1/0");
    assert_eq!(url(&[]), "redis://localhost:6379/0");
}

#[test]
fn a_settings_module_is_weaker_than_all_else_that_is_said() {
    let place = Place::new();
    let module =
        "REDIS_URL = 'redis://127.0.0.1:1/5'\nQUEUES = ['high', 'low']\nNAME = 'web'\nprint('hello')\n";
    place.write("rq_settings.py", module);
    let config = |flags: &[&str]| {
        let output = place.run(&[&["check", "--runtime", "rq"], flags].concat());
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for flags in [["--rq-config", "rq_settings"], ["-c", "rq_settings"]] {
        let (found, said) = config(&flags);
        for line in [
            "url = \"redis://127.0.0.1:1/5\"",
            "queues = [\"high\", \"low\"]",
            "name = \"web\"",
        ] {
            assert!(found.contains(line), "{line}: {found}{said}");
        }
        assert!(found.contains("# QUEUES of rq_settings"), "{found}");
    }
    let (found, _) = config(&[
        "-c",
        "rq_settings",
        "--name",
        "mine",
        "-u",
        "redis://127.0.0.1:1/6",
        "urgent",
    ]);
    for line in [
        "url = \"redis://127.0.0.1:1/6\"",
        "queues = [\"urgent\"]",
        "name = \"mine\"",
    ] {
        assert!(found.contains(line), "{line}: {found}");
    }
    let (_, said) = config(&["-c", "no_such_module"]);
    assert!(said.contains("No module named 'no_such_module'"), "{said}");
}
