//! Which of several values wins, and what is made of it.

mod example;
mod messages;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::job::PoolName;

/// A supervisor's settings from a file's text, variables and flags.
pub(super) fn load_from(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[&str],
) -> Result<Config, ConfigErrors> {
    explain_from(text, variables, flags).map(|explained| explained.config)
}

fn explain_from(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Explained, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let mut args = RunArgs::from_flags(flags).unwrap();
    args.config = (!text.is_empty()).then_some(path);
    explain(&args, env(variables))
}

fn env(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
    let home = [("HOME", "/home/ann")];
    let variables: BTreeMap<String, OsString> = home
        .iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), value.into()))
        .collect();
    move |name| variables.get(name).cloned()
}

fn default_pool(config: &Config) -> &PoolConfig {
    &config.pools[&PoolName::new("default").unwrap()]
}

#[test]
fn without_any_setting_everything_has_its_default() {
    let config = load_from("", &[], &[]).unwrap();
    assert_eq!(
        config.broker.url.to_string(),
        "sqlite:/home/ann/.local/state/pool/pool.db"
    );
    assert_eq!(
        config.socket.to_str(),
        Some("/home/ann/.local/state/pool/pool.db.sock")
    );
    assert_eq!(default_pool(&config), &PoolConfig::default());
    assert_eq!(config.pools.len(), 1);
    assert_eq!(config.log, LogConfig::default());
}

