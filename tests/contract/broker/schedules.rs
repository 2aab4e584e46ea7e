//! Rules of schedules: each due time makes one job, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::{Fired, Firing, Make, Overlap, Pull, Ruled, ScheduleView, Schedules};
use pool::job::{JobState, NewJob};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    a_due_time_makes_one_job,
    a_later_due_time_is_taken_and_an_earlier_one_is_not,
    a_schedule_is_known_from_its_first_meeting_on,
    another_rule_begins_anew,
    a_pause_holds_for_everybody,
    a_due_time_is_left_out_while_the_last_job_runs,
    a_due_time_waits_for_the_last_job_to_end,
    a_person_may_ask_at_any_time,
    missed_due_times_move_the_mark,
    a_job_that_is_refused_leaves_its_due_time,
    many_that_ask_at_once_make_one_job_each,
}

fn schedules(broker: &Arc<dyn Pull>) -> &dyn Schedules {
    broker.schedules().expect("it has schedules")
}

fn ruled(rule: &str) -> Ruled {
    Ruled {
        name: "report".into(),
        rule: rule.to_owned(),
    }
}

/// Meets the schedule `report`, and tells since when it is known.
async fn meet(broker: &Arc<dyn Pull>, rule: &str) -> ScheduleView {
    let mut views = schedules(broker).meet(&[ruled(rule)]).await.unwrap();
    assert_eq!(views.len(), 1, "one answer a schedule");
    views.swap_remove(0)
}

async fn look(broker: &Arc<dyn Pull>) -> Option<ScheduleView> {
    let mut views = schedules(broker).look(&["report".into()]).await.unwrap();
    assert_eq!(views.len(), 1, "one answer a name");
    views.swap_remove(0)
}

fn fresh() -> NewJob {
    NewJob::new(queue("default"), "t", "[]")
}

fn firing(due: Option<Unix>, overlap: Overlap) -> Firing {
    Firing {
        schedule: "report".into(),
        due,
        job: Some(Make::Job(Box::new(fresh()))),
        overlap,
    }
}

async fn fire(broker: &Arc<dyn Pull>, due: Unix, overlap: Overlap) -> Fired {
    let mut fired = schedules(broker)
        .fire(vec![firing(Some(due), overlap)])
        .await
        .unwrap();
    assert_eq!(fired.len(), 1, "one answer a due time");
    fired.swap_remove(0)
}

fn is_enqueued(fired: &Fired) -> bool {
    matches!(fired, Fired::Enqueued(_))
}

fn later(than: Unix, seconds: u64) -> Unix {
    than + Duration::from_secs(seconds)
}

async fn waiting(broker: &Arc<dyn Pull>) -> u64 {
    broker.backlog(&[queue("default")]).await.unwrap().waiting()
}

async fn a_due_time_makes_one_job(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    let mark = meet(&one, "every 1s").await.mark;
    let due = later(mark, 1);
    let Fired::Enqueued(id) = fire(&one, due, Overlap::Allow).await else {
        panic!("nothing was fired");
    };
    assert_eq!(fire(&other, due, Overlap::Allow).await, Fired::Known);
    assert_eq!(fire(&one, due, Overlap::Allow).await, Fired::Known);
    let known = look(&other).await.unwrap();
    assert_eq!((known.mark, known.job.as_ref()), (due, Some(&id)));
    assert!(known.fired.is_some() && known.held.is_none() && !known.paused);
    assert_eq!(waiting(&one).await, 1);
    assert_eq!(claim_ids(&one, 9).await, [id.as_str()]);
}

async fn a_later_due_time_is_taken_and_an_earlier_one_is_not(kit: &Kit) {
    let broker = kit.handle().await;
    let mark = meet(&broker, "every 1s").await.mark;
    assert!(is_enqueued(&fire(&broker, later(mark, 5), Overlap::Allow).await));
    assert_eq!(fire(&broker, later(mark, 4), Overlap::Allow).await, Fired::Known);
    assert!(is_enqueued(&fire(&broker, later(mark, 6), Overlap::Allow).await));
    assert_eq!(waiting(&broker).await, 2);
}

async fn a_schedule_is_known_from_its_first_meeting_on(kit: &Kit) {
    let broker = kit.handle().await;
    assert_eq!(look(&broker).await, None);
    let before = Unix::now();
    let mark = meet(&broker, "every 1s").await.mark;
    assert!(mark >= before && mark <= Unix::now());
    assert_eq!(meet(&broker, "every 1s").await.mark, mark);
    assert_eq!(fire(&broker, mark, Overlap::Allow).await, Fired::Known);
}

async fn another_rule_begins_anew(kit: &Kit) {
    let broker = kit.handle().await;
    let first = meet(&broker, "every 1s").await.mark;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = meet(&broker, "every 2s").await.mark;
    assert!(second > first);
    assert_eq!(fire(&broker, second, Overlap::Allow).await, Fired::Known);
}

async fn a_pause_holds_for_everybody(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    let mark = meet(&one, "every 1s").await.mark;
    schedules(&other).pause(&[ruled("every 1s")], true).await.unwrap();
    assert_eq!(fire(&one, later(mark, 1), Overlap::Allow).await, Fired::Paused);
    assert_eq!(fire(&one, later(mark, 1), Overlap::Allow).await, Fired::Known);
    assert!(look(&one).await.unwrap().paused);
    assert_eq!(waiting(&one).await, 0);
    let before = Unix::now();
    schedules(&other)
        .pause(&[ruled("every 1s")], false)
        .await
        .unwrap();
    let known = look(&one).await.unwrap();
    assert!(!known.paused && known.mark >= before, "{known:?}");
    assert!(is_enqueued(
        &fire(&one, later(known.mark, 1), Overlap::Allow).await
    ));
}

