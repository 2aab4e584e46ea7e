//! The embedded broker does what the one in memory does, whatever is asked of them.
//!
//! Random requests go to both and all answers are compared; at the end the file is checked: each
//! job in exactly one place, each count right.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::parts::turns::Turns;
use pool::broker::{DeadFilter, NewGroup, Pull};
use pool::job::{Claimed, GroupId, Job, JobError, JobId, JobView, Limit, NewJob, Settlement, Verdict};
use pool::time::Unix;
use proptest::prelude::*;
use rusqlite::Connection;

use super::kit::*;

const QUEUES: [&str; 3] = ["a", "b", "c"];
/// Handles on the store, as several supervisors have.
const HANDLES: usize = 3;
/// Ids of jobs and of groups that requests choose from.
const JOBS: usize = 24;
const GROUPS: usize = 4;

#[derive(Clone, Debug)]
enum Request {
    Enqueue(Vec<New>),
    /// Callbacks and the jobs of a chain are named by the numbers of their ids.
    Group {
        group: usize,
        members: Vec<New>,
        on_done: Option<usize>,
        on_failure: Option<usize>,
    },
    Chain(Vec<usize>),
    Claim {
        by: usize,
        from: Vec<usize>,
        /// In turn from this one on, or in order.
        first: Option<usize>,
        limit: usize,
    },
    /// The claim is one of those made so far, perhaps settled already, perhaps another's.
    Settle {
        by: usize,
        claims: Vec<(usize, Kind)>,
    },
    Extend {
        by: usize,
    },
    Close {
        handle: usize,
    },
    Cancel {
        jobs: Vec<usize>,
        stop: bool,
    },
    Begun {
        by: usize,
        claim: usize,
    },
    RetryDead(Vec<usize>),
    DeleteDead(Vec<usize>),
    Maintain {
        by: usize,
    },
}

#[derive(Clone, Debug)]
struct New {
    id: usize,
    queue: usize,
    at_front: bool,
    due: When,
    key: Option<usize>,
    /// A key, and how many of it run at once.
    limit: Option<(usize, u32)>,
    /// It has expired when it is enqueued.
    expires: bool,
    keep: bool,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Now,
    Past,
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Finish,
    GiveBack,
    Retry,
    PutOff,
    Bury,
}

impl When {
    fn time(self) -> Option<Unix> {
        match self {
            When::Now => None,
            When::Past => Some(Unix(1)),
            When::Never => Some(Unix(i64::MAX)),
        }
    }
}

impl New {
    fn job(&self) -> NewJob {
        NewJob {
            at_front: self.at_front,
            due: self.due.time(),
            limit: self.limit.map(|(key, max)| Limit {
                key: format!("limit {key}").into(),
                max,
            }),
            begin_by: (self.expires && self.due.time().is_none()).then_some(Unix(2)),
            unique_key: self.key.map(|key| format!("key {key}").into()),
            result_ttl: (!self.keep).then_some(Duration::ZERO),
            ..job(&format!("job {}", self.id), QUEUES[self.queue])
        }
    }
}

/// A callback of a group, or a job of a chain.
fn follower(number: usize) -> NewJob {
    NewJob {
        payload: Vec::new(),
        ..job(&format!("job {number}"), QUEUES[number % QUEUES.len()])
    }
}

fn group_id(number: usize) -> GroupId {
    GroupId::new(&format!("group {number}")).unwrap()
}

impl Kind {
    fn verdict(self) -> Verdict {
        let requeue = |due: When| Verdict::Again {
            due: due.time(),
            at_front: false,
            failures: 1,
            losses: 2,
            error: JobError::new("ValueError", "no"),
        };
        match self {
            Kind::Finish => finish(),
            Kind::GiveBack => give_back(),
            Kind::Retry => requeue(When::Now),
            Kind::PutOff => requeue(When::Never),
            Kind::Bury => bury("no"),
        }
    }
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let id = || 0..JOBS;
    let handle = || 0usize..HANDLES;
    let when = || prop_oneof![6 => Just(When::Now), 1 => Just(When::Past), 1 => Just(When::Never)];
    let new = || {
        (
            id(),
            0..QUEUES.len(),
            prop::bool::weighted(0.2),
            when(),
            prop::option::weighted(0.2, 0usize..3),
            prop::option::weighted(0.4, (0usize..2, 1u32..3)),
            prop::bool::weighted(0.05),
            any::<bool>(),
        )
            .prop_map(|(id, queue, at_front, due, key, limit, expires, keep)| New {
                id,
                queue,
                at_front,
                due,
                key,
                limit,
                expires,
                keep,
            })
    };
    let kind = prop_oneof![
        Just(Kind::Finish),
        Just(Kind::GiveBack),
        Just(Kind::Retry),
        Just(Kind::PutOff),
        Just(Kind::Bury)
    ];
    let request = prop_oneof![
        6 => prop::collection::vec(new(), 1..4).prop_map(Request::Enqueue),
        2 => (0..GROUPS, prop::collection::vec(new(), 0..4), prop::option::of(id()), prop::option::of(id()))
            .prop_map(|(group, members, on_done, on_failure)| Request::Group { group, members, on_done, on_failure }),
        2 => prop::collection::vec(id(), 0..4).prop_map(Request::Chain),
        6 => (handle(), prop::collection::vec(0..QUEUES.len(), 0..4), prop::option::of(0usize..4), 0usize..5)
            .prop_map(|(by, from, first, limit)| Request::Claim { by, from, first, limit }),
        6 => (handle(), prop::collection::vec((0usize..20, kind), 1..4))
            .prop_map(|(by, claims)| Request::Settle { by, claims }),
        1 => handle().prop_map(|by| Request::Extend { by }),
        1 => handle().prop_map(|handle| Request::Close { handle }),
        2 => (prop::collection::vec(id(), 1..4), any::<bool>())
            .prop_map(|(jobs, stop)| Request::Cancel { jobs, stop }),
        1 => (handle(), 0usize..20).prop_map(|(by, claim)| Request::Begun { by, claim }),
        1 => prop::collection::vec(id(), 1..4).prop_map(Request::RetryDead),
        1 => prop::collection::vec(id(), 1..4).prop_map(Request::DeleteDead),
        1 => handle().prop_map(|by| Request::Maintain { by }),
    ];
    prop::collection::vec(request, 1..60)
}