#[test]
fn metrics_are_served_where_the_settings_say() {
    let listen = |text, flags: &[&str]| load_from(text, &[], flags).unwrap().metrics.listen;
    assert_eq!(listen("", &[]), None);
    let text = "[metrics]\nlisten = '127.0.0.1:9464'\n";
    assert_eq!(listen(text, &[]), Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(
        listen(text, &["--metrics-listen", "[::1]:0"]),
        Some("[::1]:0".parse().unwrap())
    );
    assert_eq!(listen(text, &["--metrics-listen", "none"]), None);
    let shown = "[metrics]\nlisten = '0.0.0.0:9464'\ntoken_file = '/t'\n";
    assert_eq!(listen(shown, &[]), Some("0.0.0.0:9464".parse().unwrap()));
}

#[test]
fn a_flag_beats_a_variable_beats_the_pool_beats_the_defaults_table() {
    let text = "[defaults]\nmax_workers = 10\nmin_workers = 1\nretries = 1\nkill_grace = 1\n\
                [pools.default]\nmax_workers = 11\nmin_workers = 3\nretries = 2\n";
    let variables = [("POOL_MAX_WORKERS", "12"), ("POOL_MIN_WORKERS", "4")];
    let config = load_from(text, &variables, &["--max-workers", "13"]).unwrap();
    let pool = default_pool(&config);
    assert_eq!(
        (pool.max_workers, pool.min_workers, pool.retry.retries),
        (13, 4, 2)
    );
    assert_eq!(pool.kill_grace, Duration::from_secs(1));
}

#[test]
fn a_pool_flag_holds_for_every_pool() {
    let text = "[pools.mail]\nmax_workers = 7\n[pools.web]\n";
    let config = load_from(text, &[], &["--max-workers", "8"]).unwrap();
    let sizes: Vec<(&str, u32)> = config
        .pools
        .iter()
        .map(|(name, pool)| (name.as_str(), pool.max_workers))
        .collect();
    assert_eq!(sizes, [("mail", 8), ("web", 8)]);
}

#[test]
fn a_default_gives_way_to_what_was_said() {
    let sizes = |flags: &[&str]| {
        let pool = default_pool(&load_from("", &[], flags).unwrap()).clone();
        (pool.min_workers, pool.max_workers)
    };
    assert_eq!(sizes(&["--max-workers", "1"]), (1, 1));
    assert_eq!(sizes(&["--min-workers", "8"]), (8, 8));
    assert_eq!(sizes(&["--min-workers", "3"]), (3, 5));
    let text = "[broker]\nlease = 10\n[defaults]\nscaling_period = '2m'\nbackoff_max = 0.5\n";
    let config = load_from(text, &[], &[]).unwrap();
    assert_eq!(config.broker.heartbeat, Duration::from_millis(2500));
    assert_eq!(default_pool(&config).utilization_window, Duration::from_secs(120));
    assert_eq!(default_pool(&config).retry.backoff, Duration::from_millis(500));
}

#[test]
fn the_threshold_suits_the_policy_unless_it_is_set() {
    let text = "[defaults]\npolicy = 'demand'\n[pools.plain]\npolicy = 'utilization'\n[pools.late]\n\
                [pools.own]\nutilization_threshold = 0.6\n";
    let thresholds = |flags: &[&str]| -> Vec<(String, f64)> {
        let config = load_from(text, &[], flags).unwrap();
        let of = |(name, pool): (&PoolName, &PoolConfig)| (name.to_string(), pool.scaling.threshold());
        config.pools.iter().map(of).collect()
    };
    let named = |pairs: [(&str, f64); 3]| pairs.map(|(name, share)| (name.to_owned(), share)).to_vec();
    assert_eq!(
        thresholds(&[]),
        named([("late", 0.8), ("own", 0.6), ("plain", 0.5)])
    );
    let one = ["--utilization-threshold", "0.9"];
    assert_eq!(
        thresholds(&one),
        named([("late", 0.9), ("own", 0.9), ("plain", 0.9)])
    );
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let config = load_from("", &[("POOL_MAX_WORKERS", "")], &[]).unwrap();
    assert_eq!(default_pool(&config).max_workers, 5);
}

#[test]
fn lists_come_from_repeated_flags_or_separated_by_commas() {
    let queues = |variables: &[(&str, &str)], flags: &[&str]| {
        let config = load_from("", variables, flags).unwrap();
        let queues: Vec<String> = default_pool(&config)
            .queues
            .iter()
            .map(ToString::to_string)
            .collect();
        queues.join(" ")
    };
    assert_eq!(queues(&[], &["--queue", "high", "--queue", "low"]), "high low");
    assert_eq!(queues(&[("POOL_QUEUE", "high, low")], &[]), "high low");
    assert_eq!(
        queues(&[], &["--queue", "a,b", "--queue", "c"]),
        "a,b c",
        "a flag can be repeated, and its value is one queue"
    );
    assert_eq!(
        queues(&[("POOL_QUEUE", "high, low")], &["--queue", "mail"]),
        "mail"
    );
}

#[test]
fn paths_of_the_file_are_relative_to_it_and_paths_of_flags_to_the_current_directory() {
    let explained = explain_from("[broker]\nurl = 'sqlite:jobs.db'\n", &[], &[]).unwrap();
    let file = explained.config.file.clone().unwrap();
    assert_eq!(
        explained.config.broker.url,
        BrokerUrl::Sqlite(file.with_file_name("jobs.db"))
    );
    let config = load_from("", &[], &["--broker", "sqlite:jobs.db"]).unwrap();
    assert_eq!(
        config.broker.url,
        BrokerUrl::Sqlite(std::env::current_dir().unwrap().join("jobs.db"))
    );
    let config = load_from("", &[], &["--broker", "sqlite:~/jobs.db"]).unwrap();
    assert_eq!(config.broker.url, BrokerUrl::Sqlite("/home/ann/jobs.db".into()));
}

#[test]
fn a_switch_is_a_flag_alone_or_with_its_value() {
    let fsync = |flags: &[&str]| load_from("", &[], flags).unwrap().broker.fsync;
    assert!(!fsync(&[]));
    assert!(fsync(&["--fsync"]));
    assert!(!fsync(&["--fsync=false"]));
}

#[test]
fn what_check_prints_reads_back_as_the_same_settings() {
    let text = "[app]\nruntime = 'command'\nenvironment = { A = 'x\"y', 'B.C' = '' }\n\
                [pools.mail]\nqueues = ['a', 'b']\nmax_memory = '50%'\nmax_jobs = 9\nretries = 3\n\
                [pools.\"odd name\"]\nbackoff = 0.0005\nmax_worker_memory = '1.5GiB'\n\
                [tasks.thumbnail]\ncommand = ['convert', '-']\ntimeout = '1m'\n";
    let explained = explain_from(text, &[], &["--broker", "memory:", "--socket", "/run/x.sock"]).unwrap();
    let printed = explained.to_toml();
    let again = explain_from(&printed, &[], &[]).unwrap();
    let file = explained.config.file.clone();
    assert_eq!(Config { file, ..again.config }, explained.config, "{printed}");
}

#[test]
fn check_leaves_out_the_dialects_that_are_not_spoken() {
    for (flags, has_it) in [(["--runtime", "native"], false), (["--runtime", "rq"], true)] {
        let shown = explain_from("", &[], &flags).unwrap().to_toml();
        assert_eq!(shown.contains("\n[rq]\n"), has_it, "{shown}");
    }
}

#[test]
fn check_shows_where_each_value_comes_from() {
    let text = "[defaults]\nmax_workers = 10\n[pools.mail]\nmin_workers = 3\n";
    let flags = ["--broker", "memory:", "--socket", "/run/x.sock"];
    let explained = explain_from(text, &[("POOL_RETRIES", "1")], &flags).unwrap();
    let file = explained.config.file.clone().unwrap();
    let shown = explained
        .to_toml()
        .replace(&*file.to_string_lossy(), "config.toml");
    let lines = ["socket", "url", "min_workers", "max_workers", "retries", "lease"];
    let chosen: Vec<&str> = shown
        .lines()
        .filter(|line| lines.iter().any(|key| line.starts_with(&format!("{key} ="))))
        .collect();
    insta::assert_snapshot!(chosen.join("\n"), @r#"
    socket = "/run/x.sock"                 # flag --socket
    url = "memory:"                        # flag --broker
    lease = "1m"                           # default
    min_workers = 3                        # config.toml:4
    max_workers = 10                       # config.toml:2
    retries = 1                            # environment POOL_RETRIES
    "#);
}

#[test]
fn a_client_is_not_kept_by_mistakes_that_do_not_concern_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let args = ClientArgs {
        config: Some(path.clone()),
        ..ClientArgs::default()
    };
    let client = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load_client(&args, env(&[]), Wanted::Supervisor).map(|found| found.socket)
    };
    let found = client("[broker]\nurl = 'sqlite:a.db'\n[pools.mail]\nmax_workers = 0\n").unwrap();
    assert_eq!(found, directory.path().join("a.db.sock"));
    assert!(
        client("[brokr]\nurl = 'sqlite:a.db'\n").is_err(),
        "it would look at another broker"
    );
    assert!(client("[broker]\nlease = 0\n").is_err());
}