async fn a_due_time_is_left_out_while_the_last_job_runs(kit: &Kit) {
    let broker = kit.handle().await;
    let mark = meet(&broker, "every 1s").await.mark;
    let Fired::Enqueued(id) = fire(&broker, later(mark, 1), Overlap::Skip).await else {
        panic!("nothing was fired");
    };
    assert_eq!(
        fire(&broker, later(mark, 2), Overlap::Skip).await,
        Fired::Overlaps(id.clone())
    );
    let claimed = claim(&broker, &["default"], 9).await;
    assert_eq!(
        fire(&broker, later(mark, 3), Overlap::Skip).await,
        Fired::Overlaps(id)
    );
    assert!(settle(&broker, &claimed[0], finish()).await);
    assert_eq!(fire(&broker, later(mark, 3), Overlap::Skip).await, Fired::Known);
    assert!(is_enqueued(&fire(&broker, later(mark, 4), Overlap::Skip).await));
}

async fn a_due_time_waits_for_the_last_job_to_end(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    let mark = meet(&one, "every 1s").await.mark;
    let Fired::Enqueued(id) = fire(&one, later(mark, 1), Overlap::Queue).await else {
        panic!("nothing was fired");
    };
    for seconds in [2, 3] {
        let fired = fire(&one, later(mark, seconds), Overlap::Queue).await;
        assert_eq!(fired, Fired::Waits(id.clone()));
    }
    let known = look(&other).await.unwrap();
    assert_eq!((known.held, known.mark), (Some(later(mark, 2)), later(mark, 1)));
    let claimed = claim(&one, &["default"], 9).await;
    assert!(settle(&one, &claimed[0], bury("no")).await);
    assert!(is_enqueued(&fire(&other, later(mark, 3), Overlap::Queue).await));
    assert_eq!(fire(&one, later(mark, 3), Overlap::Queue).await, Fired::Known);
    assert_eq!(look(&one).await.unwrap().held, None);
}

async fn a_person_may_ask_at_any_time(kit: &Kit) {
    let broker = kit.handle().await;
    let mark = meet(&broker, "every 1s").await.mark;
    schedules(&broker)
        .pause(&[ruled("every 1s")], true)
        .await
        .unwrap();
    for _ in 0..2 {
        let fired = schedules(&broker)
            .fire(vec![firing(None, Overlap::Skip)])
            .await
            .unwrap();
        assert!(is_enqueued(&fired[0]), "{fired:?}");
    }
    let known = look(&broker).await.unwrap();
    assert_eq!((known.mark, known.paused), (mark, true));
    assert_eq!(waiting(&broker).await, 2);
}

async fn missed_due_times_move_the_mark(kit: &Kit) {
    let broker = kit.handle().await;
    let mark = meet(&broker, "every 1s").await.mark;
    let missed = Firing {
        job: None,
        ..firing(Some(later(mark, 3)), Overlap::Allow)
    };
    let fired = schedules(&broker).fire(vec![missed, firing(Some(later(mark, 4)), Overlap::Allow)]);
    let fired = fired.await.unwrap();
    assert!(fired[0] == Fired::LeftOut && is_enqueued(&fired[1]), "{fired:?}");
    assert_eq!(look(&broker).await.unwrap().mark, later(mark, 4));
    assert_eq!(waiting(&broker).await, 1);
}

async fn a_job_that_is_refused_leaves_its_due_time(kit: &Kit) {
    let broker = kit.handle().await;
    let mark = meet(&broker, "every 1s").await.mark;
    let mut large = firing(Some(later(mark, 1)), Overlap::Allow);
    let arguments = format!("[\"{}\"]", "x".repeat(2000));
    large.job = Some(Make::Job(Box::new(NewJob::new(queue("default"), "t", arguments))));
    assert!(schedules(&broker).fire(vec![large]).await.is_err());
    assert_eq!(look(&broker).await.unwrap().mark, mark);
    assert!(is_enqueued(&fire(&broker, later(mark, 1), Overlap::Allow).await));
}

async fn many_that_ask_at_once_make_one_job_each(kit: &Kit) {
    const DUES: u64 = 20;
    let first = kit.handle().await;
    let mark = meet(&first, "every 1s").await.mark;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let broker = kit.handle().await;
        asking.spawn(async move {
            let mut made = Vec::new();
            for seconds in 1..=DUES {
                let due = later(mark, seconds);
                if is_enqueued(&fire(&broker, due, Overlap::Allow).await) {
                    made.push(seconds);
                }
            }
            made
        });
    }
    let mut made: Vec<u64> = soon(asking.join_all()).await.into_iter().flatten().collect();
    made.sort_unstable();
    assert_eq!(made, (1..=DUES).collect::<Vec<_>>());
    assert_eq!(waiting(&first).await, DUES);
    let known = look(&first).await.unwrap();
    let last = known.job.unwrap();
    assert_eq!(state(&first, last.as_str()).await, Some(JobState::Waiting));
}
