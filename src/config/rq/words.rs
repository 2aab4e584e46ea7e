//! Flags of `rq worker` and `rq worker-pool` that are no settings here: those that have another name, and those that
//! can't hold for a pool, with the reason. None is ignored.
//!
//! Source: `rq/cli/workers.py`, `rq/cli/helpers.py`; the flags for Sentry are of RQ 1 and 2.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches};

use crate::config::problem::{Origin, Problem};

/// A flag that RQ knows.
pub(in crate::config) struct Word {
    /// Its name without dashes; of one that has only a letter, that letter.
    pub flag: &'static str,
    short: Option<char>,
    /// What its value is; empty: it has none.
    value: &'static str,
    meaning: fn(&str) -> Meaning,
}

/// What a flag with this value means here.
enum Meaning {
    /// These flags.
    Flags(Vec<(&'static str, String)>),
    /// It can't hold: why, and what to do.
    Refused(&'static str, &'static str),
}

const WORDS: [Word; 14] = [
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
    word("num-workers", None, "N", |count| {
        Flags(vec![
            ("min-workers", count.to_owned()),
            ("max-workers", count.to_owned()),
        ])
    }),
    word("n", Some('n'), "VALUE", |_| {
        Refused(
            "it is the name in `rq worker` and the number of workers in `rq worker-pool`",
            "say `--name NAME` or `--num-workers N`",
        )
    }),
    word("c", Some('c'), "MODULE", |module| {
        Flags(vec![("rq-config", module.to_owned())])
    }),
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

use Meaning::{Flags, Refused};

const fn word(
    flag: &'static str,
    short: Option<char>,
    value: &'static str,
    meaning: fn(&str) -> Meaning,
) -> Word {
    Word {
        flag,
        short,
        value,
        meaning,
    }
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
            return Refused(
                "no level has this name",
                "say DEBUG, INFO, WARNING, ERROR or CRITICAL",
            );
        }
    };
    Flags(vec![("log-level", level.to_owned())])
}

/// The letter that `rq worker` has for one of our own flags.
pub(in crate::config) fn short_of(flag: &str) -> Option<char> {
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

/// The words as clap takes them: not shown in `--help`, which has our own name of each.
pub(in crate::config) fn args() -> impl Iterator<Item = Arg> {
    WORDS.iter().map(|word| {
        let arg = Arg::new(word.flag).hide(true);
        let arg = match word.value {
            "" => arg.action(ArgAction::SetTrue),
            value => arg.value_name(value).action(ArgAction::Set),
        };
        let arg = if word.flag.len() > 1 {
            arg.long(word.flag)
        } else {
            arg
        };
        match word.short {
            Some(letter) => arg.short(letter),
            None => arg,
        }
    })
}

/// The words on a command line with their values.
pub(in crate::config) fn given(matches: &ArgMatches) -> impl Iterator<Item = (&'static str, String)> {
    WORDS.iter().filter_map(|word| match word.value {
        "" => matches.get_flag(word.flag).then(|| (word.flag, String::new())),
        _ => matches
            .get_one::<String>(word.flag)
            .map(|value| (word.flag, value.clone())),
    })
}

/// The variables of RQ that stand for a flag of ours, by that flag: the variable's name and its text.
///
/// They hold under the rq runtime, below our own. Source: `rq/cli/helpers.py`; `rq/defaults.py`.
pub(in crate::config) fn variables(
    env: impl Fn(&str) -> Option<String>,
) -> BTreeMap<&'static str, (&'static str, String)> {
    let names = [
        ("broker", "RQ_REDIS_URL"),
        ("rq-config", "RQ_CONFIG"),
        ("worker-class", "RQ_WORKER_CLASS"),
        ("job-class", "RQ_JOB_CLASS"),
        ("queue-class", "RQ_QUEUE_CLASS"),
        ("key-prefix", "RQ_KEY_PREFIX"),
        ("connection-class", "RQ_CONNECTION_CLASS"),
    ];
    names
        .into_iter()
        .filter_map(|(flag, name)| Some((flag, (name, env(name)?))))
        .collect()
}

/// The problem with a class for connections that a variable names, if it is one.
pub(in crate::config) fn connection_variable(name: &str, class: &str) -> Option<Problem> {
    match connection_class(class) {
        Flags(_) => None,
        Refused(why, hint) => Some(Problem {
            key: "rq.".to_owned(),
            origin: Origin::Environment(name.to_owned()),
            message: format!("`{name}` is a variable of RQ that a pool can't heed: {why}"),
            hint: Some(hint.to_owned()),
        }),
    }
}

/// A command line as RQ reads it: `-ds` is one word there, and would be `-d -s` here.
pub fn spelled_out(
    words: impl Iterator<Item = std::ffi::OsString>,
) -> impl Iterator<Item = std::ffi::OsString> {
    words.map(|word| match word.to_str() {
        Some("-ds") => "--dequeue-strategy".into(),
        _ => word,
    })
}

/// Puts what RQ's words mean among the flags; the problems are those that can't be put there.
pub(in crate::config) fn translate(
    given: &BTreeMap<&'static str, String>,
    flags: &mut BTreeMap<&'static str, Vec<String>>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut set_by: BTreeMap<&'static str, &'static str> = BTreeMap::new();
    for word in &WORDS {
        let Some(value) = given.get(word.flag) else {
            continue;
        };
        let name = dashed(word.flag);
        let meant = match (word.meaning)(value) {
            Flags(meant) => meant,
            Refused(why, hint) => {
                let message = format!("`{name}` is an option of RQ that a pool can't have: {why}");
                problems.push(problem(name, message, hint));
                continue;
            }
        };
        for (flag, value) in meant {
            // As in RQ `--verbose` and `--quiet` are stronger than a level.
            let by_level = set_by.get(flag).is_some_and(|by| by.starts_with("logging"));
            if flags.contains_key(flag) && !by_level {
                let other = dashed(set_by.get(flag).copied().unwrap_or(flag));
                let message = format!("`{name}` and `{other}` are two words for one thing");
                problems.push(problem(name.clone(), message, "say one of them"));
                continue;
            }
            flags.insert(flag, vec![value]);
            set_by.insert(flag, word.flag);
        }
    }
    let format = flags.get("log-format").and_then(|texts| texts.last());
    if format.is_some_and(|format| format.contains("%(")) {
        flags.remove("log-format");
        let message = "`--log-format` is a format of Python's logging; the supervisor writes the log, as \"text\" or \"json\"";
        problems.push(problem(
            "--log-format".to_owned(),
            message.to_owned(),
            "leave it out",
        ));
    }
    problems
}

fn dashed(flag: &str) -> String {
    let dashes = if flag.len() > 1 { "--" } else { "-" };
    format!("{dashes}{flag}")
}

fn problem(flag: String, message: String, hint: &str) -> Problem {
    Problem {
        // A flag of a supervisor: of no matter to those who ask it.
        key: "rq.".to_owned(),
        origin: Origin::Flag(flag),
        message,
        hint: Some(hint.to_owned()),
    }
}
