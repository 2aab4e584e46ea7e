//! The claim that stands at the server while a pool is idle: it takes what comes, and nothing when it may not.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use redis::Connection;

use crate::jobs::{self, Job};
use crate::ledger::{Ledger, assert_one_more_job_runs};
use crate::pool::{Pool, TWO_QUEUES};
use crate::proxy::Proxy;
use crate::server::{DURABLE, Server, client_id, clients};
use crate::wait_for;

/// More bytes than a connection is sent on which a claim never stood, and less than the script that goes there first.
const SCRIPT_BYTES: u64 = 2000;

/// Blocking reads behind which there is more to do.
fn standing(connection: &mut Connection) -> usize {
    let stands = |client: &&String| match field(client, "tot-net-in") {
        // A server that reads ahead does not show what is left to do.
        Some(bytes) => bytes > SCRIPT_BYTES,
        None => field(client, "qbuf") > Some(0),
    };
    waiting(connection).iter().filter(stands).count()
}

/// What a line of `CLIENT LIST` says.
fn field(client: &str, name: &str) -> Option<u64> {
    let value = |word: &str| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
    client.split(' ').find_map(value)
}

/// The server's view of who waits for a job.
fn waiting(connection: &mut Connection) -> Vec<String> {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(connection).unwrap();
    let waits = |client: &&str| client.contains(" cmd=blmove ");
    clients.lines().filter(waits).map(str::to_owned).collect()
}

/// A user of this server, `NAME:PASSWORD`, who may do all but what these words forbid.
fn user_without(server: &Server, words: &[&str]) -> &'static str {
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("pool");
    user.arg(&["on", ">secret", "~*", "&*", "+@all"]).arg(words);
    let () = user.query(&mut server.connection()).unwrap();
    "pool:secret"
}

fn wait_until_standing(pool: &Pool, connection: &mut Connection, count: usize) {
    let state = || pool.log();
    wait_for("claims to stand at the server, or none", state, || {
        (standing(connection) == count).then_some(())
    });
}

#[test]
fn a_job_for_an_idle_pool_is_answered_with_its_push() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    wait_until_standing(&pool, connection, 1);
    let mut ledger = Ledger::new();
    for job in ledger.jobs(60) {
        jobs::enqueue(connection, "default", &[job]);
    }
    let summary = ledger.assert_settled(&pool, connection);
    assert_eq!((summary.lost, summary.repeated), (0, 0));
    wait_until_standing(&pool, connection, 1);
    pool.assert_clean_stop();
}

#[test]
fn a_pool_that_is_paused_or_gone_takes_nothing() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    wait_until_standing(&pool, connection, 1);
    pool.ask("pause");
    wait_until_standing(&pool, connection, 0);
    assert_eq!(waiting(connection), Vec::<String>::new());
    jobs::enqueue(connection, "default", &[Job::mark("while-paused")]);
    let names = ["while-paused".to_owned()];
    assert_eq!(jobs::statuses(connection, &names), ["queued"]);
    pool.ask("resume");
    assert_one_more_job_runs(&pool, connection, "after");
    assert_eq!(jobs::statuses(connection, &names), ["finished"]);
    wait_until_standing(&pool, connection, 1);
    pool.assert_clean_stop();
    assert_eq!(waiting(connection), Vec::<String>::new());
    jobs::enqueue(connection, "default", &[Job::mark("left")]);
    assert_eq!(jobs::statuses(connection, &["left".to_owned()]), ["queued"]);
}

#[test]
fn a_pool_of_two_queues_has_a_claim_for_each() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), TWO_QUEUES);
    let connection = &mut server.connection();
    wait_until_standing(&pool, connection, 2);
    let names: Vec<String> = (0..60).map(|number| format!("job-{number}")).collect();
    for (name, queue) in names.iter().zip(["high", "default"].into_iter().cycle()) {
        jobs::enqueue(connection, queue, &[Job::mark(name)]);
    }
    let all_ended = |statuses: &Vec<String>| statuses.iter().all(|status| status == "finished");
    wait_for(
        "all to end",
        || pool.log(),
        || Some(jobs::statuses(connection, &names)).filter(all_ended),
    );
    assert_eq!(Ledger::new().progress(&pool), names.len());
    wait_until_standing(&pool, connection, 2);
    pool.ask("pause");
    wait_until_standing(&pool, connection, 0);
    pool.ask("resume");
    wait_until_standing(&pool, connection, 2);
    pool.assert_clean_stop();
    assert_eq!(waiting(connection), Vec::<String>::new());
}

