//! The command line of `celery worker`: each option means the same here, or is refused with the reason.
//!
//! Source: `celery/bin/celery.py`, `celery/bin/worker.py`, `celery/bin/base.py` of Celery 5.7.

use super::values::Level;
use crate::config::dialect::Meaning::{Flags, Mistaken, Refused};
use crate::config::dialect::{Line, Meaning, Word, word};
use crate::sys::cpu::processors;

pub(super) const LINES: [Line; 1] = [Line {
    command: "worker",
    words: &WORDS,
    anywhere: true,
    has_queues: false,
    others: "the other commands of Celery (beat, inspect, flower …) are run by `celery` itself",
}];

const WORDS: [Word; 45] = [
    // Of `celery` itself.
    word("app", Some('A'), "APP", |app| as_here("app", app)),
    word("broker", Some('b'), "URL", |url| as_here("broker", url)),
    word("result-backend", None, "URL", |url| {
        as_here("result-backend", url)
    }),
    word("loader", None, "CLASS", |class| as_here("celery-loader", class)),
    word("config", None, "MODULE", |module| {
        as_here("celery-config", module)
    }),
    word("workdir", None, "DIRECTORY", |path| as_here("directory", path)),
    word("no-color", Some('C'), "", |_| nothing()),
    word("quiet", Some('q'), "", |_| nothing()),
    word("skip-checks", None, "", |_| as_here("skip-checks", "true")),
    // Of the worker.
    word("hostname", Some('n'), "NAME", |name| as_here("hostname", name)),
    word("loglevel", Some('l'), "LEVEL", level),
    word("optimization", Some('O'), "PROFILE", |profile| match profile {
        // A job goes to a worker that is free, whatever the profile.
        "default" | "fair" => nothing(),
        _ => Mistaken("no profile has this name", "say default or fair"),
    }),
    word("prefetch-multiplier", None, "N", prefetch_multiplier),
    word("disable-prefetch", None, "", |_| as_here("prefetch", "0")),
    word("concurrency", Some('c'), "N", concurrency),
    word("autoscale", None, "MAX,MIN", autoscale),
    word("pool", Some('P'), "POOL", kind_of_pool),
    word("pool-start-method", None, "METHOD", |method| match method {
        "fork" => nothing(),
        _ => Refused(
            "workers are forked from the loaded application",
            "say fork, or leave it out",
        ),
    }),
    word("task-events", Some('E'), "", events),
    word("events", None, "", events),
    word("time-limit", None, "SECONDS", |limit| {
        as_here("time-limit", limit)
    }),
    word("soft-time-limit", None, "SECONDS", |limit| {
        as_here("soft-time-limit", limit)
    }),
    word("max-tasks-per-child", None, "N", |count| {
        as_here("max-jobs", count)
    }),
    word("max-memory-per-child", None, "KIB", |kib| {
        as_here("max-worker-memory", &format!("{kib}KiB"))
    }),
    word("purge", None, "", purge),
    word("discard", None, "", purge),
    word("queues", Some('Q'), "NAMES", |names| list("queue", names)),
    word("exclude-queues", Some('X'), "NAMES", |names| {
        list("exclude-queue", names)
    }),
    word("include", Some('I'), "MODULES", |names| list("include", names)),
    // There is no gossip to leave out.
    word("without-gossip", None, "", |_| nothing()),
    word("without-mingle", None, "", |_| as_here("mingle", "false")),
    word("without-heartbeat", None, "", |_| {
        as_here("heartbeat-interval", "none")
    }),
    word("heartbeat-interval", None, "SECONDS", |seconds| {
        as_here("heartbeat-interval", seconds)
    }),
    word("statedb", Some('S'), "PATH", |path| as_here("statedb", path)),
    word("beat", Some('B'), "", beat),
    word("schedule-filename", Some('s'), "PATH", beat),
    word("schedule", None, "PATH", beat),
    word("scheduler", None, "CLASS", beat),
    // Of all that may run in the background.
    word("detach", Some('D'), "", |_| {
        Refused(
            "it stays in the foreground",
            "let systemd run it: see deploy/systemd/",
        )
    }),
    word("logfile", Some('f'), "PATH", |_| {
        Refused("the log goes to standard error", "redirect it: `2>>FILE`")
    }),
    word("pidfile", None, "PATH", |path| as_here("pid-file", path)),
    word("uid", None, "USER", user),
    word("gid", None, "GROUP", user),
    word("umask", None, "MASK", user),
    word("executable", None, "PATH", |_| {
        Refused(
            "workers are forks of one interpreter",
            "name it by `--python PATH`",
        )
    }),
];

