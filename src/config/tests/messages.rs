//! What is said about wrong settings, word for word.

use std::path::Path;

use super::*;
use crate::job::QueueName;
use crate::time::Unix;

/// The message for a wrong file, without the directory that it happened to be in.
fn problems(text: &str) -> String {
    problems_of(text, &[], &[])
}

fn problems_of(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> String {
    let errors = load_from(text, variables, flags).expect_err("the settings are wrong");
    let message = errors.to_string();
    let (before, after) = match message.split_once("`/") {
        Some((before, rest)) if rest.contains("config.toml") => {
            let (_, after) = rest.split_once("config.toml").unwrap();
            (format!("{before}`config.toml"), after.to_owned())
        }
        _ => (message, String::new()),
    };
    before + &after
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    insta::assert_snapshot!(problems(
        "[defaults]
max_worker = 3
min_workers = 'two'
[pools.mail]
max_workers = 0
utilization_threshold = 1.5
[broker]
lease = '10s'
heartbeat = '5s'
"), @r#"
    5 problems in `config.toml`
      line 2: unknown key `defaults.max_worker`; did you mean `max_workers`?
      line 3: `defaults.min_workers` is the string "two"; expected a whole number, 0 or more
      line 5: `pools.mail.max_workers` is 0; expected from 1 to 10000
      line 6: `pools.mail.utilization_threshold` is 1.5; expected above 0, up to 1
      line 9: `broker.lease` is 10s, shorter than three times `broker.heartbeat`, which is 5s
    hint: a lease must outlive three heartbeats; set `broker.lease` to 15s or more
    "#);
}

#[test]
fn flags_variables_and_file_are_told_together() {
    let text = "[broker]\nheartbeat = 'soon'\n";
    let variables = [("POOL_SCALING_PERIOD", "5 parsecs")];
    insta::assert_snapshot!(problems_of(text, &variables, &["--max-workers", "-1"]), @r#"
    3 problems in `config.toml`, the environment and the flags
      line 2: `broker.heartbeat` is the string "soon"; expected a duration such as `500ms`, `5s`, `1m30s`, `1h`, or a number of seconds
      `POOL_SCALING_PERIOD` is "5 parsecs"; expected a duration such as `500ms`, `5s`, `1m30s`, `1h`, or a number of seconds
      `--max-workers` is "-1"; expected a whole number, so many for each processor such as "2/cpu", or "auto"
    "#);
}

#[test]
fn a_limit_that_contradicts_another_is_told_where_the_stronger_one_stands() {
    insta::assert_snapshot!(problems("[pools.default]\nmin_workers = 4\nmax_workers = 2\n"), @r#"
    1 problem in `config.toml`
      line 3: `pools.default.max_workers` is 2, below `pools.default.min_workers`, which is 4
    "#);
    insta::assert_snapshot!(problems_of("[defaults]\nmin_workers = 8\n", &[], &["--max-workers", "3"]), @r#"
    1 problem in the flags
      `--max-workers` is 3, below `defaults.min_workers`, which is 8
    "#);
}

#[test]
fn every_syntax_error_has_its_line() {
    insta::assert_snapshot!(problems("[broker\nurl = \n[app]\nruntime = 'native'\nruntime = 'python'\n"), @r#"
    2 problems in `config.toml`
      line 1: not TOML: unclosed table, expected `]`
      line 5: not TOML: duplicate key
    "#);
}

#[test]
fn unknown_keys_name_the_one_that_was_meant() {
    insta::assert_snapshot!(problems(
        "max_worker = 3
[brokr]
[broker]
url2 = 1
max-payload = 5
[log]
lease = 5
[pools.mail]
Queues = []
[tasks.x]
comand = ['x']
"), @r#"
    7 problems in `config.toml`
      line 1: unknown key `max_worker`
      line 2: unknown key `brokr`; did you mean `broker`?
      line 4: unknown key `broker.url2`; did you mean `url`?
      line 5: unknown key `broker.max-payload`; did you mean `max_payload`?
      line 7: unknown key `log.lease`
      line 9: unknown key `pools.mail.Queues`; did you mean `queues`?
      line 11: unknown key `tasks.x.comand`; did you mean `command`?
    hint: `max_workers` belongs in `[defaults]` or `[pools.NAME]`
    hint: `lease` belongs in `[broker]`
    "#);
}

#[test]
fn metrics_that_others_can_read_want_a_token() {
    insta::assert_snapshot!(problems("[metrics]\nlisten = 'localhost:9464'\n"), @r#"
    1 problem in `config.toml`
      line 2: `metrics.listen` is the string "localhost:9464"; expected an IP address and a port such as `127.0.0.1:9464` or `[::1]:9464` or "none"
    "#);
    insta::assert_snapshot!(problems("[metrics]\nlisten = '0.0.0.0:9464'\n"), @r"
    1 problem in `config.toml`
      line 2: `metrics.listen` is 0.0.0.0:9464, which others can reach, and no token is asked for
    hint: name a file with a token in `metrics.token_file`, or listen on 127.0.0.1
    ");
    insta::assert_snapshot!(problems("[metrics]\ntoken_file = '/t'\n"), @r#"
    1 problem in `config.toml`
      line 2: `metrics.token_file` is set, and metrics are not served
    hint: set `metrics.listen`, for example to "127.0.0.1:9464"
    "#);
    let flags = ["--metrics-listen", ":9464"];
    insta::assert_snapshot!(problems_of("[metrics]\nlistn = '[::1]:9464'\n", &[], &flags), @r#"
    2 problems in `config.toml` and the flags
      line 2: unknown key `metrics.listn`; did you mean `listen`?
      `--metrics-listen` is ":9464"; expected an IP address and a port such as `127.0.0.1:9464` or `[::1]:9464` or "none"
    "#);
}

#[test]
fn a_wrong_broker_is_one_problem() {
    insta::assert_snapshot!(problems("[broker]\nurl = 'kafka://ann:secret@host/0'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.url` is the string "kafka://***@host/0"; expected a broker URL: `sqlite:PATH` for the embedded broker, `redis://HOST` for a Redis server, `amqp://HOST` for RabbitMQ, or `memory:`
    "#);
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_what_was_expected() {
    insta::assert_snapshot!(problems(
        "socket = 5
pools = 3
[broker]
url = 'redis+foo://ann:secret@host/0'
lease = true
max_payload = '5 bananas'
fsync = 'yes'
[app]
runtime = 'ruby'
isolation = 1979-05-27
preload = 'myapp'
modules = ['myapp', 5]
environment = { A = 1, 'B=C' = 'x' }
[defaults]
queues = ['']
order = 'fifo'
min_workers = 2.5
max_workers = 99999999999999999999
utilization_threshold = 'half'
max_memory = '150%'
prefetch = 'some'
max_jobs = 0
max_age = 0
max_worker_memory = -1
policy = 'vibes'
[log]
format = 'xml'
level = 'inof'
"), @r#"
    25 problems in `config.toml`
      line 1: `socket` is 5; expected a path
      line 2: `pools` is 3; expected a table `[pools]`
      line 4: `broker.url` is the string "redis+foo://***@host/0"; expected a broker URL: `sqlite:PATH` for the embedded broker, `redis://HOST` for a Redis server, `amqp://HOST` for RabbitMQ, or `memory:`
      line 5: `broker.lease` is true; expected a duration such as `500ms`, `5s`, `1m30s`, `1h`, or a number of seconds
      line 6: `broker.max_payload` is the string "5 bananas"; expected a size such as `512M`, `2GiB` or a number of bytes
      line 7: `broker.fsync` is the string "yes"; expected true or false
      line 9: `app.runtime` is the string "ruby"; expected "native", "command", "python", "rq" or "celery"
      line 10: `app.isolation` is 1979-05-27; expected "warm" or "fresh"
      line 11: `app.preload` is the string "myapp"; expected an array such as `["a", "b"]`
      line 12: `app.modules[1]` is 5; expected a string
      line 13: `app.environment."B=C"` is no name of a variable; expected a name without `=`
      line 13: `app.environment.A` is 1; expected a string
      line 15: `defaults.queues[0]` is the string ""; expected a queue's name; this one is empty
      line 16: `defaults.order` is the string "fifo"; expected "strict", "round-robin" or "random"
      line 17: `defaults.min_workers` is 2.5; expected a whole number, 0 or more
      line 18: `defaults.max_workers` is 99999999999999999999; expected a whole number, so many for each processor such as "2/cpu", or "auto"
      line 19: `defaults.utilization_threshold` is the string "half"; expected "auto" or a number such as 0.5
      line 20: `defaults.max_memory` is the string "150%"; expected a size such as `2GiB`, a share of the memory such as `50%`, or "none"
      line 21: `defaults.prefetch` is the string "some"; expected "auto" or a whole number of jobs, 0 or more
      line 22: `defaults.max_jobs` is 0; expected 1 or more, or "none"
      line 23: `defaults.max_age` is 0s; expected more than 0s, or "none"
      line 24: `defaults.max_worker_memory` is -1; expected a size such as `512M`, `2GiB` or a number of bytes or "none"
      line 25: `defaults.policy` is the string "vibes"; expected "utilization" or "demand"
      line 27: `log.format` is the string "xml"; expected "text" or "json"
      line 28: `log.level` is "inof"; expected one of off, error, warn, info, debug, trace, or levels by module such as `pool=debug,warn`
    "#);
}

#[test]
fn what_would_do_nothing_or_hold_everything_is_refused() {
    insta::assert_snapshot!(problems("[supervisor]
permits = { '' = 1 }
[defaults]
utilization_window = 0
max_worker_memory = 0
max_worker_private = '0'
[app]
runtime = 'rq'
[broker]
url = 'redis://h'
[rq]
recover_running = 'requeue'
"), @r#"
    5 problems in `config.toml`
      line 2: `supervisor.permits.""` is 1; expected a name before `=`
      line 4: `defaults.utilization_window` is 0s; expected more than 0s
      line 5: `defaults.max_worker_memory` is 0; expected more than 0, or "none"
      line 6: `defaults.max_worker_private` is 0; expected more than 0, or "none"
      line 12: `rq.recover_running` is "requeue", and without `rq.recover` nobody takes over from a killed supervisor
    hint: set `rq.recover` too, such as "15s"
    "#);
}

#[test]
fn what_cannot_hold_for_the_runtime_is_refused() {
    insta::assert_snapshot!(problems("[app]\nruntime = 'python'\n"), @r#"
    1 problem in `config.toml`
      line 2: `app.runtime` is "python", which has no tasks; expected a module in `app.preload` or `app.modules`
    hint: `--preload myapp.tasks` imports the module whose functions are the tasks
    "#);
    insta::assert_snapshot!(problems("[app]\nruntime = 'command'\n"), @r#"
    1 problem in `config.toml`
      line 2: `app.runtime` is "command", which has no tasks; expected a command in `[tasks.NAME]`
    hint: add `[tasks.NAME]` with `command = ["program", "argument"]` to the configuration file
    "#);
    insta::assert_snapshot!(problems("[app]\nruntime = 'command'\n[tasks.x]\ntimeout = 5\n[tasks.y]\ncommand = ['']\n"), @r#"
    2 problems in `config.toml`
      line 3: `tasks.x.command` is missing; expected a program and its arguments
      line 6: `tasks.y.command` holds ""; expected a program's name first
    hint: for example `command = ["convert", "-", "png:-"]`
    "#);
    insta::assert_snapshot!(problems("[app]\npreload = ['myapp']\n[tasks.x]\ncommand = ['x']\n"), @r#"
    2 problems in `config.toml`
      line 2: `app.preload` is only for the python, rq and celery runtimes; the runtime is native
      line 4: `tasks.x.command` is only for the command runtime; the runtime is native
    hint: set `app.runtime` to "python", "rq" or "celery", or leave the key out
    hint: set `app.runtime` to "command", or leave the key out
    "#);
    insta::assert_snapshot!(problems_of("", &[], &["--preload", "myapp.tasks"]), @r#"
    1 problem in the flags
      `--preload` is only for the python, rq and celery runtimes; the runtime is native
    hint: use `--runtime python`, `--runtime rq` or `--runtime celery`, or leave `--preload` out
    "#);
    insta::assert_snapshot!(problems(
        "[app]\nruntime = 'python'\npreload = ['my-app']\nafter_fork = ['connect']\nprogram = './x'\n"), @r#"
    3 problems in `config.toml`
      line 3: `app.preload` holds "my-app"; expected a module such as `myapp.tasks`
      line 4: `app.after_fork` holds "connect"; expected a function such as `myapp.hooks.connect`
      line 5: `app.program` is only for the native runtime; the runtime is python
    hint: set `app.runtime` to "native", or leave the key out
    "#);
}

#[test]
fn a_fresh_worker_runs_one_job() {
    insta::assert_snapshot!(problems("[app]\nisolation = 'fresh'\n[defaults]\nmax_jobs = 5\nprefetch = 3\n"), @r#"
    2 problems in `config.toml`
      line 4: `defaults.max_jobs` is 5; expected 1 or `app.isolation = "warm"`: a fresh worker runs one job
      line 5: `defaults.prefetch` is 3; expected "auto" or 0, or `app.isolation = "warm"`: a fresh worker runs one job
    "#);
}

#[test]
fn times_must_fit_each_other() {
    insta::assert_snapshot!(problems(
        "[broker]\nheartbeat = '30s'\nlease = '1m'\n[defaults]\nutilization_window = 3\nscaling_period = 5\nbackoff = '1h'\nbackoff_max = '1m'\njob_timeout = '36501d'\n"), @r#"
    4 problems in `config.toml`
      line 3: `broker.lease` is 1m, shorter than three times `broker.heartbeat`, which is 30s
      line 6: `defaults.utilization_window` is 3s, shorter than `defaults.scaling_period`, which is 5s
      line 8: `defaults.backoff_max` is 1m, shorter than `defaults.backoff`, which is 1h
      line 9: `defaults.job_timeout` is 36501d; expected 36500 days or less, or "none"
    hint: a lease must outlive three heartbeats; set `broker.lease` to 1m30s or more
    "#);
}

#[test]
fn an_output_can_t_be_larger_than_a_result() {
    insta::assert_snapshot!(problems(
        "[app]\nruntime = 'command'\n[tasks.x]\ncommand = ['x']\nmax_output = '8MiB'\n"), @r#"
    1 problem in `config.toml`
      line 5: `tasks.x.max_output` is 8MiB, above `broker.max_result`, which is 1MiB by default
    "#);
}

#[test]
fn what_all_pools_are_promised_must_fit_below_the_limit_on_all() {
    insta::assert_snapshot!(problems(
        "[supervisor]\nmax_total_workers = 4\nmax_total_memory = '1GiB'\n\
         [pools.mail]\nreserve_workers = 3\n[pools.reports]\nmin_workers = 2\nmax_memory = '2GiB'\n"), @r#"
    2 problems in `config.toml`
      line 2: `supervisor.max_total_workers` is 4, below the 5 workers that the pools are promised together: mail 3, reports 2
      line 8: `pools.reports.max_memory` is 2GiB, above `supervisor.max_total_memory`, which is 1GiB
    hint: a pool is promised the most of `min_workers`, `reserve_workers` and 1
    "#);
    insta::assert_snapshot!(problems("[supervisor]\nmax_total_workers = 0\n"), @r#"
    1 problem in `config.toml`
      line 2: `supervisor.max_total_workers` is 0; expected from 1 to 10000, or "none"
    "#);
    insta::assert_snapshot!(problems("[pools.mail]\nmax_workers = 2\nreserve_workers = 3\n"), @r#"
    1 problem in `config.toml`
      line 3: `pools.mail.max_workers` is 2, below `pools.mail.reserve_workers`, which is 3
    "#);
}

#[test]
fn a_default_minimum_gives_way_to_the_limit_on_all_workers() {
    let config = load_from(
        "[supervisor]\nmax_total_workers = 3\n[pools.mail]\n[pools.web]\n",
        &[],
        &[],
    )
    .unwrap();
    assert!(config.pools.values().all(|pool| pool.min_workers == 1));
}

#[test]
fn queues_of_the_command_line_need_a_single_pool() {
    insta::assert_snapshot!(problems_of("[pools.mail]\n[pools.web]\n", &[], &["--queue", "high"]), @r#"
    1 problem in the flags
      `--queue` names no pool, and the file has 2: `mail`, `web`
    hint: set `queues` in each `[pools.NAME]` of the file
    "#);
    let config = load_from("[pools.mail]\n", &[], &["--queue", "high"]).unwrap();
    assert_eq!(
        config.pools[&PoolName::new("mail").unwrap()].queues,
        [QueueName::new("high").unwrap()]
    );
}

#[test]
fn without_a_home_broker_and_socket_must_be_named() {
    let args = RunArgs::from_flags(["--broker", "memory:"]).unwrap();
    insta::assert_snapshot!(load(&args, |_| None).unwrap_err(), @r#"
    1 problem in the settings
      no place for the control socket: the broker has no file, and none of `RUNTIME_DIRECTORY`, `XDG_RUNTIME_DIR`, `STATE_DIRECTORY`, `XDG_STATE_HOME` and `HOME` is an absolute path
    hint: name one with `--socket PATH`
    "#);
    insta::assert_snapshot!(load(&RunArgs::default(), |_| None).unwrap_err(), @r#"
    2 problems in the settings
      no place for the embedded broker's file: neither `STATE_DIRECTORY`, `XDG_STATE_HOME` nor `HOME` is an absolute path
      no place for the control socket: the broker has no file, and none of `RUNTIME_DIRECTORY`, `XDG_RUNTIME_DIR`, `STATE_DIRECTORY`, `XDG_STATE_HOME` and `HOME` is an absolute path
    hint: name one with `--broker sqlite:PATH`
    hint: name one with `--socket PATH`
    "#);
}

#[test]
fn a_socket_path_must_fit_the_kernels_limit() {
    let path = format!("/{}", "x".repeat(107));
    insta::assert_snapshot!(problems_of("", &[], &["--socket", &path]), @r#"
    1 problem in the flags
      the control socket's path `/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` is 108 bytes long; expected 107 or fewer
    hint: name a shorter one with `--socket PATH`
    "#);
}

#[test]
fn a_file_that_can_t_be_read_is_told_with_its_reason() {
    // That python has no modules is not told: they may stand in the file.
    let flags = ["--config", "/nonexistent/pool.toml", "--runtime", "python"];
    let args = RunArgs::from_flags(flags).unwrap();
    insta::assert_snapshot!(load(&args, env(&[])).unwrap_err(), @r#"
    1 problem in the flags
      `--config` names `/nonexistent/pool.toml`, which can't be read: No such file or directory (os error 2)
    "#);
    let variable = env(&[("POOL_CONFIG", "/nonexistent/pool.toml")]);
    insta::assert_snapshot!(load(&RunArgs::default(), variable).unwrap_err(), @r#"
    1 problem in the environment
      `POOL_CONFIG` names `/nonexistent/pool.toml`, which can't be read: No such file or directory (os error 2)
    "#);
    let endless = RunArgs::from_flags(["--config", "/dev/zero"]).unwrap();
    insta::assert_snapshot!(load(&endless, env(&[])).unwrap_err(), @r#"
    1 problem in the flags
      `--config` names `/dev/zero`, which can't be read: it is longer than 1 MiB
    "#);
}

#[test]
fn broker_protocol_and_runtime_must_fit_each_other() {
    insta::assert_snapshot!(problems("[broker]\nurl = 'redis://h'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.url` holds jobs of RQ or Celery, which the native runtime can't run
    hint: add `--runtime rq` or `--runtime celery`
    "#);
    insta::assert_snapshot!(problems("[broker]\nprotocol = 'rq'\nurl = 'sqlite:/a.db'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.protocol` is "rq", whose jobs are in Redis; the broker is sqlite:/a.db
    hint: name the place with `--broker redis://HOST`
    "#);
    insta::assert_snapshot!(problems("[broker]\nprotocol = 'embedded'\nurl = 'redis://h'\n[app]\nruntime = 'rq'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.protocol` is "embedded", whose jobs are in a file; the broker is redis://h
    hint: name the place with `--broker sqlite:PATH`
    "#);
    insta::assert_snapshot!(problems("[broker]\nprotocol = 'embedded'\nurl = 'sqlite:/a.db'\n[app]\nruntime = 'rq'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.protocol` is "embedded", whose jobs the rq runtime can't run
    hint: leave the protocol out: it follows the runtime
    "#);
    insta::assert_snapshot!(problems("[broker]\nprotocol = 'rq'\n[app]\nruntime = 'native'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.protocol` is "rq", whose jobs the native runtime can't run
    hint: add `--runtime rq`
    "#);
    insta::assert_snapshot!(problems("[broker]\nprotocol = 'amqp'\n"), @r#"
    1 problem in `config.toml`
      line 2: `broker.protocol` is the string "amqp"; expected "embedded", "rq" or "celery"
    "#);
}

#[test]
fn what_is_wrong_with_a_floor_is_told_with_its_place() {
    insta::assert_snapshot!(problems("\
[defaults]
floors = 5
[pools.a]
floors = [7, { from = '8', until = '18:00', min_workers = 4 }]
[[pools.b.floors]]
from = '08:00'
until = '08:00'
min_workers = 4
[[pools.b.floors]]
from = '08:00'
min_workers = 4
[[pools.c.floors]]
from = '08:00'
until = '25:00'
min_workers = 4
[[pools.d.floors]]
from = '22:00'
until = '06:00'
days = ['mon', 'someday']
min_workers = 4
[[pools.e.floors]]
from = '22:00'
until = '06:00'
days = []
min_workers = -4
[[pools.f.floors]]
from = '22:00'
until = '06:00'
time_zone = 'Europe/Atlantis'
min_workers = 4
[[pools.g.floors]]
from = '22:00'
until = '06:00'
min_worker = 4
"), @r#"
    10 problems in `config.toml`
      line 2: `defaults.floors` is 5; expected an array of tables such as `[{ from = "08:00", until = "18:00", min_workers = 4 }]`
      line 4: `pools.a.floors[0]` is 7; expected an array of tables such as `[{ from = "08:00", until = "18:00", min_workers = 4 }]`
      line 4: `pools.a.floors[1].from` is the string "8"; expected a time of day such as "08:00", or "24:00"
      line 6: `pools.b.floors[0].from` is the string "08:00"; expected another time than `until`; for all day, "00:00" and "24:00"
      line 9: `pools.b.floors[1].until` is nothing; expected a time of day such as "08:00", or "24:00"
      line 14: `pools.c.floors[0].until` is the string "25:00"; expected a time of day such as "08:00", or "24:00"
      line 19: `pools.d.floors[0].days` is the string "someday"; expected days such as `["mon", "sat"]` or `["mon-fri"]`
      line 24: `pools.e.floors[0].days` is an array; expected days such as `["mon", "sat"]` or `["mon-fri"]`
      line 29: `pools.f.floors[0].time_zone` is the string "Europe/Atlantis"; expected the name of a time zone such as "Europe/Berlin" or "UTC"
      line 34: `pools.g.floors[0].min_worker` is an unknown key; expected from, until, days, min_workers, time_zone
    "#);
}

#[test]
fn a_floor_above_the_maximum_is_refused() {
    insta::assert_snapshot!(problems("\
[pools.mail]
max_workers = 8
floors = [{ from = '08:00', until = '18:00', min_workers = 9 }]
"), @r#"
    1 problem in `config.toml`
      line 3: `pools.mail.max_workers` is 8, below `pools.mail.floors`, which is [{ from = "08:00", until = "18:00", days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], min_workers = 9, time_zone = "UTC" }]
    "#);
}

#[test]
fn what_is_wrong_with_a_schedule_is_told() {
    let said = problems(
        "[schedules.a]\ncron = '99 * * * *'\n[schedules.b]\ntask = 't'\n[schedules.c]\ntask = 't'\nevery = '10ms'\njitter = '1m'\n\
         time_zone = 'Berlin'\n[schedules.d]\ntask = 't'\nevery = '1m'\ncron = '@daily'\nargs = 'no json'\ncatch_up_max = 5\noverlap = 'never'\nexpires = '0s'\nlimit = 'db'\n",
    );
    for part in [
        "`schedules.a.task` is missing; expected the task that it runs",
        "`schedules.a.cron` is the string \"99 * * * *\"; expected a cron expression such as",
        "nothing says when `schedules.b` is due; expected `cron` or `every`",
        "`schedules.c.every` is 10ms; expected from 1s to 366 days",
        "`schedules.c.jitter` is 1m, longer than `schedules.c.every`, which is 10ms",
        "`schedules.c.time_zone` is the string \"Berlin\"; expected the name of a time zone",
        "`schedules.d` has both `cron` and `every`; expected one of them",
        "`schedules.d.args` is the string \"no json\"; expected an array such as",
        "`schedules.d.catch_up_max` is only for `catch_up = \"all\"`",
        "`schedules.d.expires` is 0s; expected more than 0s, or \"none\"",
        "`schedules.d.limit` is the string \"db\"; expected a key and how many jobs with it run at once, such as \"db=3\"",
        "`schedules.d.overlap` is the string \"never\"; expected \"skip\", \"queue\" or \"allow\"",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn a_job_of_a_schedule_has_its_options() {
    let text = "[schedules.a]\ntask = 't'\nevery = '1m'\ntimeout = '5s'\nexpires = '30s'\nlimit = 'db=3'\n";
    let config = load_from(text, &[], &[]).unwrap();
    let job = config.schedules["a"].job(Unix(1_000));
    assert_eq!(
        (job.timeout, job.begin_by),
        (Some(Duration::from_secs(5)), Some(Unix(31_000)))
    );
    assert_eq!(job.limit, Some("db=3".parse().unwrap()));
}

#[test]
fn arguments_of_a_schedule_are_toml_or_json() {
    let text = "[schedules.a]\ntask = 't'\nevery = '1m'\nargs = { to = ['a', 1, 2.5, true] }\n\
                [schedules.b]\ntask = 't'\nevery = '1m'\nargs = '[null]'\n";
    let config = load_from(text, &[], &[]).unwrap();
    let args = |name: &str| config.schedules[name].args.0.clone();
    assert_eq!(args("a"), r#"{"to":["a",1,2.5,true]}"#);
    assert_eq!(args("b"), "[null]");
}

#[test]
fn a_client_of_settings_for_another_broker_learns_how_to_name_the_protocol() {
    let broker = BrokerConfig {
        url: BrokerUrl::parse("redis://h", Path::to_path_buf).unwrap(),
        ..BrokerConfig::default()
    };
    let said = broker.options_by_app("").unwrap_err().to_string();
    let expected = "redis://h does not speak the protocol `embedded`, which the settings name; `POOL_PROTOCOL` names another one \
                    (embedded, rq, celery), and `--config` other settings";
    assert_eq!(said, expected);
}

#[test]
fn a_text_that_no_program_can_be_given_says_why() {
    insta::assert_snapshot!(problems(
        r#"[app]
python = "py\u0000"
preload = ["a\u0000b"]
[app.environment]
A = "b\u0000"
"#), @r#"
    3 problems in `config.toml`
      line 2: `app.python` is the string "py\0"; expected a program's name or path without a NUL character
      line 3: `app.preload[0]` is the string "a\0b"; expected a string without a NUL character
      line 5: `app.environment.A` is the string "b\0"; expected a string without a NUL character
    "#);
}