#[test]
fn a_producer_needs_the_broker_alone_and_knows_how_its_jobs_are_written() {
    let args = ClientArgs {
        broker: Some("redis://cache".to_owned()),
        ..ClientArgs::default()
    };
    let load_broker = |env: &dyn Fn(&str) -> Option<OsString>| load_client(&args, env, Wanted::Broker);
    let found = load_broker(&env(&[("POOL_SERIALIZER", "json")])).unwrap();
    assert!(found.broker_is_named);
    assert_eq!(found.broker.dialects.rq.serializer, "json");
    assert!(load_broker(&|_| None).is_ok(), "it needs no place for a socket");
    assert!(
        load_broker(&env(&[("RQ_KEY_PREFIX", "a b")])).is_err(),
        "it would write elsewhere"
    );
    assert!(load_broker(&env(&[("POOL_WORKER_TTL", "0")])).is_ok());
}

#[test]
fn the_names_of_flags_and_variables_follow_the_keys() {
    for key in load::flags::all() {
        let variable = key.variable().unwrap();
        assert_eq!(
            variable,
            format!("POOL_{}", key.flag.to_uppercase().replace('-', "_"))
        );
        assert!(!key.meaning.ends_with('.') && !key.value.is_empty(), "{key:?}");
    }
}

#[test]
fn a_misspelled_variable_is_told_with_the_one_that_was_meant() {
    let names = [
        "POOL_MAX_WORKER",
        "POOL_MAX_WORKERS",
        "POOL_CONFIG",
        "POOL_SIZE",
        "POOL_JOB_ID",
        "MAX_WORKERS",
    ];
    let told = misspelled_variables(names.iter().map(ToString::to_string));
    assert_eq!(
        told,
        [("POOL_MAX_WORKER".to_owned(), "POOL_MAX_WORKERS".to_owned())]
    );
}
