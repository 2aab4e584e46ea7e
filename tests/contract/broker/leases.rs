//! Rules of leases: how long claims are held, and what becomes of them then.

use std::time::Duration;

use pool::broker::BrokerError;
use pool::config::BrokerConfig;
use pool::job::JobState;
use pool::time::Mono;

use super::kit::*;

super::rules! {
    ready_wakes_when_a_lease_runs_out,
    maintenance_returns_jobs_to_the_front_when_their_lease_ran_out,
    a_renewed_lease_holds,
    an_outcome_after_the_lease_ran_out_is_late,
    a_lease_that_nobody_missed_is_renewed_late,
    closing_gives_claims_back,
    a_closed_handle_refuses,
    a_reader_holds_no_lease,
}

async fn ready_wakes_when_a_lease_runs_out(kit: &Kit) {
    let (dying, other) = (kit.short_lived().await, kit.housekeeper().await);
    enqueue(&other, jobs(0..3, "default")).await;
    assert_eq!(claim_ids(&dying, 3).await.len(), 3);
    kit.let_leases_run_out();
    soon(other.ready(&[queue("default")])).await.unwrap();
    assert_eq!(claim_ids(&other, 9).await, ["00000", "00001", "00002"]);
    assert_eq!(other.backlog(&[queue("default")]).await.unwrap().waiting(), 0);
}

async fn maintenance_returns_jobs_to_the_front_when_their_lease_ran_out(kit: &Kit) {
    let (dying, other) = (kit.short_lived().await, kit.handle().await);
    enqueue(&other, jobs(0..4, "default")).await;
    assert_eq!(claim_ids(&dying, 3).await.len(), 3);
    let mut recovered = 0;
    soon(async {
        while recovered == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            recovered = other.maintain().await.unwrap().recovered;
        }
    })
    .await;
    assert_eq!(recovered, 3);
    assert_eq!(state(&other, "00000").await, Some(JobState::Waiting));
    assert_eq!(claim_ids(&other, 9).await, ["00000", "00001", "00002", "00003"]);
}

async fn a_renewed_lease_holds(kit: &Kit) {
    let lease = Duration::from_millis(600);
    let holder = kit.handle_with(BrokerConfig { lease, ..config() }).await;
    let other = kit.handle().await;
    enqueue(&other, jobs(0..1, "default")).await;
    let claimed = claim(&holder, &["default"], 1).await.remove(0);
    let mut renewed = Mono::now();
    for _ in 0..6 {
        tokio::time::sleep(lease / 3).await;
        if Mono::now().since(renewed) > lease / 2 {
            eprintln!("this machine stalled for a lease: nothing is proved");
            return;
        }
        holder.extend().await.unwrap();
        renewed = Mono::now();
        assert!(claim_ids(&other, 9).await.is_empty() || Mono::now().since(renewed) > lease / 2);
    }
    assert!(settle(&holder, &claimed, finish()).await || Mono::now().since(renewed) > lease / 2);
}

async fn an_outcome_after_the_lease_ran_out_is_late(kit: &Kit) {
    let (dying, other) = (kit.short_lived().await, kit.housekeeper().await);
    enqueue(&other, jobs(0..1, "default")).await;
    let late = claim(&dying, &["default"], 1).await.remove(0);
    kit.let_leases_run_out();
    soon(other.ready(&[queue("default")])).await.unwrap();
    let claimed = claim(&other, &["default"], 1).await.remove(0);
    dying.extend().await.unwrap();
    assert!(!settle(&dying, &late, finish()).await);
    assert!(settle(&other, &claimed, finish()).await);
    // It lives after all, and begins anew.
    enqueue(&other, jobs(1..2, "default")).await;
    let again = claim(&dying, &["default"], 1).await.remove(0);
    assert!(settle(&dying, &again, finish()).await);
}

async fn a_lease_that_nobody_missed_is_renewed_late(kit: &Kit) {
    let (slow, other) = (kit.short_lived().await, kit.handle().await);
    enqueue(&slow, jobs(0..1, "default")).await;
    let claimed = claim(&slow, &["default"], 1).await.remove(0);
    tokio::time::sleep(Duration::from_millis(250)).await;
    kit.let_leases_run_out();
    assert!(settle(&slow, &claimed, finish()).await);
    assert_eq!(state(&other, "00000").await, Some(JobState::Finished));
}

async fn closing_gives_claims_back(kit: &Kit) {
    let (leaving, other) = (kit.handle().await, kit.handle().await);
    enqueue(&other, jobs(0..4, "default")).await;
    assert_eq!(claim_ids(&leaving, 3).await.len(), 3);
    assert_eq!(claim_ids(&other, 9).await, ["00003"]);
    let queues = [queue("default")];
    let mut ready = other.ready(&queues);
    assert!(waits(&mut ready).await);
    leaving.close().await.unwrap();
    soon(ready).await.unwrap();
    assert_eq!(claim_ids(&other, 9).await, ["00000", "00001", "00002"]);
}

async fn a_closed_handle_refuses(kit: &Kit) {
    let broker = kit.handle().await;
    broker.close().await.unwrap();
    let refused = broker.enqueue(jobs(0..1, "default")).await.unwrap_err();
    assert!(matches!(&refused, BrokerError::Refused(_)), "{refused:?}");
    assert!(soon(broker.ready(&[queue("default")])).await.is_err());
    assert!(soon(broker.wait_any(&[id("1")])).await.is_err());
    broker.close().await.expect("closing again is no error");
}

async fn a_reader_holds_no_lease(kit: &Kit) {
    let (reader, other) = (kit.short_lived().await, kit.handle().await);
    enqueue(&reader, jobs(0..1, "default")).await;
    reader.extend().await.unwrap();
    reader.find(&[id("00000")]).await.unwrap();
    drop(reader);
    assert_eq!(other.maintain().await.unwrap().recovered, 0);
    assert_eq!(claim_ids(&other, 9).await, ["00000"]);
}
