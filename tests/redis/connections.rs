//! Each way to a server: jobs run over it, and what does not fit is told before the application is loaded.

use std::collections::BTreeSet;

use redis::Connection;

use crate::certificates::Authority;
use crate::jobs;
use crate::ledger::Ledger;
use crate::pool::Pool;
use crate::server::{self, Server, clients};

/// Jobs of all kinds run over this URL; `connection` leads to the same database.
fn assert_jobs_run(url: &str, broker: &str, connection: &mut Connection) {
    let mut ledger = Ledger::new();
    jobs::enqueue(connection, "default", &ledger.jobs(100));
    let mut pool = Pool::start(url, broker);
    ledger.assert_settled(&pool, connection);
    pool.assert_clean_stop();
}

/// The pool ends with status 3 and says this; it has not loaded the application.
fn assert_refused(url: &str, broker: &str, reason: &str) {
    let mut pool = Pool::new(url, broker);
    pool.spawn();
    let (status, log) = (pool.ended(), pool.log());
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains(reason), "{log}\n\nshould say: {reason}");
    assert!(!log.contains("app loaded"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn a_database_is_chosen_by_its_number() {
    let server = Server::start(&[]);
    let url = server.url().replace("/0", "/3");
    let connection = &mut server::connection(&url, String::new);
    assert_jobs_run(&url, "", connection);
    let others: u64 = redis::cmd("DBSIZE").query(&mut server.connection()).unwrap();
    assert_eq!(others, 0);
}

#[test]
fn a_server_is_reached_by_its_unix_socket() {
    let server = Server::start(&["--unixsocket", "redis.sock"]);
    let url = format!("redis+unix://{}?db=2", server.path("redis.sock").display());
    let connection = &mut server::connection(&server.url().replace("/0", "/2"), String::new);
    assert_jobs_run(&url, "", connection);
}

#[test]
fn a_server_asks_for_a_password() {
    let server = Server::start(&["--requirepass", "secret"]);
    let url = server.url_for(":secret");
    assert_jobs_run(&url, "", &mut server::connection(&url, String::new));
    assert_refused(&server.url(), "", "check user and password of the URL");
    let wrong = server.url_for(":wrong-secret");
    assert_refused(&wrong, "", "check user and password of the URL");
}

#[test]
fn nobody_listens() {
    let url = format!("redis://127.0.0.1:{}/0", server::free_port());
    assert_refused(&url, "", "is the server running, and is this its address?");
}

/// A server that speaks TLS on `port`, wants certificates of its clients, and has a plain port for the test.
fn tls_server(authority: &Authority, names: &str, port: u16) -> Server {
    let (certificate, key) = authority.issue("server", names);
    Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-ca-cert-file",
        authority.certificate().to_str().unwrap(),
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
    ])
}

/// `[broker]`: who vouches for the server, and by what it knows us.
fn certificates(authority: &Authority, client: Option<&Authority>) -> String {
    let mut text = format!("tls_ca = \"{}\"\n", authority.certificate().display());
    if let Some(client) = client {
        let (certificate, key) = client.issue("client", "DNS:client");
        text += &format!(
            "tls_cert = \"{}\"\ntls_key = \"{}\"\n",
            certificate.display(),
            key.display()
        );
    }
    text
}

#[test]
fn certificates_vouch_for_both_sides() {
    let (authority, port) = (Authority::new(), server::free_port());
    let server = tls_server(&authority, "DNS:localhost,IP:127.0.0.1", port);
    let known = certificates(&authority, Some(&authority));
    let url = format!("rediss://127.0.0.1:{port}/0");
    assert_jobs_run(&url, &known, &mut server.connection());
}

#[test]
fn a_certificate_that_does_not_fit_is_told() {
    let (authority, other, port) = (Authority::new(), Authority::new(), server::free_port());
    let _speaks_tls = tls_server(&authority, "DNS:localhost", port);
    let url = format!("rediss://localhost:{port}/0");
    let by_address = format!("rediss://127.0.0.1:{port}/0");
    let known = certificates(&authority, Some(&authority));
    let hint = "check tls_ca, tls_cert and tls_key";
    assert_refused(&url, &certificates(&other, Some(&authority)), hint);
    assert_refused(&by_address, &known, "not valid for name");
    assert_refused(&url, &certificates(&authority, None), hint);
    assert_refused(&url, &certificates(&authority, Some(&other)), hint);
    // One side speaks TLS, and the other does not.
    assert_refused(&url.replace("rediss", "redis"), "", "cannot reach");
    // (This one takes no notice of the other's words, and ends the connection after a second.)
    let plain = Server::start(&["--timeout", "1"]);
    assert_refused(&plain.url().replace("redis", "rediss"), &known, "cannot reach");
}