/// One of the two, and the claims it made.
struct Side {
    kit: Kit,
    handles: Vec<Arc<dyn Pull>>,
    claims: Vec<Claimed>,
}

impl Side {
    async fn new(kit: Kit) -> Self {
        let mut handles = Vec::new();
        for _ in 0..HANDLES {
            handles.push(kit.handle().await);
        }
        Side {
            kit,
            handles,
            claims: Vec::new(),
        }
    }

    /// Carries a request out. Returns the answer as text, without what may differ.
    async fn ask(&mut self, request: &Request) -> String {
        let names = |numbers: &[usize]| {
            numbers
                .iter()
                .map(|n| id(&format!("job {n}")))
                .collect::<Vec<JobId>>()
        };
        match request {
            Request::Enqueue(new) => {
                let answer = self.handles[0].enqueue(new.iter().map(New::job).collect()).await;
                format!("{:?}", answer.map_err(|error| error.to_string()))
            }
            Request::Group {
                group,
                members,
                on_done,
                on_failure,
            } => {
                let group = NewGroup {
                    id: group_id(*group),
                    on_done: on_done.map(follower),
                    on_failure: on_failure.map(follower),
                    ..NewGroup::new(members.iter().map(New::job).collect())
                };
                // Of several ids that are taken, either may be named.
                format!("{:?}", self.handles[0].enqueue_group(group).await.is_ok())
            }
            Request::Chain(numbers) => {
                let jobs = numbers.iter().copied().map(follower).collect();
                format!("{:?}", self.handles[0].enqueue_chain(jobs).await.is_ok())
            }
            Request::Claim {
                by,
                from,
                first,
                limit,
            } => {
                let is_first = |(at, queue): &(usize, &usize)| !from[..*at].contains(*queue);
                let from = from.iter().enumerate().filter(is_first);
                let queues: Vec<_> = from.map(|(_, number)| queue(QUEUES[*number])).collect();
                let turns = first.map_or(Turns::Strict, |first| Turns::RoundRobin { first });
                let claimed = self.handles[*by].claim(&queues, turns, *limit).await.unwrap();
                let text = claimed.iter().map(|Claimed { claim, job }| {
                    let Job {
                        queue,
                        failures,
                        losses,
                        payload,
                        ..
                    } = job;
                    format!(
                        "{} {} {queue} {failures} {losses} {payload:?}",
                        claim.job, claim.epoch
                    )
                });
                let text: Vec<String> = text.collect();
                self.claims.extend(claimed);
                text.join("\n")
            }
            Request::Settle { by, claims } => {
                let settlements = claims.iter().filter_map(|(number, kind)| {
                    // Counted from the newest claim, so that most are still held.
                    let claimed = self.claims.iter().rev().nth(*number)?;
                    Some(Settlement {
                        of: claimed.claim.clone(),
                        verdict: kind.verdict(),
                        run: None,
                    })
                });
                let answer = self.handles[*by].settle(settlements.collect()).await;
                format!("{:?}", answer.unwrap())
            }
            Request::Extend { by } => format!("{:?}", self.handles[*by].extend().await.unwrap()),
            Request::Close { handle } => {
                self.handles[*handle].close().await.unwrap();
                self.handles[*handle] = self.kit.handle().await;
                String::new()
            }
            Request::Cancel { jobs, stop } => {
                let control = self.handles[0].control().unwrap();
                let answer = match stop {
                    true => control.stop(&names(jobs)).await,
                    false => control.cancel(&names(jobs)).await,
                };
                format!("{:?}", answer.unwrap())
            }
            Request::Begun { by, claim } => {
                if let Some(claimed) = self.claims.iter().rev().nth(*claim) {
                    let begun = vec![claimed.claim.clone()];
                    self.handles[*by].note_begun(begun).await.unwrap();
                }
                String::new()
            }
            Request::RetryDead(ids) => {
                format!("{:?}", self.handles[0].retry_dead(&names(ids)).await.unwrap())
            }
            Request::DeleteDead(ids) => {
                format!("{:?}", self.handles[0].delete_dead(&names(ids)).await.unwrap())
            }
            Request::Maintain { by } => format!("{:?}", self.handles[*by].maintain().await.unwrap()),
        }
    }

