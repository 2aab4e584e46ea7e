//! Rules of looking through jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pool::broker::{Budget, Cursor, JobFilter, Page, Pull, StateName};
use pool::job::{JobError, JobState, NewJob, RunStamp, Settlement, Verdict};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    each_state_lists_its_jobs,
    pages_go_on_behind_their_cursor,
    a_look_ends_with_its_budget,
    jobs_are_found_by_queue_and_task,
    jobs_are_found_by_their_arguments,
    jobs_are_found_by_their_error,
    jobs_are_found_by_their_time,
    jobs_that_come_and_go_hide_no_others,
    a_cursor_of_another_broker_is_refused,
    ids_are_found_by_their_beginning,
    runs_that_failed_are_kept_with_who_ran_them,
    a_job_that_succeeded_says_when_it_began,
}

/// No test is to meet the bound of time.
fn budget(jobs: usize, rows: u64) -> Budget {
    let time = Duration::from_secs(60);
    Budget { jobs, rows, time }
}

fn of(state: StateName) -> JobFilter {
    JobFilter {
        states: vec![state],
        ..JobFilter::default()
    }
}

fn found(page: &Page) -> Vec<String> {
    page.jobs.iter().map(|job| job.id.to_string()).collect()
}

/// The ids of all jobs that match, in the order of their names.
async fn search(broker: &Arc<dyn Pull>, filter: &JobFilter) -> Vec<String> {
    let page = broker.search().unwrap().search(filter, None, budget(1000, 1000));
    let page = page.await.unwrap();
    assert_eq!(page.next, None);
    let mut found = found(&page);
    found.sort();
    found
}

/// The same, page by page. Cursors go through text, as on a command line.
async fn search_in_pages(broker: &Arc<dyn Pull>, filter: &JobFilter, budget: Budget) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = broker.search().unwrap().search(filter, after.as_ref(), budget);
        let page = page.await.unwrap();
        after = page.next.as_ref().map(|next| next.to_string().parse().unwrap());
        pages.push(page);
        assert!(pages.len() < 100, "it comes to an end");
        if after.is_none() {
            return pages;
        }
    }
}

async fn fail(broker: &Arc<dyn Pull>, id: &str, in_queue: &str, error: JobError) {
    enqueue(broker, vec![job(id, in_queue)]).await;
    let claimed = claim(broker, &[in_queue], 1).await.remove(0);
    let bury = Verdict::Bury {
        error,
        failures: 1,
        losses: 0,
    };
    assert!(settle(broker, &claimed, bury).await);
}

