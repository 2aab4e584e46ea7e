//! Rules of canceling and stopping, and of what is known of a claim beyond that it is held.

use std::time::Duration;

use pool::broker::source::StopHow;
use pool::broker::{Canceled, Pull};
use pool::job::{JobError, JobState, NewJob, Settlement, Verdict};
use pool::time::Unix;

use super::flow::group;
use super::kit::*;

super::rules! {
    what_waits_is_canceled_at_once,
    what_is_due_later_is_canceled_at_once,
    a_claim_that_was_canceled_does_not_come_back,
    a_claim_that_was_canceled_ends,
    what_has_ended_is_not_canceled,
    one_that_cannot_be_canceled_stops_no_other,
    of_jobs_canceled_under_load_each_ran_or_did_not,
}

async fn cancel(broker: &std::sync::Arc<dyn Pull>, of: &str) -> Canceled {
    let mut answers = broker.control().unwrap().cancel(&[id(of)]).await.unwrap();
    assert_eq!(answers.len(), 1, "one answer a job");
    answers.swap_remove(0)
}

async fn what_waits_is_canceled_at_once(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..3, "default")).await;
    assert_eq!(cancel(&broker, "00001").await, Canceled::Done);
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 2);
    assert_eq!(claim_ids(&broker, 9).await, ["00000", "00002"]);
    assert_eq!(state(&broker, "00001").await, Some(JobState::Dead));
}

async fn what_is_due_later_is_canceled_at_once(kit: &Kit) {
    let broker = kit.handle().await;
    let later = NewJob {
        due: Some(Unix::now() + Duration::from_secs(3600)),
        ..job("1", "default")
    };
    enqueue(&broker, vec![later]).await;
    assert_eq!(cancel(&broker, "1").await, Canceled::Done);
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().scheduled, 0);
    assert_eq!(state(&broker, "1").await, Some(JobState::Dead));
}

async fn a_claim_that_was_canceled_does_not_come_back(kit: &Kit) {
    let (broker, other) = (kit.handle().await, kit.handle().await);
    enqueue(&broker, jobs(0..3, "default")).await;
    let claimed = claim(&broker, &["default"], 3).await;
    let claims: Vec<_> = claimed.iter().map(|claimed| claimed.claim.clone()).collect();
    let mut heard = broker.called_off(&claims);
    assert!(waits(&mut heard).await);
    assert_eq!(cancel(&other, "00001").await, Canceled::Asked);
    assert_eq!(soon(heard).await.unwrap(), [(1, StopHow::IfNotBegun)]);
    assert_eq!(cancel(&other, "00002").await, Canceled::Asked);
    assert!(settle(&broker, &claimed[0], give_back()).await);
    settle(&broker, &claimed[1], give_back()).await;
    let again = Verdict::Again {
        due: None,
        at_front: true,
        failures: 1,
        losses: 0,
        error: JobError::new("ValueError", "no"),
    };
    settle(&broker, &claimed[2], again).await;
    assert_eq!(claim_ids(&broker, 9).await, ["00000"]);
    for canceled in ["00001", "00002"] {
        assert_eq!(state(&other, canceled).await, Some(JobState::Dead), "{canceled}");
    }
}

async fn a_claim_that_was_canceled_ends(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    assert_eq!(cancel(&broker, "00000").await, Canceled::Asked);
    // The second was called off by others who leave no mark, as an order to stop it.
    let canceled = claimed.iter().map(|claimed| Settlement {
        of: claimed.claim.clone(),
        verdict: Verdict::Canceled,
        run: None,
    });
    assert_eq!(broker.settle(canceled.collect()).await.unwrap(), [true; 2]);
    assert!(claim_ids(&broker, 9).await.is_empty());
    for canceled in ["00000", "00001"] {
        assert_eq!(state(&broker, canceled).await, Some(JobState::Dead));
    }
}

