//! What can be shown only from inside: a database that refuses.

use std::time::Duration;

use rusqlite::StatementStatus;

use super::*;
use crate::broker::{DeadFilter, Enqueued, NewGroup};
use crate::job::{GroupId, JobId, JobState, NewJob, Verdict};
use crate::time::Mono;

struct Fixture {
    directory: tempfile::TempDir,
    broker: SqliteBroker,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory).await;
    Fixture { directory, broker }
}

/// A handle, as a process of its own has.
async fn open(directory: &tempfile::TempDir) -> SqliteBroker {
    let options = Options {
        path: directory.path().join("pool.db"),
        lease: Duration::from_secs(60),
        heartbeat: Duration::from_secs(20),
        result_ttl: Duration::from_secs(60),
        dead_ttl: None,
        payload_len_max: 1 << 20,
        fsync: false,
    };
    SqliteBroker::open(&options).await.unwrap()
}

fn queue() -> QueueName {
    QueueName::new("default").unwrap()
}

fn jobs(count: usize, payload_len: usize) -> Vec<NewJob> {
    (0..count)
        .map(|_| NewJob::new(queue(), "work", vec![b'x'; payload_len]))
        .collect()
}

impl SqliteBroker {
    /// Does something to the connection.
    async fn with<R: Send + 'static>(
        &self,
        work: impl FnMut(&mut store::Store) -> Result<R, error::Failure> + Send + 'static,
    ) -> R {
        self.engine.run(Access::Read, work).await.unwrap()
    }
}

