//! Flags of `rq worker` and `rq worker-pool` that are no settings here: those that have another name, and those that
//! can't hold for a pool, with the reason.
//!
//! Source: `rq/cli/workers.py`, `rq/cli/helpers.py`; the flags for Sentry are of RQ 1 and 2.

use crate::config::dialect::Meaning::{Flags, Mistaken, Refused};
use crate::config::dialect::{Line, Meaning, Word, word};
use crate::config::problem::{Origin, Problem};

pub(super) const WORDS: [Word; 14] = [
    word("connection-class", None, "CLASS", connection_class),
    word("date-format", None, "FORMAT", |_| {
        Refused(
            "the supervisor writes the log, with times in ISO 8601 and UTC",
            "leave it out",
        )
    }),
    word("logging_level", None, "LEVEL", level),
    word("logging-level", Some('l'), "LEVEL", level),
    word("verbose", Some('v'), "", |_| {
        Flags(vec![("log-level", "debug".to_owned())])
    }),
    word("quiet", Some('q'), "", |_| {
        Flags(vec![("log-level", "warn".to_owned())])
    }),
    word("num-workers", None, "N", num_workers),
    word("n", Some('n'), "VALUE", |_| {
        Refused(
            "it is the name in `rq worker` and the number of workers in `rq worker-pool`",
            "say `--name NAME` or `--num-workers N`",
        )
    }),
    word("c", Some('c'), "MODULE", config),
    word("pid", None, "PATH", |path| {
        Flags(vec![("pid-file", path.to_owned())])
    }),
    word("sentry-dsn", None, "DSN", sentry),
    word("sentry-ca-certs", None, "PATH", sentry),
    word("sentry-debug", None, "", sentry),
    word("death-penalty-class", None, "CLASS", |_| {
        Refused(
            "the pool interrupts a job itself when its time is over, and kills its worker when that did not help",
            "leave it out; `kill_grace` is the time between the two",
        )
    }),
];

/// What `-n` and `-c` are depends on the command.
pub(super) const LINES: [Line; 2] = [
    Line {
        command: "worker",
        words: &[
            word("name", Some('n'), "NAME", |name| {
                Flags(vec![("name", name.to_owned())])
            }),
            CONFIG,
        ],
        anywhere: false,
        has_queues: true,
        others: OTHERS,
    },
    Line {
        command: "worker-pool",
        words: &[word("num-workers", Some('n'), "N", num_workers), CONFIG],
        anywhere: false,
        has_queues: true,
        others: OTHERS,
    },
];
const CONFIG: Word = word("config", Some('c'), "MODULE", config);
const OTHERS: &str = "the other commands of RQ (info, cron, suspend …) are run by `rq` itself";

fn config(module: &str) -> Meaning {
    Flags(vec![("rq-config", module.to_owned())])
}

fn num_workers(count: &str) -> Meaning {
    Flags(vec![
        ("min-workers", count.to_owned()),
        ("max-workers", count.to_owned()),
    ])
}

fn connection_class(class: &str) -> Meaning {
    match class {
        "redis.Redis" | "redis.StrictRedis" | "redis.client.Redis" => Flags(Vec::new()),
        _ => Refused(
            "the supervisor takes the jobs from Redis, by a client of its own",
            "host, user, password, TLS and Sentinels are said in the URL: see docs/rq.md",
        ),
    }
}

fn sentry(_: &str) -> Meaning {
    Refused(
        "RQ 3 has it no more, and the error tracker belongs to the application",
        "call `sentry_sdk.init(...)` in a module that you name with `--preload`",
    )
}

/// Source: Python's `logging`; ours knows nothing above an error.
fn level(name: &str) -> Meaning {
    let level = match name.to_ascii_uppercase().as_str() {
        "DEBUG" => "debug",
        "INFO" => "info",
        "WARN" | "WARNING" => "warn",
        "ERROR" | "CRITICAL" | "FATAL" => "error",
        _ => {
            return Mistaken(
                "no level has this name",
                "say DEBUG, INFO, WARNING, ERROR or CRITICAL",
            );
        }
    };
    Flags(vec![("log-level", level.to_owned())])
}

/// The letter that `rq worker` has for one of our own flags.
pub(super) fn short_of(flag: &str) -> Option<char> {
    Some(match flag {
        "broker" => 'u',
        "worker-class" => 'w',
        "job-class" => 'j',
        "path" => 'P',
        "serializer" => 'S',
        "with-scheduler" => 's',
        "disable-default-exception-handler" => 'd',
        _ => return None,
    })
}

/// The variables of RQ, each with our flag. Source: `rq/cli/helpers.py`; `rq/defaults.py`.
pub(super) const VARIABLES: [(&str, &str); 7] = [
    ("broker", "RQ_REDIS_URL"),
    ("rq-config", "RQ_CONFIG"),
    ("worker-class", "RQ_WORKER_CLASS"),
    ("job-class", "RQ_JOB_CLASS"),
    ("queue-class", "RQ_QUEUE_CLASS"),
    ("key-prefix", "RQ_KEY_PREFIX"),
    (CONNECTION_CLASS, "RQ_CONNECTION_CLASS"),
];
const CONNECTION_CLASS: &str = "connection-class";

/// The problem with a class for connections that a variable names, if it is one.
pub(super) fn variable_problem(name: &str, class: &str) -> Option<Problem> {
    if name != "RQ_CONNECTION_CLASS" {
        return None;
    }
    match connection_class(class) {
        Flags(_) => None,
        Refused(why, hint) | Mistaken(why, hint) => Some(Problem {
            key: "rq.".to_owned(),
            origin: Origin::Environment(name.to_owned()),
            message: format!("`{name}` is a variable of RQ that a pool can't heed: {why}"),
            hint: Some(hint.to_owned()),
        }),
    }
}

/// As in RQ `--verbose` and `--quiet` are stronger than a level.
pub(super) fn gives_way(earlier: &str, _later: &str) -> bool {
    earlier.starts_with("logging")
}

/// A format of Python's logging.
pub(super) fn refused_value(flag: &str, text: &str) -> Option<(&'static str, &'static str)> {
    (flag == "log-format" && text.contains("%(")).then_some((
        "is a format of Python's logging; the supervisor writes the log, as \"text\" or \"json\"",
        "leave it out",
    ))
}