async fn what_has_ended_is_not_canceled(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    assert!(settle(&broker, &claimed[0], finish()).await);
    assert!(settle(&broker, &claimed[1], bury("no")).await);
    assert_eq!(cancel(&broker, "00000").await, Canceled::Ended);
    assert_eq!(cancel(&broker, "00001").await, Canceled::Ended);
    assert_eq!(cancel(&broker, "none").await, Canceled::Unknown);
    assert_eq!(state(&broker, "00000").await, Some(JobState::Finished));
}

/// Makes a job one that this broker can't cancel. Returns whether it has such jobs.
fn spoil(kit: &Kit, of: &str) -> bool {
    match kit {
        Kit::Memory(_) | Kit::Celery(_) => return false,
        Kit::Sqlite(_) => {
            let file = rusqlite::Connection::open(kit.path()).unwrap();
            let spoil = "INSERT INTO attempts (handle, failures, losses) SELECT handle, 1 << 40, 0 FROM jobs WHERE id = ?1";
            assert_eq!(file.execute(spoil, [of]), Ok(1));
        }
        Kit::Redis(server) => {
            let key = format!("rq:job:{of}");
            let mut limited = ::redis::cmd("HSET");
            limited.arg(key).arg("rate_limit_key").arg("mails");
            let mut connection = server.lock().connection();
            let () = limited.query(&mut connection).unwrap();
            let mut odd = ::redis::cmd("SET");
            let () = odd
                .arg("rq:rl:mails:allowed")
                .arg("no set")
                .query(&mut connection)
                .unwrap();
        }
    }
    true
}

async fn one_that_cannot_be_canceled_stops_no_other(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..3, "default")).await;
    if !spoil(kit, "00001") {
        return;
    }
    let all = ids(0..3);
    let answers = broker.control().unwrap().cancel(&all).await.unwrap();
    let [Canceled::Done, Canceled::Refused(reason), Canceled::Done] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(!reason.is_empty());
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 1);
}

/// Takes jobs and runs them until none is left, as a supervisor does: what was called off before it begins does not run.
/// Returns what ran.
async fn work(broker: std::sync::Arc<dyn Pull>) -> Vec<String> {
    let mut ran = Vec::new();
    loop {
        let claimed = claim(&broker, &["default"], 8).await;
        if claimed.is_empty() {
            return ran;
        }
        let claims: Vec<_> = claimed.iter().map(|claimed| claimed.claim.clone()).collect();
        let called_off = tokio::time::timeout(Duration::from_millis(2), broker.called_off(&claims)).await;
        let called_off = called_off.map_or(Vec::new(), Result::unwrap);
        let is_off = |at: usize| called_off.iter().any(|(off, _)| *off == at);
        let begun = claims.iter().enumerate().filter(|(at, _)| !is_off(*at));
        let begun = begun.map(|(_, claim)| claim.clone());
        broker.note_begun(begun.collect()).await.unwrap();
        for (at, claimed) in claimed.iter().enumerate() {
            let verdict = match is_off(at) {
                true => Verdict::Canceled,
                false => {
                    ran.push(claimed.job.id.to_string());
                    finish()
                }
            };
            settle(&broker, claimed, verdict).await;
        }
    }
}

