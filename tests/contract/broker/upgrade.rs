//! A file of an earlier version is brought up to date, and nothing in it is lost.

use pool::broker::{Canceled, NewGroup};
use pool::job::JobState;
use rusqlite::Connection;

use super::kit::*;
use super::model::check_file;

/// A file as version 1 left it, with a job in each place.
fn make_version_1(kit: &Kit) {
    let path = kit.path();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let old = Connection::open(path).unwrap();
    old.execute_batch(include_str!("../../../src/broker/sqlite/schema.sql"))
        .unwrap();
    old.execute_batch(
        r#"PRAGMA journal_mode = WAL;
           PRAGMA application_id = 0x706f6f6c;
           PRAGMA user_version = 1;
           UPDATE sequence SET last = 6;
           INSERT INTO queues VALUES (1, 'default', 1, 1);
           INSERT INTO jobs (handle, id, queue, task, enqueued, payload) VALUES
               (1, 'waiting', 1, 'work', 1000, x'31'), (2, 'scheduled', 1, 'work', 1000, x'32'),
               (3, 'running', 1, 'work', 1000, x'33'), (4, 'finished', 1, 'work', 1000, x'34'),
               (5, 'dead', 1, 'work', 1000, x'35');
           INSERT INTO waiting VALUES (1, 6, 1, 1000, 0);
           INSERT INTO scheduled VALUES (2, 9000000000000, 1, 0, 0);
           INSERT INTO sessions VALUES (77, 9000000000000, 0);
           INSERT INTO running VALUES (3, 77, 1, 1, 3, 1000);
           INSERT INTO finished VALUES (4, 2000, 9000000000000, x'3432');
           INSERT INTO dead VALUES (5, 2000, 1);
           INSERT INTO attempts VALUES (5, 1, 0, '{"kind":"ValueError","message":"no"}');"#,
    )
    .unwrap();
}

#[tokio::test]
async fn a_file_of_version_1_goes_on_with_all_its_jobs() {
    let kit = Kit::sqlite();
    make_version_1(&kit);
    let broker = kit.handle().await;
    for (name, expected) in [
        ("waiting", JobState::Waiting),
        ("scheduled", JobState::Scheduled),
        ("running", JobState::Running),
        ("finished", JobState::Finished),
        ("dead", JobState::Dead),
    ] {
        assert_eq!(state(&broker, name).await, Some(expected));
    }
    assert_eq!(broker.retry_dead(&[id("dead")]).await.unwrap(), [id("dead")]);
    let claimed = claim(&broker, &["default"], 9).await;
    assert_eq!(ids_of(&claimed), ["waiting", "dead"]);
    // What version 3 added: a claim of version 1 has not begun, as far as is known, and can be canceled.
    broker.note_begun(vec![claimed[0].claim.clone()]).await.unwrap();
    let canceled = broker
        .control()
        .unwrap()
        .cancel(&[id("running"), id("waiting")])
        .await;
    assert_eq!(canceled.unwrap(), [Canceled::Asked, Canceled::Runs]);
    assert!(settle(&broker, &claimed[0], finish()).await);
    assert!(settle(&broker, &claimed[1], bury("again")).await);
    let group = NewGroup::new(jobs(0..2, "default"));
    broker.enqueue_group(group).await.unwrap();
    assert_eq!(claim_ids(&broker, 9).await.len(), 2);
    let database = Connection::open(kit.path()).unwrap();
    let version = |row: &rusqlite::Row| row.get::<_, i64>(0);
    assert_eq!(database.pragma_query_value(None, "user_version", version), Ok(9));
    check_file(&database);
}
