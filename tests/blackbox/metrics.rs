//! What a scrape of a running pool finds.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pool::time::Mono;

use crate::harness::Pool;

/// Where the pool says that it serves its metrics.
fn address(pool: &Pool) -> String {
    pool.wait_log("serving metrics");
    let log = fs::read_to_string(pool.path("log")).expect("the log");
    let url = log
        .split("url=http://")
        .nth(1)
        .expect("the log names the address");
    url.split('/').next().unwrap_or_default().to_owned()
}

/// The metrics, by HTTP.
fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the pool listens");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a timeout is set");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

/// The value of a series; 0 where there is none yet.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

#[test]
fn clients_that_ask_nothing_delay_no_scrape() {
    let pool = Pool::start("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let address = address(&pool);
    // Silent, and in the middle of a request.
    let mut idle: Vec<TcpStream> = Vec::new();
    for at in 0..40 {
        let mut stream = TcpStream::connect(&address).expect("the pool listens");
        if at % 2 == 0 {
            stream.write_all(b"GET /met").expect("the pool reads");
        }
        idle.push(stream);
    }
    let began = Mono::now();
    scrape(&address);
    // One of them alone may hold its place for ten seconds.
    assert!(Mono::now().since(began) < Duration::from_secs(9));
    drop(idle);
}

#[test]
fn the_effect_of_prefetch_can_be_scraped() {
    const DEPTH: &str = "pool_prefetch_depth_jobs{pool=\"default\",task=\"app.nap\"}";
    const AHEAD: &str = "pool_jobs_sent_ahead_total{pool=\"default\",task=\"app.nap\"}";
    const BACK: &str = "pool_jobs_taken_back_total{pool=\"default\",reason=\"stalled\"}";
    const DONE: &str = "pool_jobs_ended_total{pool=\"default\",task=\"app.nap\",outcome=\"done\"}";
    const RUNS: &str = "pool_job_duration_seconds_count{pool=\"default\",task=\"app.nap\"}";
    let mut pool = Pool::start(
        "[defaults]\nmin_workers = 2\nmax_workers = 2\nscaling_period = \"200ms\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n",
    );
    let address = address(&pool);
    let before = scrape(&address);
    assert_eq!(
        (value(&before, DEPTH), value(&before, BACK)),
        (0.0, 0.0),
        "{before}"
    );
    assert!(
        before.contains(&format!("\n{BACK} 0\n")),
        "a counter is there from the start"
    );

    let mut ids = Vec::new();
    // A busy machine makes short jobs long: some more make up for it.
    for _ in 0..20 {
        let short = pool.enqueue(&["app.nap", "[0.0001]", "--count", "200"]);
        pool.assert_finished(&short);
        ids.extend(short);
        if value(&scrape(&address), DEPTH) > 2.0 {
            break;
        }
    }
    let short = scrape(&address);
    assert!(value(&short, DEPTH) > 2.0, "{short}");
    assert!(value(&short, AHEAD) > 0.0, "{short}");

    // A long job that looks like a short one has short ones behind it.
    pool.run(&["pause"]);
    ids.extend(pool.enqueue(&["app.nap", "[1]"]));
    ids.extend(pool.enqueue(&["app.nap", "[0.0001]", "--count", "50"]));
    pool.run(&["resume"]);
    pool.assert_finished(&ids);
    let stalled = scrape(&address);
    assert!(value(&stalled, BACK) > 0.0, "{stalled}");
    let jobs = ids.len() as f64;
    assert_eq!(
        (value(&stalled, DONE), value(&stalled, RUNS)),
        (jobs, jobs),
        "{stalled}"
    );
    pool.wait_for("the memory of the workers", |_| {
        value(
            &scrape(&address),
            "pool_worker_memory_bytes{pool=\"default\",kind=\"pss\"}",
        ) > 0.0
    });
    pool.assert_clean_stop();
}

#[test]
fn calls_of_a_batch_task_and_deaths_of_workers_are_counted() {
    let mut pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\n");
    pool.run(&["pause"]);
    let ids: Vec<String> = (0..8)
        .flat_map(|row| pool.enqueue(&["app.insert", &format!("[{row}]")]))
        .collect();
    pool.run(&["resume"]);
    pool.assert_finished(&ids);
    let (metrics, ok) = pool.run(&["metrics"]);
    assert!(ok);
    assert_eq!(
        value(
            &metrics,
            "pool_batch_jobs_sum{pool=\"default\",task=\"app.insert\"}"
        ),
        8.0,
        "{metrics}"
    );
    let calls = value(
        &metrics,
        "pool_batch_jobs_count{pool=\"default\",task=\"app.insert\"}",
    );
    assert!((1.0..8.0).contains(&calls), "{metrics}");

    let job = pool.enqueue(&["app.nap", "[30]", "--timeout", "60s"]).remove(0);
    let pid = pool.pid_of(&job);
    crate::harness::send(pid, nix::sys::signal::Signal::SIGKILL);
    pool.wait_for("the death to be counted", |pool| {
        let (metrics, _) = pool.run(&["metrics", "--openmetrics"]);
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
        value(
            &metrics,
            "pool_worker_deaths_total{pool=\"default\",reason=\"signal_kill\"}",
        ) == 1.0
            && value(
                &metrics,
                "pool_runs_cut_short_total{pool=\"default\",reason=\"lost\"}",
            ) == 1.0
    });
    let status = pool.run(&["status"]).0;
    assert!(status.contains("BATCHES"), "{status}");
    pool.signal(nix::sys::signal::Signal::SIGQUIT);
    assert!(pool.ended().success(), "{}", pool.log());
}