#[test]
fn a_pool_without_room_for_a_job_of_each_queue_leaves_what_comes() {
    let server = Server::start(&[]);
    let workers = "min_workers = 2\nmax_workers = 2\nprefetch = 0\n";
    let mut pool = Pool::start(&server.url(), &format!("{TWO_QUEUES}{workers}"));
    let connection = &mut server.connection();
    wait_until_standing(&pool, connection, 2);
    let gate = pool.path("gate");
    nix::unistd::mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let long = ["one", "two"].map(|name| Job::hold(name, &gate));
    jobs::enqueue(connection, "default", &long);
    pool.wait_for("both to run", |pool| {
        pool.state()["pools"]["default"]["busy"] == 2
    });
    wait_until_standing(&pool, connection, 0);
    jobs::enqueue(connection, "high", &[Job::mark("next")]);
    let names = ["one", "two", "next"].map(str::to_owned);
    assert_eq!(
        jobs::statuses(connection, &names),
        ["started", "started", "queued"]
    );
    let _open = fs::OpenOptions::new().write(true).open(&gate).unwrap();
    let ended = || (jobs::statuses(connection, &names) == ["finished"; 3]).then_some(());
    wait_for("all to end", || pool.log(), ended);
    wait_until_standing(&pool, connection, 2);
    pool.assert_clean_stop();
}

#[test]
fn who_may_not_take_a_claim_back_makes_none_stand() {
    let server = Server::start(&[]);
    let connection = &mut server.connection();
    let unblock = if server.is_before_7() {
        "-client"
    } else {
        "-client|unblock"
    };
    let mut pool = Pool::start(&server.url_for(user_without(&server, &[unblock])), "");
    assert_one_more_job_runs(&pool, connection, "first");
    assert_one_more_job_runs(&pool, connection, "second");
    assert_eq!(standing(connection), 0);
    pool.assert_clean_stop();
}

#[test]
fn a_connection_that_is_ended_is_followed_by_another() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    for round in 0..3 {
        wait_until_standing(&pool, connection, 1);
        let mut end = redis::cmd("CLIENT");
        let () = end
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes")
            .query(connection)
            .unwrap();
        assert_one_more_job_runs(&pool, connection, &format!("round-{round}"));
    }
    pool.assert_clean_stop();
}

#[test]
fn what_a_claim_took_whose_answer_is_lost_waits_again_after_a_stop() {
    crate::side_by_side(&[
        || assert_waits_again(Job::mark("plain"), "", 1),
        || assert_waits_again(Job::mark("whole").with_callback(), "", 1),
        || assert_waits_again(Job::mark("plain"), TWO_QUEUES, 2),
    ]);
}

fn assert_waits_again(job: Job, tables: &str, queues: usize) {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port(), Ledger::new().rng);
    let mut pool = Pool::start(&proxy.url(), tables);
    let connection = &mut server.connection();
    wait_until_standing(&pool, connection, queues);
    proxy.silence(true);
    let names = [job.name.clone()];
    jobs::enqueue(connection, "default", &[job]);
    wait_for(
        "the job to be taken",
        || pool.log(),
        || (claims(connection) == 1).then_some(()),
    );
    pool.assert_clean_stop();
    assert_eq!(waiting(connection), Vec::<String>::new());
    assert_eq!(jobs::statuses(connection, &names), ["queued"]);
    assert_eq!(claims(connection), 0);
    let ledger = Ledger::new();
    assert_eq!(ledger.progress(&pool), 0, "{}", pool.log());
    pool.launch();
    wait_for(
        "the job to run",
        || pool.log(),
        || (jobs::statuses(connection, &names) == ["finished"]).then_some(()),
    );
    assert_eq!(ledger.progress(&pool), 1);
    pool.assert_clean_stop();
}

/// How many jobs of the queue are taken.
fn claims(connection: &mut Connection) -> u64 {
    redis::cmd("ZCARD")
        .arg("rq:wip:default")
        .query(connection)
        .unwrap()
}

#[test]
fn a_claim_that_reaches_the_server_after_its_pool_stopped_takes_nothing() {
    crate::side_by_side(&[
        || {
            // The server ends its connection.
            let server = Server::start(&[]);
            let proxy = holding_proxy(&server);
            let pool = Pool::start(&proxy.url(), "");
            assert_a_late_claim_takes_nothing(&server, &proxy, pool);
        },
        || {
            // Who may not ask for that waits until the claim's time is over, which is short here.
            let server = Server::start(&[]);
            let proxy = holding_proxy(&server);
            let others = ["-client", "+client|id", "+client|info", "+client|unblock"];
            let url = proxy.url_for(user_without(&server, &others));
            let pool = Pool::start_with(&url, "worker_ttl = \"16s\"\n");
            assert_a_late_claim_takes_nothing(&server, &proxy, pool);
        },
    ]);
}