/// As in Celery `--autoscale` is stronger than a fixed number.
pub(super) fn gives_way(earlier: &str, later: &str) -> bool {
    (earlier, later) == ("concurrency", "autoscale")
}

fn as_here(flag: &'static str, text: &str) -> Meaning {
    Flags(vec![(flag, text.to_owned())])
}

fn nothing() -> Meaning {
    Flags(Vec::new())
}

/// Names with commas between. Source: `kombu/utils/text.py`, `str_to_list`.
fn list(flag: &'static str, names: &str) -> Meaning {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    Flags(names.map(|name| (flag, name.to_owned())).collect())
}

fn workers(min: u64, max: u64) -> Meaning {
    Flags(vec![
        ("min-workers", min.to_string()),
        ("max-workers", max.to_string()),
    ])
}

fn concurrency(count: &str) -> Meaning {
    match (count, count.parse::<u64>()) {
        ("auto", _) => {
            let processors = u64::from(processors().usable);
            workers(processors, processors)
        }
        ("", _) | (_, Ok(0)) => nothing(),
        (_, Ok(count)) => workers(count, count),
        (_, Err(_)) => Mistaken("it is no number of workers", "say a whole number, or auto"),
    }
}

fn autoscale(limits: &str) -> Meaning {
    let numbers: Result<Vec<u64>, _> = limits.split(',').map(|number| number.trim().parse()).collect();
    match numbers.as_deref() {
        Ok([max]) => workers(0, *max),
        Ok([one, other]) => workers(*one.min(other), *one.max(other)),
        _ => Mistaken(
            "it is not one or two numbers of workers",
            "say `--autoscale=MAX,MIN`",
        ),
    }
}

/// So many messages for each worker, the running one among them.
fn prefetch_multiplier(count: &str) -> Meaning {
    match count.parse::<u32>() {
        // Celery takes 0 here as its setting; the pool's own bound is about 10 ms of work.
        Ok(0) => nothing(),
        Ok(count) => as_here("prefetch", &(count - 1).to_string()),
        Err(_) => Mistaken("it is no number", "say a whole number, 1 or more"),
    }
}

fn kind_of_pool(name: &str) -> Meaning {
    match name {
        "prefork" | "processes" => nothing(),
        "solo" => workers(1, 1),
        _ => Refused(
            "a worker here is a process that runs one task at a time",
            "say prefork or solo; keep `celery worker` for threads, gevent and eventlet",
        ),
    }
}

fn level(name: &str) -> Meaning {
    let levels = [
        (Level::Debug, "debug"),
        (Level::Info, "info"),
        (Level::Warning, "warn"),
        (Level::Error, "error"),
        (Level::Critical, "error"),
    ];
    let name = match name.to_ascii_uppercase().as_str() {
        "FATAL" => "CRITICAL".to_owned(),
        name => name.to_owned(),
    };
    let found = levels.iter().find(|(level, _)| level.name() == name);
    match found {
        Some((_, own)) => Flags(vec![("loglevel", name), ("log-level", (*own).to_owned())]),
        None => Mistaken(
            "no level has this name",
            "say DEBUG, INFO, WARNING, ERROR or CRITICAL",
        ),
    }
}

fn events(_: &str) -> Meaning {
    as_here("task-events", "true")
}

fn purge(_: &str) -> Meaning {
    as_here("purge", "true")
}

fn beat(_: &str) -> Meaning {
    Refused(
        "the scheduler is a program of its own",
        "run `celery -A APP beat` beside it",
    )
}

fn user(_: &str) -> Meaning {
    Refused(
        "it runs as the user who starts it",
        "let systemd change the user: `User=` in the unit",
    )
}