async fn each_state_lists_its_jobs(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    fail(&broker, "failed", "default", JobError::new("ValueError", "no")).await;
    enqueue(&broker, vec![job("good", "default")]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    assert!(settle(&broker, &claimed, finish()).await);
    enqueue(&broker, vec![job("runs", "default")]).await;
    let held = claim(&broker, &["default"], 1).await;
    assert_eq!(held.len(), 1);
    let later = NewJob {
        due: Some(Unix::now() + Duration::from_secs(600)),
        ..job("later", "default")
    };
    enqueue(
        &broker,
        vec![later, job("gone", "default"), job("waits", "default")],
    )
    .await;
    broker.control().unwrap().cancel(&[id("gone")]).await.unwrap();
    for (state, expected) in [
        (StateName::Running, "runs"),
        (StateName::Waiting, "waits"),
        (StateName::Scheduled, "later"),
        (StateName::Dead, "failed"),
        (StateName::Canceled, "gone"),
        (StateName::Finished, "good"),
    ] {
        assert_eq!(search(&broker, &of(state)).await, [expected], "{state}");
    }
    assert_eq!(search(&broker, &of(StateName::Deferred)).await, [""; 0]);
    let two = JobFilter {
        states: vec![StateName::Finished, StateName::Dead],
        ..JobFilter::default()
    };
    assert_eq!(search(&broker, &two).await, ["failed", "good"]);
    let all = search(&broker, &JobFilter::default()).await;
    assert_eq!(all, ["failed", "gone", "good", "later", "runs", "waits"]);
}

async fn pages_go_on_behind_their_cursor(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    enqueue(&broker, jobs(0..23, "default")).await;
    let pages = search_in_pages(&broker, &of(StateName::Waiting), budget(5, 1000)).await;
    assert!(pages.iter().all(|page| page.jobs.len() <= 5));
    let listed: Vec<String> = pages.iter().flat_map(found).collect();
    let newest_first: Vec<String> = ids(0..23).iter().rev().map(ToString::to_string).collect();
    assert_eq!(listed, newest_first);
    // From one place to the next.
    let held = claim(&broker, &["default"], 7).await;
    assert_eq!(held.len(), 7);
    let pages = search_in_pages(&broker, &JobFilter::default(), budget(5, 1000)).await;
    let listed: Vec<String> = pages.iter().flat_map(found).collect();
    assert_eq!(listed.len(), 23);
    assert_eq!(
        listed.iter().collect::<BTreeSet<_>>().len(),
        23,
        "each comes once"
    );
}

async fn a_look_ends_with_its_budget(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    enqueue(&broker, jobs(0..23, "default")).await;
    let filter = JobFilter {
        arguments: vec!["0=00001".parse().unwrap()],
        ..of(StateName::Waiting)
    };
    let pages = search_in_pages(&broker, &filter, budget(5, 6)).await;
    assert!(pages.len() > 3, "six rows a look, of 23");
    for page in &pages {
        assert_eq!(page.searched.len(), 1);
        assert_eq!(page.searched[0].place, JobState::Waiting);
        assert!(page.searched[0].rows <= 6);
        assert!(page.searched[0].of.is_none_or(|of| of == 23));
    }
    let rows: u64 = pages.iter().map(|page| page.searched[0].rows).sum();
    assert_eq!(rows, 23);
    assert_eq!(pages.iter().flat_map(found).collect::<Vec<_>>(), ["00001"]);
    let no_time = Budget {
        time: Duration::ZERO,
        ..budget(5, 100)
    };
    let page = broker
        .search()
        .unwrap()
        .search(&filter, None, no_time)
        .await
        .unwrap();
    assert!(page.next.is_some() && page.jobs.is_empty());
}

async fn jobs_are_found_by_queue_and_task(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    let mut new = jobs(0..2, "mail");
    new.extend(jobs(2..4, "web"));
    new[1].task = "other".into();
    new[3].task = "other".into();
    enqueue(&broker, new).await;
    let mail = JobFilter {
        queue: Some(queue("mail")),
        ..JobFilter::default()
    };
    assert_eq!(search(&broker, &mail).await, ["00000", "00001"]);
    let other = JobFilter {
        task: Some("other".to_owned()),
        ..JobFilter::default()
    };
    assert_eq!(search(&broker, &other).await, ["00001", "00003"]);
    let both = JobFilter {
        task: Some("other".to_owned()),
        ..mail
    };
    assert_eq!(search(&broker, &both).await, ["00001"]);
    let nowhere = JobFilter {
        queue: Some(queue("hihg")),
        ..JobFilter::default()
    };
    assert_eq!(search(&broker, &nowhere).await, [""; 0]);
}

async fn jobs_are_found_by_their_arguments(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    let with = |id: &str, arguments: &str| NewJob {
        payload: arguments.into(),
        ..job(id, "default")
    };
    let new = vec![
        with("ada", r#"{"to": "ada@example.org", "order": {"id": 42}}"#),
        with("bob", r#"{"to": "bob@example.org", "order": {"id": 43}}"#),
        with("list", r#"["ada@example.org", 42]"#),
    ];
    enqueue(&broker, new).await;
    for (arguments, expected) in [
        (&["to=ada@example.org"][..], &["ada"][..]),
        (&["order.id=43"], &["bob"]),
        (&["0=ada@example.org", "1=42"], &["list"]),
        (&["to=ada@example.org", "order.id=43"], &[]),
    ] {
        let filter = JobFilter {
            arguments: arguments
                .iter()
                .map(|argument| argument.parse().unwrap())
                .collect(),
            ..JobFilter::default()
        };
        assert_eq!(search(&broker, &filter).await, expected, "{arguments:?}");
    }
}

async fn jobs_are_found_by_their_error(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    fail(&broker, "full", "default", JobError::new("OSError", "Disk full")).await;
    fail(
        &broker,
        "late",
        "default",
        JobError::new("timeout", "it took too long"),
    )
    .await;
    let with = |text: &str| JobFilter {
        error: Some(text.to_owned()),
        ..JobFilter::default()
    };
    assert_eq!(search(&broker, &with("disk FULL")).await, ["full"]);
    assert_eq!(search(&broker, &with("too long")).await, ["late"]);
    assert_eq!(search(&broker, &with("no such error")).await, [""; 0]);
}

async fn jobs_are_found_by_their_time(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    let pause = || tokio::time::sleep(Duration::from_millis(20)); // told apart by their time
    fail(&broker, "old", "default", JobError::new("ValueError", "no")).await;
    enqueue(&broker, vec![job("waits", "default")]).await;
    pause().await;
    let since = Some(Unix::now());
    pause().await;
    fail(&broker, "new", "other", JobError::new("ValueError", "no")).await;
    enqueue(&broker, vec![job("waits too", "default")]).await;
    let recent = JobFilter {
        since,
        ..JobFilter::default()
    };
    assert_eq!(search(&broker, &recent).await, ["new", "waits too"]);
    let dead = JobFilter {
        since,
        ..of(StateName::Dead)
    };
    assert_eq!(search(&broker, &dead).await, ["new"]);
}

async fn jobs_that_come_and_go_hide_no_others(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    enqueue(&broker, jobs(0..20, "default")).await;
    let filter = of(StateName::Waiting);
    let search = broker.search().unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    let mut newest = 20;
    loop {
        let page = search
            .search(&filter, after.as_ref(), budget(4, 1000))
            .await
            .unwrap();
        seen.extend(found(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
        assert_eq!(claim(&broker, &["default"], 1).await.len(), 1);
        enqueue(&broker, jobs(newest..newest + 3, "default")).await;
        newest += 3;
    }
    // The first ones were taken meanwhile; all others were there all the time.
    let stayed = ids(5..20);
    let stayed: BTreeSet<&str> = stayed.iter().map(|id| id.as_str()).collect();
    let count = |id: &str| seen.iter().filter(|seen| *seen == id).count();
    assert!(stayed.iter().all(|id| count(id) == 1), "{seen:?}");
}

async fn a_cursor_of_another_broker_is_refused(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    enqueue(&broker, jobs(0..3, "default")).await;
    let foreign: Cursor = "waiting:the third one".parse().unwrap();
    let refused = broker
        .search()
        .unwrap()
        .search(&of(StateName::Waiting), Some(&foreign), budget(5, 100))
        .await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("`waiting:the third one` is no position"), "{said}");
    assert!("nowhere:3".parse::<Cursor>().is_err() && "waiting".parse::<Cursor>().is_err());
}

async fn ids_are_found_by_their_beginning(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    fail(&broker, "abc-dead", "default", JobError::new("ValueError", "no")).await;
    let new = ["abc-1", "abd-2", "x*y", "xzy"].map(|id| job(id, "default"));
    enqueue(&broker, new.to_vec()).await;
    let search = broker.search().unwrap();
    for (start, expected) in [
        ("abc-d", &["abc-dead"][..]),
        ("abc", &["abc-1", "abc-dead"]),
        ("abd-2", &["abd-2"]),
        ("x*", &["x*y"]),
        ("zzz", &[]),
    ] {
        let mut found = search.begins_with(start, budget(10, 1000)).await.unwrap();
        found.ids.sort();
        let found_ids: Vec<&str> = found.ids.iter().map(|id| id.as_str()).collect();
        assert_eq!(found_ids, expected, "{start}");
        assert!(found.is_complete, "{start}");
    }
    let bounded = search.begins_with("a", budget(2, 1000)).await.unwrap();
    assert_eq!(bounded.ids.len(), 2);
}

async fn runs_that_failed_are_kept_with_who_ran_them(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    enqueue(&broker, jobs(0..1, "default")).await;
    for run in 1..=12_u32 {
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        let at = Unix(1_700_000_000_000 + i64::from(run) * 1000);
        let stamp = RunStamp {
            worker: u64::from(run),
            ordinal: 1,
            started: at,
            ended: at + Duration::from_millis(250),
            death: None,
        };
        let error = JobError {
            detail: "Traceback".into(),
            death: (run == 12).then(Box::default),
            ..JobError::new("ValueError", format!("run {run}"))
        };
        let verdict = match run {
            12 => Verdict::Bury {
                error,
                failures: run,
                losses: 0,
            },
            _ => Verdict::Again {
                due: None,
                at_front: false,
                failures: run,
                losses: 0,
                error,
            },
        };
        let settlement = Settlement {
            of: claimed.claim,
            verdict,
            run: Some(stamp),
        };
        assert_eq!(broker.settle(vec![settlement]).await.unwrap(), [true]);
    }
    let views = broker.find(&ids(0..1)).await.unwrap();
    let attempts = &views[0].as_ref().unwrap().attempts;
    assert_eq!(attempts.len(), 10, "the last ones");
    for (attempt, run) in attempts.iter().zip(3_u32..) {
        let at = Unix(1_700_000_000_000 + i64::from(run) * 1000);
        assert_eq!(attempt.worker, Some(run.to_string()));
        assert_eq!(
            (attempt.started, attempt.ended),
            (Some(at), Some(Unix(at.0 + 250)))
        );
        let kept = JobError {
            death: (run == 12).then(Box::default),
            ..JobError::new("ValueError", format!("run {run}"))
        };
        assert_eq!(attempt.error, kept);
    }
    // Who runs it anew asks for none of that.
    assert_eq!(broker.retry_dead(&ids(0..1)).await.unwrap(), ids(0..1));
    let views = broker.find(&ids(0..1)).await.unwrap();
    assert!(views[0].as_ref().unwrap().attempts.is_empty());
}

async fn a_job_that_succeeded_says_when_it_began(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default", "mail", "web"]).await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let began = Unix(1_700_000_000_000);
    let run = RunStamp {
        worker: 1,
        ordinal: 1,
        started: began,
        ended: began + Duration::from_millis(250),
        death: None,
    };
    for (claimed, run) in claim(&broker, &["default"], 2)
        .await
        .into_iter()
        .zip([Some(run), None])
    {
        let settlement = Settlement {
            of: claimed.claim,
            verdict: finish(),
            run,
        };
        assert_eq!(broker.settle(vec![settlement]).await.unwrap(), [true]);
    }
    let views = broker.find(&ids(0..2)).await.unwrap();
    let [Some(known), Some(unknown)] = &views[..] else {
        panic!("{views:?}");
    };
    assert_eq!((known.state, known.started), (JobState::Finished, Some(began)));
    assert_ne!(unknown.started, Some(began));
}