    /// All that a reader sees, without times.
    async fn picture(&self) -> String {
        let broker = &self.handles[0];
        let mut picture = format!("{:?}\n", broker.queue_names().await.unwrap());
        for name in QUEUES {
            let backlog = broker.backlog(&[queue(name)]).await.unwrap();
            let oldest = backlog.oldest.is_some();
            picture += &format!("{name} {} {} {oldest}\n", backlog.waiting(), backlog.scheduled);
        }
        let ids: Vec<JobId> = (0..JOBS).map(|number| id(&format!("job {number}"))).collect();
        for view in broker.find(&ids).await.unwrap() {
            picture += &format!("{:?}\n", view.map(timeless));
        }
        for number in 0..GROUPS {
            let group = broker.group(&group_id(number)).await.unwrap().map(|mut group| {
                group.created = Unix(0);
                group.ended = group.ended.map(|_| Unix(0));
                group
            });
            let members = broker.group_jobs(&group_id(number)).await.unwrap();
            picture += &format!("{group:?} {members:?}\n");
        }
        let all = DeadFilter {
            limit: 100,
            ..DeadFilter::default()
        };
        let mut dead: Vec<String> = Vec::new();
        for view in broker.dead(&all).await.unwrap() {
            dead.push(format!("{:?}", timeless(view)));
        }
        dead.sort(); // burials of one millisecond have no order
        picture + &dead.join("\n")
    }
}

fn timeless(mut view: JobView) -> JobView {
    view.enqueued = Unix(0);
    view.ended = view.ended.map(|_| Unix(0));
    view
}

/// Each job in exactly one place, each place of a job that is there, each count right.
pub fn check_file(database: &Connection) {
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let places = "SELECT handle FROM waiting UNION ALL SELECT handle FROM scheduled
                  UNION ALL SELECT handle FROM running UNION ALL SELECT handle FROM finished
                  UNION ALL SELECT handle FROM dead UNION ALL SELECT handle FROM deferred
                  UNION ALL SELECT handle FROM blocked";
    let jobs = count("SELECT count(*) FROM jobs");
    assert_eq!(
        count(&format!("SELECT count(*) FROM ({places})")),
        jobs,
        "one place a job"
    );
    assert_eq!(
        count(&format!(
            "SELECT count(DISTINCT handle) FROM ({places}) JOIN jobs USING (handle)"
        )),
        jobs
    );
    for state in ["waiting", "scheduled"] {
        let wrong = format!(
            "SELECT count(*) FROM queues q
             WHERE {state} <> (SELECT count(*) FROM {state} s WHERE s.queue = q.queue)"
        );
        assert_eq!(count(&wrong), 0, "the count of {state}");
    }
    assert_eq!(
        count("SELECT count(*) FROM attempts WHERE handle NOT IN (SELECT handle FROM jobs)"),
        0
    );
    let active =
        "SELECT handle FROM waiting UNION SELECT handle FROM scheduled UNION SELECT handle FROM running
         UNION SELECT handle FROM blocked";
    let keyed = format!("SELECT count(*) FROM jobs WHERE unique_key NOTNULL AND handle IN ({active})");
    assert_eq!(
        count(&keyed),
        count("SELECT count(*) FROM unique_keys JOIN jobs USING (handle)")
    );
    assert_eq!(
        count("SELECT count(*) FROM running WHERE session NOT IN (SELECT session FROM sessions)"),
        0
    );
    let limits =
        "SELECT count(*) FROM running JOIN jobs USING (handle) WHERE running.limit_key IS NOT jobs.limit_key";
    assert_eq!(count(limits), 0, "a claim counts for the limit of its job");
    let stuck =
        "SELECT count(*) FROM (SELECT limit_key, queue, min(position) AS position FROM blocked GROUP BY 1, 2)
        JOIN blocked b USING (limit_key, queue, position) JOIN jobs USING (handle)
        WHERE (SELECT count(*) FROM running r WHERE r.limit_key = b.limit_key) < limit_max
          AND NOT EXISTS (SELECT 1 FROM waiting w JOIN jobs j USING (handle)
                          WHERE w.queue = b.queue AND j.limit_key = b.limit_key)";
    assert_eq!(
        count(stuck),
        0,
        "a place is free, and the next of its queue does not stand there"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_brokers_answer_alike(requests in requests()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Side::new(Kit::memory()).await;
            let mut embedded = Side::new(Kit::sqlite()).await;
            for request in &requests {
                assert_eq!(embedded.ask(request).await, model.ask(request).await, "{request:?}");
                assert_eq!(embedded.picture().await, model.picture().await, "after {request:?}");
            }
            check_file(&Connection::open(embedded.kit.path()).unwrap());
        });
    }
}