/// Planning a statement costs ten times as much as running it.
#[tokio::test]
async fn a_statement_is_not_planned_again_for_other_values() {
    let Fixture {
        broker,
        directory: _kept,
    } = fixture().await;
    let jobs = jobs(20, 10);
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    broker.producer().unwrap().enqueue(jobs).await.unwrap();
    for _ in 0..2 {
        broker.reader().unwrap().find(&ids).await.unwrap();
    }
    let planned = |store: &mut store::Store| {
        let find = store.conn.prepare_cached(&inspect::FIND)?;
        Ok((
            find.get_status(StatementStatus::Run),
            find.get_status(StatementStatus::RePrepare),
        ))
    };
    assert_eq!(broker.with(planned).await, (40, 0));
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let Fixture {
        broker,
        directory: _kept,
    } = fixture().await;
    broker.producer().unwrap().enqueue(jobs(3, 10)).await.unwrap();
    let limit = |pages: i64| {
        move |store: &mut store::Store| {
            store
                .conn
                .pragma_update(None, "max_page_count", pages)
                .map_err(Into::into)
        }
    };
    let pages: i64 = broker
        .with(|store| {
            let pages = store
                .conn
                .pragma_query_value(None, "page_count", |row| row.get(0))?;
            Ok(pages)
        })
        .await;
    broker.with(limit(pages)).await;
    let error = broker
        .producer()
        .unwrap()
        .enqueue(jobs(1000, 1000))
        .await
        .unwrap_err();
    assert!(matches!(&error, BrokerError::Busy { .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("refuses for now: the disk is full"),
        "{error}"
    );
    let claimed = broker.claim(&[queue()], Turns::Strict, 9).await.unwrap();
    assert_eq!(claimed.len(), 3, "what was there is there");
    broker.with(limit(1 << 30)).await;
    broker
        .producer()
        .unwrap()
        .enqueue(jobs(1000, 1000))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_database_locked_for_too_long_is_said() {
    let Fixture { directory, broker } = fixture().await;
    let wait = Duration::from_millis(20);
    broker.with(move |store| Ok(store.conn.busy_timeout(wait)?)).await;
    let other = rusqlite::Connection::open(directory.path().join("pool.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (one, two) = tokio::join!(
        broker.producer().unwrap().enqueue(jobs(1, 1)),
        broker.producer().unwrap().enqueue(jobs(1, 1))
    );
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert!(matches!(&error, BrokerError::Busy { .. }), "{error:?}");
        assert!(error.to_string().contains("another process"), "{error}");
    }
    assert_eq!(broker.queues().names().await.unwrap(), [], "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    broker.producer().unwrap().enqueue(jobs(1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_handle_is_closed_soon_though_another_process_has_the_file() {
    let Fixture { directory, broker } = fixture().await;
    let other = rusqlite::Connection::open(directory.path().join("pool.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Mono::now();
    let queues = [queue()];
    let (claimed, closed) = tokio::join!(broker.claim(&queues, Turns::Strict, 1), broker.close());
    for error in [claimed.map(drop).unwrap_err(), closed.unwrap_err()] {
        assert!(matches!(&error, BrokerError::Busy { .. }), "{error:?}");
    }
    assert!(Mono::now().since(began) < BUSY_TIMEOUT);
}

#[tokio::test]
async fn a_refused_request_harms_none_that_shares_its_commit() {
    let Fixture {
        broker,
        directory: _kept,
    } = fixture().await;
    let taken = jobs(1, 1);
    broker.producer().unwrap().enqueue(taken.clone()).await.unwrap();
    let queues = [queue()];
    // The thread is busy with the first while the others queue up.
    let (_, good, bad, also_good) = tokio::join!(
        broker.producer().unwrap().enqueue(jobs(500, 10)),
        broker.producer().unwrap().enqueue(jobs(2, 1)),
        broker.producer().unwrap().enqueue(taken),
        broker.claim(&queues, Turns::Strict, 1),
    );
    assert_eq!(good.unwrap().len(), 2);
    assert!(matches!(bad, Err(BrokerError::IdTaken(_))));
    assert_eq!(also_good.unwrap().len(), 1);
    assert_eq!(broker.queues().backlog(&[queue()]).await.unwrap().waiting(), 502);
}

#[tokio::test]
async fn a_queue_undone_with_its_transaction_is_made_again() {
    let Fixture {
        broker,
        directory: _kept,
    } = fixture().await;
    let new = jobs(1, 1);
    broker.producer().unwrap().enqueue(new.clone()).await.unwrap();
    let other = QueueName::new("other").unwrap();
    let mut both = vec![NewJob::new(other.clone(), "work", ""), new[0].clone()];
    assert!(broker.producer().unwrap().enqueue(both.clone()).await.is_err());
    both.pop();
    broker.producer().unwrap().enqueue(both).await.unwrap();
    assert_eq!(broker.claim(&[other], Turns::Strict, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_a_dead_letter_and_stops_no_other() {
    let Fixture { broker, directory } = fixture().await;
    let new = jobs(4, 1);
    broker.producer().unwrap().enqueue(new.clone()).await.unwrap();
    let other = rusqlite::Connection::open(directory.path().join("pool.db")).unwrap();
    let spoil = |column: &str, at: usize| {
        let sql = format!("UPDATE jobs SET {column} WHERE id = ?1");
        assert_eq!(other.execute(&sql, [new[at].id.as_str()]).unwrap(), 1);
    };
    spoil("retries = -1", 1);
    spoil("id = CAST(x'63ff' AS TEXT)", 2);
    let claimed = broker.claim(&[queue()], Turns::Strict, 9).await.unwrap();
    let ids: Vec<&JobId> = claimed.iter().map(|claimed| &claimed.claim.job).collect();
    assert_eq!(ids, [&new[0].id, &new[3].id]);
    assert_eq!(broker.backlog(&[queue()]).await.unwrap().waiting(), 0);
    let filter = DeadFilter {
        limit: 9,
        ..DeadFilter::default()
    };
    let dead = broker.dead_letters().unwrap().list(&filter).await.unwrap();
    assert_eq!(dead.len(), 2);
    for view in &dead {
        assert_eq!(view.error.as_ref().unwrap().kind, "unreadable");
    }
    assert!(dead.iter().any(|view| view.id == new[1].id));
}

/// A broker with one job in each queue of these names, and another program's connection to its file.
async fn with_jobs(queues: &[&str]) -> (Fixture, Vec<NewJob>, rusqlite::Connection) {
    let fixture = fixture().await;
    let new = queues
        .iter()
        .map(|name| NewJob::new(QueueName::new(name).unwrap(), "work", "[]"));
    let new: Vec<NewJob> = new.collect();
    fixture
        .broker
        .producer()
        .unwrap()
        .enqueue(new.clone())
        .await
        .unwrap();
    let other = rusqlite::Connection::open(fixture.directory.path().join("pool.db")).unwrap();
    (fixture, new, other)
}

#[tokio::test]
async fn a_reader_says_which_job_and_column_cannot_be_read() {
    let (fixture, new, other) = with_jobs(&["default"; 3]).await;
    let reader = fixture.broker.reader().unwrap();
    let id = &new[0].id;
    let cases = [
        (
            "UPDATE jobs SET task = CAST(x'63ff' AS TEXT)",
            "`jobs.task` is not UTF-8",
        ),
        (
            "UPDATE jobs SET task = 'work'; INSERT INTO attempts SELECT handle, 1, 1, 'no', 0, NULL FROM jobs",
            "`attempts.error`: expected",
        ),
        (
            "UPDATE attempts SET error = NULL, failures = 1 << 40",
            "`attempts.failures`: out of range",
        ),
        (
            "UPDATE attempts SET failures = -1",
            "`attempts.failures`: out of range",
        ),
    ];
    for (spoil, column) in cases {
        other.execute_batch(spoil).unwrap();
        let told = reader
            .find(std::slice::from_ref(id))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            told.contains(&format!("job `{id}` can't be read: {column}")),
            "{told}"
        );
        let waited = reader
            .watch(vec![id.clone()])
            .next()
            .await
            .unwrap_err()
            .to_string();
        assert!(waited.contains(column), "{waited}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_nobody_elses_wait() {
    let (fixture, new, other) = with_jobs(&["default"; 2]).await;
    let reader = fixture.broker.reader().unwrap();
    let (mut bad, mut good) = (
        reader.watch(vec![new[0].id.clone()]),
        reader.watch(vec![new[1].id.clone()]),
    );
    let spoil = "UPDATE jobs SET retries = -1 WHERE id = ?1";
    other.execute(spoil, [new[0].id.as_str()]).unwrap();
    let (bad, good, claimed) = tokio::join!(bad.next(), good.next(), async {
        let claimed = fixture.broker.claim(&[queue()], Turns::Strict, 9).await.unwrap();
        let result = b"1".to_vec();
        let settlement = |claimed: &Claimed| Settlement {
            of: claimed.claim.clone(),
            verdict: Verdict::Finish {
                result: result.clone(),
            },
            run: None,
        };
        let settlements = claimed.iter().map(settlement).collect();
        fixture.broker.settle(settlements).await.unwrap();
        claimed.len()
    });
    assert_eq!(claimed, 1);
    assert_eq!(good.unwrap()[0].job.as_ref().unwrap().state, JobState::Finished);
    let dead = bad.unwrap()[0].job.clone().unwrap();
    assert_eq!(
        (dead.state, dead.error.unwrap().kind),
        (JobState::Dead, "unreadable".into())
    );
}

#[tokio::test]
async fn a_queue_that_another_program_changed_goes_on() {
    let spoils = [
        "DELETE FROM jobs WHERE handle = (SELECT min(handle) FROM jobs)",
        "DELETE FROM waiting WHERE handle = (SELECT min(handle) FROM jobs)",
        "UPDATE queues SET waiting = 0",
        "UPDATE queues SET waiting = 99",
    ];
    for spoil in spoils {
        let (fixture, new, other) = with_jobs(&["default"; 3]).await;
        other.execute_batch(spoil).unwrap();
        let mut taken = Vec::new();
        for _ in 0..4 {
            let claimed = fixture.broker.claim(&[queue()], Turns::Strict, 1).await.unwrap();
            taken.extend(claimed.into_iter().map(|claimed| claimed.claim.job));
        }
        assert_eq!(taken.last(), Some(&new[2].id), "{spoil}");
        // Nothing says that there were more: who waits would ask again and again.
        assert_eq!(
            fixture.broker.backlog(&[queue()]).await.unwrap().waiting(),
            0,
            "{spoil}"
        );
    }
}

#[tokio::test]
async fn a_job_ends_whose_group_or_chain_cannot_be_read() {
    let spoils = [
        "UPDATE groups SET id = ''",
        "UPDATE groups SET id = CAST(x'ff' AS TEXT)",
        "DELETE FROM groups",
        "DELETE FROM jobs WHERE handle IN (SELECT handle FROM deferred)",
        "DELETE FROM deferred",
    ];
    for spoil in spoils {
        let (fixture, _, other) = with_jobs(&[]).await;
        let broker = &fixture.broker;
        let group = NewGroup {
            id: GroupId::generate(),
            jobs: jobs(1, 1),
            on_done: Some(NewJob::new(queue(), "then", "{}")),
            on_failure: None,
        };
        broker.groups().unwrap().enqueue(group).await.unwrap();
        let chain = vec![
            NewJob::new(queue(), "first", "{}"),
            NewJob::new(queue(), "second", "{}"),
        ];
        broker.chains().unwrap().enqueue(chain).await.unwrap();
        let claimed = broker.claim(&[queue()], Turns::Strict, 9).await.unwrap();
        assert_eq!(claimed.len(), 2);
        other.execute_batch(spoil).unwrap();
        let settlement = |claimed: Claimed| Settlement {
            of: claimed.claim,
            verdict: Verdict::Finish {
                result: b"1".to_vec(),
            },
            run: None,
        };
        let settled = broker.settle(claimed.into_iter().map(settlement).collect()).await;
        assert_eq!(settled.unwrap(), [true, true], "{spoil}");
    }
}

#[tokio::test]
async fn a_unique_key_is_free_when_its_job_was_removed() {
    let (fixture, _, other) = with_jobs(&[]).await;
    let producer = fixture.broker.producer().unwrap();
    let job = || NewJob {
        unique_key: Some("once".into()),
        ..NewJob::new(queue(), "work", "[]")
    };
    producer.enqueue(vec![job()]).await.unwrap();
    other.execute_batch("DELETE FROM jobs").unwrap();
    for expected_new in [true, false] {
        let enqueued = producer.enqueue(vec![job()]).await.unwrap();
        assert_eq!(matches!(enqueued[0], Enqueued::New(_)), expected_new);
    }
}

/// The supervisor of this handle dies; `other` takes its claims back.
async fn die(of: &SqliteBroker, other: &SqliteBroker) {
    let session = of.with(|store| Ok(store.session)).await;
    let back = move |store: &mut store::Store| store.give_back(session, true);
    assert!(other.engine.run(Access::Write, back).await.unwrap() > 0);
}

async fn claim(broker: &SqliteBroker) -> Vec<Claimed> {
    broker.claim(&[queue()], Turns::Strict, 9).await.unwrap()
}

#[tokio::test]
async fn a_job_that_takes_its_supervisor_down_at_once_is_lost_in_the_end() {
    let Fixture { directory, broker } = fixture().await;
    let new = jobs(3, 1);
    broker.producer().unwrap().enqueue(new.clone()).await.unwrap();
    // The first two times all may be to blame; then each is taken alone.
    for expected in [3, 3, 1] {
        let dying = open(&directory).await;
        let claimed = claim(&dying).await;
        assert_eq!(claimed.len(), expected);
        assert!(claimed.iter().all(|claimed| claimed.job.losses == 0));
        assert!(claim(&dying).await.is_empty(), "none while it has not begun");
        die(&dying, &broker).await;
    }
    for (job, losses) in new.iter().zip([3, 0, 0]) {
        let claimed = claim(&broker).await;
        let [one] = &claimed[..] else {
            panic!("{claimed:?}");
        };
        assert_eq!((&one.claim.job, one.job.losses), (&job.id, losses));
        let settlement = Settlement {
            of: one.claim.clone(),
            verdict: Verdict::Finish {
                result: b"1".to_vec(),
            },
            run: None,
        };
        assert_eq!(broker.settle(vec![settlement]).await.unwrap(), [true]);
    }
}

#[tokio::test]
async fn jobs_behind_one_that_is_taken_alone_wait_until_it_has_begun() {
    let Fixture { directory, broker } = fixture().await;
    broker.producer().unwrap().enqueue(jobs(2, 1)).await.unwrap();
    for _ in 0..2 {
        let dying = open(&directory).await;
        assert_eq!(claim(&dying).await.len(), 2);
        die(&dying, &broker).await;
    }
    let first = claim(&broker).await;
    assert_eq!(first.len(), 1);
    let queues = [queue()];
    let mut ready = std::pin::pin!(broker.ready(&queues));
    for _ in 0..3 {
        let waits =
            std::future::poll_fn(|look| std::task::Poll::Ready(ready.as_mut().poll(look).is_pending()));
        assert!(waits.await);
        broker.with(|_| Ok(())).await;
    }
    broker.note_begun(vec![first[0].claim.clone()]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), ready)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claim(&broker).await.len(), 1);
}
