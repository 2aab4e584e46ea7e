//! Whether anybody serves a queue is known to the server, whoever it is and wherever.

use std::process::Command;

use redis::Commands;

use crate::server::Server;

/// What `pool enqueue` to this queue says on standard error.
fn said(server: &Server, queue: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pool"))
        .args([
            "enqueue",
            "app.add",
            "[1, 2]",
            "--queue",
            queue,
            "--broker",
            &server.url(),
        ])
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_queue_without_a_worker_of_any_kind_is_said() {
    let server = Server::start(&[]);
    assert_eq!(
        said(&server, "hihg"),
        "note: no worker serves the queue `hihg` now\n"
    );
    // As RQ's worker and a pool register.
    let _: () = server
        .connection()
        .sadd("rq:workers:high", "rq:worker:theirs")
        .unwrap();
    assert_eq!(said(&server, "high"), "");
}