fn holding_proxy(server: &Server) -> Proxy {
    let proxy = Proxy::start(server.port(), Ledger::new().rng);
    proxy.hold_bells();
    proxy
}

fn assert_a_late_claim_takes_nothing(server: &Server, proxy: &Proxy, mut pool: Pool) {
    let connection = &mut server.connection();
    pool.wait_for("the claim to be on its way", |_| proxy.held() == 1);
    pool.assert_clean_stop();
    let names = ["late".to_owned()];
    jobs::enqueue(connection, "default", &[Job::mark("late")]);
    proxy.release();
    // The server takes in the end of a connection behind all that was said on it.
    wait_for(
        "the server to be left alone",
        || pool.log(),
        || clients(connection).is_empty().then_some(()),
    );
    assert_eq!(jobs::statuses(connection, &names), ["queued"], "{}", pool.log());
}

/// A server that is started again numbers its connections from the beginning.
#[test]
fn a_connection_that_got_the_number_of_a_claims_is_let_be() {
    let mut server = Server::start(&DURABLE);
    // More than the server has had by the time that it has loaded its data.
    (0..30).for_each(|_| drop(server.connection()));
    let mut pool = Pool::start(&server.url(), "");
    pool.wait_until_idle(); // a worker with the housekeeping has a connection of its own
    wait_until_standing(&pool, &mut server.connection(), 1);
    let client = waiting(&mut server.connection()).remove(0);
    let number = field(&client, "id").unwrap();
    pool.signal(Signal::SIGSTOP);
    server.kill();
    server.launch(&[]);
    let mut bystanders = Vec::new();
    while bystanders.iter_mut().map(client_id).max() < Some(number) {
        bystanders.push(server.connection());
    }
    pool.signal(Signal::SIGCONT);
    assert_one_more_job_runs(&pool, &mut server.connection(), "more");
    pool.assert_clean_stop();
    let still_there: Vec<u64> = bystanders.iter_mut().map(client_id).collect();
    assert!(still_there.contains(&number), "{number}: {still_there:?}");
}

/// The script was sent before anybody knew when it would run, and a day may have ended since.
#[test]
fn the_start_of_a_job_is_told_by_the_callers_clock() {
    const DAY_MS: i64 = 86_400_000;
    let server = Server::start(&[]);
    let connection = &mut server.connection();
    let script = redis::Script::new(concat!(
        include_str!("../../src/broker/rq/lua/job.lua"),
        include_str!("../../src/broker/rq/lua/start.lua"),
        include_str!("../../src/broker/rq/lua/standing.lua")
    ));
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query(connection).unwrap();
    let now_ms = seconds * 1000;
    // Callers at whose place it is this late when it is this late at the server; their day began then, or the one before.
    let cases = [
        (0, 0, "today"),
        (5_000, 0, "today"),
        (0, DAY_MS, "next"),
        (2 * DAY_MS, DAY_MS, "next"),
    ];
    for (at, (ahead_ms, earlier, date)) in cases.into_iter().enumerate() {
        let name = format!("job-{at}");
        jobs::enqueue(connection, "default", &[Job::mark(&name)]);
        let callers_ms = now_ms - ahead_ms;
        let day_ms = callers_ms - callers_ms.rem_euclid(DAY_MS) - earlier;
        let mut call = script.prepare_invoke();
        call.arg("rq")
            .arg("default")
            .arg(30)
            .arg("w")
            .arg("0".repeat(16))
            .arg(at);
        call.arg(i64::MAX >> 11).arg(ahead_ms).arg(day_ms);
        let _: redis::Value = call.arg("todayT").arg("nextT").invoke(connection).unwrap();
        let started: String = redis::cmd("HGET")
            .arg(format!("rq:job:{name}"))
            .arg("started_at")
            .query(connection)
            .unwrap();
        let time = ::pool::time::Unix(callers_ms).to_string();
        // To the hour: the seconds go on.
        let hour = format!("{date}{}", &time["2026-03-01".len().."2026-03-01T09".len()]);
        assert!(
            started.starts_with(&hour) || callers_ms % 3_600_000 > 3_590_000,
            "{started} does not begin with {hour}"
        );
        assert!(started.ends_with("000Z") && started.len() == date.len() + "T09:05:00.250000Z".len());
    }
}