async fn of_jobs_canceled_under_load_each_ran_or_did_not(kit: &Kit) {
    const JOBS: u32 = 300;
    let (one, two, other) = (kit.handle().await, kit.handle().await, kit.handle().await);
    enqueue(&other, jobs(0..JOBS, "default")).await;
    let workers = [tokio::spawn(work(one)), tokio::spawn(work(two))];
    let mut order: Vec<u32> = (0..JOBS).collect();
    fastrand::shuffle(&mut order);
    let mut never = Vec::new();
    for chunk in order.chunks(7) {
        let chunk: Vec<_> = chunk.iter().map(|number| id(&format!("{number:05}"))).collect();
        let answers = other.control().unwrap().cancel(&chunk).await.unwrap();
        let done = chunk
            .iter()
            .zip(answers)
            .filter(|(_, answer)| *answer == Canceled::Done);
        never.extend(done.map(|(id, _)| id.to_string()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut ran = Vec::new();
    for worker in workers {
        ran.extend(soon(worker).await.unwrap());
    }
    ran.sort();
    let count = ran.len();
    ran.dedup();
    assert_eq!(ran.len(), count, "none ran twice");
    let views = other.find(&ids(0..JOBS)).await.unwrap();
    for (number, view) in views.into_iter().enumerate() {
        let (id, view) = (format!("{number:05}"), view.unwrap());
        let has_run = ran.binary_search(&id).is_ok();
        assert_eq!(view.state == JobState::Finished, has_run, "{view:?}");
        let is_canceled = view.error.is_some_and(|error| error.never_ran());
        assert!(is_canceled != has_run, "{id} ran: {has_run}");
        assert!(!(has_run && never.contains(&id)), "{id} was never to run");
    }
}

/// Stores that keep which claims have begun.
fn embedded() -> [Kit; 2] {
    [Kit::memory(), Kit::sqlite()]
}

#[tokio::test]
async fn what_has_begun_is_stopped_and_not_canceled() {
    for kit in embedded() {
        let (broker, other) = (kit.handle().await, kit.handle().await);
        enqueue(&broker, jobs(0..1, "default")).await;
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        broker.note_begun(vec![claimed.claim.clone()]).await.unwrap();
        assert_eq!(cancel(&other, "00000").await, Canceled::Runs);
        let claims = [claimed.claim.clone()];
        let mut heard = broker.called_off(&claims);
        assert!(waits(&mut heard).await);
        let asked = other.control().unwrap().stop(&[id("00000")]).await.unwrap();
        assert_eq!(asked, [Canceled::Asked]);
        assert_eq!(soon(heard).await.unwrap(), [(0, StopHow::ForGood)]);
        assert!(settle(&broker, &claimed, Verdict::Stopped).await);
        let error = broker
            .find(&[id("00000")])
            .await
            .unwrap()
            .remove(0)
            .unwrap()
            .error;
        assert_eq!(error.unwrap().kind, "stopped");
    }
}

#[tokio::test]
async fn a_callback_that_was_canceled_stays_so_when_its_group_ends() {
    for kit in embedded() {
        let broker = kit.handle().await;
        broker.enqueue_group(group(jobs(0..1, "default"))).await.unwrap();
        for callback in ["done", "failure"] {
            assert_eq!(cancel(&broker, callback).await, Canceled::Done);
        }
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        assert!(settle(&broker, &claimed, finish()).await);
        for callback in ["done", "failure"] {
            let view = broker.find(&[id(callback)]).await.unwrap().remove(0).unwrap();
            assert!(view.error.is_some_and(|error| error.never_ran()), "{callback}");
        }
    }
}

#[tokio::test]
async fn of_a_supervisor_that_died_what_had_begun_is_lost_and_what_was_canceled_stays_so() {
    for kit in embedded() {
        let (dying, other) = (kit.short_lived().await, kit.handle().await);
        enqueue(&other, jobs(0..3, "default")).await;
        let claimed = claim(&dying, &["default"], 3).await;
        dying.note_begun(vec![claimed[0].claim.clone()]).await.unwrap();
        assert_eq!(cancel(&other, "00002").await, Canceled::Asked);
        soon(other.ready(&[queue("default")])).await.unwrap();
        let again = claim(&other, &["default"], 9).await;
        let losses: Vec<(String, u32)> = again
            .iter()
            .map(|claimed| (claimed.job.id.to_string(), claimed.job.losses))
            .collect();
        assert_eq!(losses, [("00000".to_owned(), 1), ("00001".to_owned(), 0)]);
        let view = other.find(&ids(0..3)).await.unwrap();
        assert_eq!(
            view[0].as_ref().unwrap().error.as_ref().unwrap().kind,
            "worker lost"
        );
        assert_eq!(view[2].as_ref().unwrap().state, JobState::Dead);
    }
}