/// The words of `ACL SETUSER` that docs/rq.md names.
fn documented_rights() -> Vec<&'static str> {
    let docs = include_str!("../../docs/rq.md");
    let line = docs
        .lines()
        .find(|line| line.starts_with("ACL SETUSER pool"))
        .unwrap();
    line.split(' ').skip(3).collect()
}

#[test]
fn a_user_with_the_documented_rights_can_do_all_that_is_needed_and_little_more() {
    let server = Server::start(&[]);
    let connection = &mut server.connection();
    let words = documented_rights();
    let () = redis::cmd("ACL")
        .arg("SETUSER")
        .arg("pool")
        .arg(&words)
        .query(connection)
        .unwrap();
    let mut ledger = Ledger::new();
    jobs::enqueue(connection, "default", &ledger.jobs(300));
    let () = redis::cmd("CONFIG").arg("RESETSTAT").query(connection).unwrap();
    let mut pool = Pool::start(&server.url_for("pool:secret"), "");
    ledger.wait_for_progress(&pool, 300);
    pool.wait_until_idle();
    pool.wait_for("the pool to wait for jobs", |_| {
        clients(connection)
            .iter()
            .any(|client| client.contains(" cmd=blmove "))
    });
    pool.assert_clean_stop();
    let used = used(connection);
    ledger.assert_settled(&pool, connection);
    assert!(used.contains("evalsha") && used.contains("subscribe"), "{used:?}");
    let refused: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query(connection).unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    let rights = granted(connection, &words);
    let missing: Vec<&String> = used.difference(&rights).collect();
    assert!(missing.is_empty(), "used without being granted: {missing:?}");
    for word in words.iter().filter(|word| word.starts_with('+')) {
        let others: Vec<&str> = words.iter().copied().filter(|other| other != word).collect();
        assert!(
            !used.is_subset(&granted(connection, &others)),
            "{word} is not needed"
        );
    }
}

/// Commands that were called since the figures were set to zero.
fn used(connection: &mut Connection) -> BTreeSet<String> {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(connection).unwrap();
    let name = |line: &str| Some(line.strip_prefix("cmdstat_")?.split_once(':')?.0.to_owned());
    let mut used: BTreeSet<String> = stats.lines().filter_map(name).collect();
    // The test's own.
    used.retain(|command| !command.starts_with("config") && command != "acl" && command != "client|list");
    used
}

/// Commands that these words grant. (A subcommand is granted with its command.)
fn granted(connection: &mut Connection, words: &[&str]) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for word in words {
        let commands: Vec<String> = match word.get(..2) {
            Some("+@" | "-@") => redis::cmd("ACL")
                .arg("CAT")
                .arg(&word[2..])
                .query(connection)
                .unwrap(),
            _ => vec![word[1..].to_owned()],
        };
        match &word[..1] {
            "+" => granted.extend(commands),
            "-" => granted.retain(|command| !commands.contains(command)),
            _ => {}
        }
    }
    granted
}

#[test]
fn a_check_names_the_commands_and_channels_that_a_user_lacks() {
    let server = Server::start(&[]);
    let connection = &mut server.connection();
    let cases: [(&[&str], &str); 3] = [
        (&["resetchannels", "-expire"], "EXPIRE, SUBSCRIBE to rq:pubsub:*"),
        (&["-subscribe"], "SUBSCRIBE to rq:pubsub:*"),
        (&["-client|tracking"], "CLIENT TRACKING"),
    ];
    for (lacking, named) in cases {
        let mut acl = redis::cmd("ACL");
        acl.arg("SETUSER")
            .arg("pool")
            .arg("reset")
            .arg(documented_rights());
        let () = acl.arg(lacking).query(connection).unwrap();
        let (output, status) = Pool::new(&server.url_for("pool:secret"), "").check();
        assert_eq!(status.code(), Some(1), "{output}");
        let told = format!("refuses commands that a pool needs: {named} (docs/rq.md");
        assert!(output.contains(&told), "{output}\n\nshould say: {told}");
    }
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER")
        .arg("pool")
        .arg("reset")
        .arg(documented_rights());
    let () = acl.query(connection).unwrap();
    let (output, status) = Pool::new(&server.url_for("pool:secret"), "").check();
    assert!(status.success(), "{output}");
}

#[test]
fn a_right_that_is_missing_is_named() {
    let server = Server::start(&[]);
    let connection = &mut server.connection();
    let rights = ["on", ">secret", "~other:*", "+@all"];
    let () = redis::cmd("ACL")
        .arg("SETUSER")
        .arg("pool")
        .arg(&rights)
        .query(connection)
        .unwrap();
    assert_refused(&server.url_for("pool:secret"), "", "docs/rq.md");
}
