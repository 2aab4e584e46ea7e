//! What holds for Celery's tasks in place of the rules of canceling: without a worker that listens.

use std::sync::Arc;

use pool::broker::{Canceled, Pull};
use pool::job::{JobId, JobState};

use super::kit::{Kit, Verbs, claim, claim_ids, enqueue, finish, give_back, id, job, jobs, settle, soon};

async fn cancel(broker: &Arc<dyn Pull>, ids: &[JobId]) -> Vec<Canceled> {
    broker.control().unwrap().cancel(ids).await.unwrap()
}

pub async fn a_task_that_waits_is_canceled_at_once(kit: &Kit) {
    let (broker, other) = (
        kit.handle_that_knows(&["default"]).await,
        kit.handle_that_knows(&["default"]).await,
    );
    enqueue(&broker, jobs(0..4, "default")).await;
    let ended = claim(&broker, &["default"], 1).await.remove(0);
    assert!(settle(&broker, &ended, finish()).await);
    let held = claim(&broker, &["default"], 1).await.remove(0);
    let answers = cancel(&other, &[id("00000"), id("00001"), id("00002"), id("none")]).await;
    let [
        Canceled::Ended,
        Canceled::Refused(why),
        Canceled::Done,
        Canceled::Unknown,
    ] = &answers[..]
    else {
        panic!("{answers:?}");
    };
    assert!(why.contains("no worker answers"), "{why}");
    let canceled = other.find(&[id("00002")]).await.unwrap().remove(0).unwrap();
    assert_eq!(canceled.state, JobState::Dead);
    assert!(canceled.error.unwrap().never_ran());
    assert!(settle(&broker, &held, give_back()).await);
    assert_eq!(claim_ids(&broker, 9).await, ["00001", "00003"]);
}

/// The queue is longer than what one call looks at, while others take from one end and send to the other.
pub async fn of_tasks_canceled_under_load_each_ran_or_did_not(kit: &Kit) {
    const JOBS: u32 = 2_500;
    let other = kit.handle_that_knows(&["default"]).await;
    enqueue(&other, jobs(0..JOBS, "default")).await;
    let broker = kit.handle_that_knows(&["default"]).await;
    let taking = tokio::spawn(async move {
        let mut ran = Vec::new();
        loop {
            let claimed = claim(&broker, &["default"], 40).await;
            if claimed.is_empty() {
                return ran;
            }
            for claimed in &claimed {
                ran.push(claimed.job.id.to_string());
                assert!(settle(&broker, claimed, finish()).await);
            }
        }
    });
    let mut canceled = Vec::new();
    for number in (0..JOBS).step_by(50) {
        let ids = [
            id(&format!("{number:05}")),
            id(&format!("{:05}", JOBS - 1 - number)),
        ];
        enqueue(&other, vec![job(&format!("more {number}"), "default")]).await;
        let answers = cancel(&other, &ids).await;
        let done = ids
            .iter()
            .zip(answers)
            .filter(|(_, answer)| *answer == Canceled::Done);
        canceled.extend(done.map(|(id, _)| id.to_string()));
    }
    let mut ran = soon(taking).await.unwrap();
    // What came after it found nothing.
    loop {
        let late = claim_ids(&other, 100).await;
        if late.is_empty() {
            break;
        }
        ran.extend(late);
    }
    assert!(!canceled.is_empty());
    for id in &canceled {
        assert!(!ran.contains(id), "{id} was never to run");
    }
    let more = JOBS.div_ceil(50) as usize;
    assert_eq!(ran.len() + canceled.len(), JOBS as usize + more, "none was lost");
}
