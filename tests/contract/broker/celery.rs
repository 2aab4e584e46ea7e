//! Where the schema of Celery's tasks over Redis, which is not ours to change, has a promise otherwise.
//!
//! It is all here: a worker that says how tasks ended in Celery's words, and the rules that do not hold, each with the
//! reason and, where there is one, with a rule that holds in its place.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pool::broker::celery::RedisBroker;
use pool::broker::celery::options::Options;
use pool::broker::parts::turns::Turns;
use pool::broker::source::StopHow;
use pool::broker::{
    Abilities, Broker, BrokerError, Budget, Events, JobFilter, Maintained, Pull, Queues, Source, StateName,
    pulled,
};
use pool::config::BrokerConfig;
use pool::job::{Claim, Claimed, JobId, JobState, Limit, NewJob, QueueName, Settlement, Verdict};
use pool::time::Unix;
use serde_json::{Value, json};

use super::celery_cancel::*;
use super::kit::{
    Kit, Verbs, bury, claim, claim_ids, enqueue, finish, give_back, id, ids_of, job, jobs, queue, settle,
    soon, state,
};

/// What the suite's application says of itself.
pub fn facts(port: u16) -> Value {
    let url = |database| format!("redis://127.0.0.1:{port}/{database}");
    json!({
        "broker": {"transport": "redis", "urls": [url(0)], "options": {"queue_order_strategy": "priority"}},
        "results": {"class": "celery.backends.redis.RedisBackend", "url": url(1), "capture": true,
                    "prefix": "celery-task-meta-"},
        "tasks": {"work": {"acks_late": true, "capture": true}},
    })
}

pub fn options(facts: &Value, config: &BrokerConfig) -> Options {
    Options::new(
        &facts.to_string(),
        config.lease,
        config.heartbeat,
        config.max_payload,
    )
    .unwrap()
}

pub async fn open(port: u16, config: &BrokerConfig) -> Arc<dyn Pull> {
    let options = options(&facts(port), config);
    let broker = pool::broker::celery::open_pulled(&options).await.unwrap();
    Arc::new(Worked(broker))
}

/// The same with an application that names these queues: those of others are found by their names alone.
pub async fn open_with_queues(port: u16, config: &BrokerConfig, queues: &[&str]) -> Arc<dyn Pull> {
    let named = queues
        .iter()
        .map(|name| json!({"name": name, "exchange": name, "exchange_type": "direct", "routing_key": name}));
    let mut facts = facts(port);
    facts["queues"] = named.collect();
    let broker = pool::broker::celery::open_pulled(&options(&facts, config))
        .await
        .unwrap();
    Arc::new(Worked(broker))
}

/// A message's body as it is handed to a worker.
pub fn body(payload: &[u8]) -> Value {
    let (len, rest) = payload.split_first_chunk::<4>().unwrap();
    serde_json::from_slice(&rest[u32::from_le_bytes(*len) as usize..]).unwrap()
}

/// What a worker is told of a message.
pub fn meta(payload: &[u8]) -> Value {
    let (len, rest) = payload.split_first_chunk::<4>().unwrap();
    serde_json::from_slice(&rest[..u32::from_le_bytes(*len) as usize]).unwrap()
}

/// The arguments of a message.
pub fn arguments(payload: &[u8]) -> Vec<u8> {
    let body = body(payload);
    let given = if body[0] == json!([]) { &body[1] } else { &body[0] };
    given.to_string().into_bytes()
}

/// An outcome as a worker tells it, with a result that is to be stored.
pub fn outcome(job: &JobId, state: &str, result: &Value) -> String {
    let meta = json!({"status": state, "result": result, "traceback": null, "children": [],
        "date_done": Unix::now().to_string(), "task_id": job, "name": "work", "queue": "default"});
    // As Python writes it, which looks at its beginning.
    let meta = meta.to_string();
    let value =
        format!("{{\"status\": \"{state}\", {}", &meta[1..]).replace(&format!(",\"status\":\"{state}\""), "");
    json!({"state": state, "then": "ack", "runtime": 0.1,
        "store": {"key": format!("celery-task-meta-{job}"), "value": value, "expires": 86400}})
    .to_string()
}

/// A broker with a worker that says how tasks ended in Celery's words.
#[derive(Debug)]
struct Worked(RedisBroker);

impl Worked {
    fn said(settlement: Settlement<Claim>) -> Settlement<Claim> {
        let job = &settlement.of.job;
        // Where Celery's own code failed nobody has said anything.
        if job.as_str().starts_with("celery:") && matches!(settlement.verdict, Verdict::Bury { .. }) {
            return settlement;
        }
        let verdict = match settlement.verdict {
            Verdict::Finish { result } => {
                let result: Value = serde_json::from_slice(&result).unwrap_or_default();
                Verdict::Finish {
                    result: outcome(job, "SUCCESS", &result).into_bytes(),
                }
            }
            Verdict::Bury {
                mut error,
                failures,
                losses,
            } => {
                let result =
                    json!({"exc_type": error.kind, "exc_message": [error.message], "exc_module": "builtins"});
                error.broker = outcome(job, "FAILURE", &result);
                Verdict::Bury {
                    error,
                    failures,
                    losses,
                }
            }
            other => other,
        };
        Settlement {
            verdict,
            ..settlement
        }
    }
}

#[async_trait]
impl Broker for Worked {
    fn url(&self) -> &str {
        self.0.url()
    }
    fn queues(&self) -> &dyn Queues {
        self.0.queues()
    }
    async fn check_rights(&self) -> Result<(), BrokerError> {
        self.0.check_rights().await
    }
    fn abilities(&self) -> Abilities<'_> {
        self.0.abilities()
    }
    async fn supply(self: Arc<Self>, events: Events) -> Result<Box<dyn Source>, BrokerError> {
        self.begin().await?;
        Ok(pulled::start(self, Duration::from_secs(10), events))
    }
    async fn close(&self) -> Result<(), BrokerError> {
        self.0.close().await
    }
}

#[async_trait]
impl Pull for Worked {
    async fn begin(&self) -> Result<(), BrokerError> {
        self.0.begin().await
    }
    async fn claim(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.0.claim(queues, turns, limit).await
    }
    async fn claim_after_work(
        &self,
        queues: &[QueueName],
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.0.claim_after_work(queues, limit).await
    }
    fn has_after_work(&self) -> bool {
        self.0.has_after_work()
    }
    fn holds_more(&self) -> bool {
        self.0.holds_more()
    }
    async fn extend(&self) -> Result<(), BrokerError> {
        self.0.extend().await
    }
    async fn note_begun(&self, claims: Vec<Claim>) -> Result<(), BrokerError> {
        self.0.note_begun(claims).await
    }
    async fn called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.0.called_off(claims).await
    }
    async fn settle(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        self.0
            .settle(settlements.into_iter().map(Worked::said).collect())
            .await
    }
    async fn ready(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        self.0.ready(queues).await
    }
    async fn maintain(&self) -> Result<Maintained, BrokerError> {
        self.0.maintain().await
    }
}

/// `"reason": [rules] => what holds in their place`
macro_rules! otherwise {
    ($($reason:literal: [$($rule:ident),* $(,)?] => $instead:ident,)*) => {
        /// Rules that do not hold, each with the reason.
        const OTHERWISE: &[(&str, &str)] = &[$($((stringify!($rule), $reason)),*),*];

        /// Whether this is one of them; then what holds in its place was held to.
        pub async fn holds_otherwise(rule: &str, kit: &Kit) -> bool {
            match rule {
                $($(stringify!($rule))|* => $instead(kit).await,)*
                _ if is_of_an_ability_that_lacks(rule) => abilities_that_lack_say_what_to_use(kit).await,
                _ => return false,
            }
            true
        }
    };
}

/// Abilities that Celery has otherwise or not at all.
fn is_of_an_ability_that_lacks(rule: &str) -> bool {
    use super::{dead, flow, schedules};
    [dead::RULES, flow::RULES, schedules::RULES]
        .concat()
        .contains(&rule)
}

otherwise! {
    "retries are the task's own, and a message comes with a limit of seconds":
        [a_claim_hands_out_what_was_enqueued] => a_task_comes_as_it_was_sent,
    "a task with an ETA stands in its queue like any other, and waits in the hands of who takes it":
        [a_scheduled_job_is_claimed_once_it_is_due, jobs_that_came_due_go_by_the_time_they_were_due,
         ready_wakes_when_a_job_comes_due, ready_wakes_when_a_scheduled_job_is_added_before_the_others,
         the_backlog_counts_what_stands_in_the_queues] => an_eta_is_held_until_it_is_due,
    "a list of messages holds no times": [the_backlog_knows_when_the_oldest_became_ready] => the_age_is_not_known,
    "a message has no key but its id, which nobody looks for; how long results live is the application's setting":
        [a_unique_key_is_held_until_the_job_ends, a_unique_key_holds_within_one_call,
         an_id_that_is_taken_is_refused_and_nothing_is_enqueued, a_job_without_time_to_live_keeps_no_result,
         the_time_to_live_is_the_jobs_own_before_the_brokers, an_expired_result_is_invisible_and_then_deleted,
         an_id_is_free_again_once_its_result_expired, wait_any_sees_jobs_that_leave_no_result]
        => what_a_message_cannot_say_is_refused,
    "queues are those that consumers declare": [queues_are_listed_once_they_were_used] => queues_are_listed_once_declared,
    "a result holds no arguments": [a_finished_job_shows_its_result] => a_result_is_shown_without_arguments,
    "of a message that runs again nothing is kept but how many workers died with it; a retry is a new message":
        [a_requeued_job_remembers_what_went_wrong, a_job_put_off_waits_for_its_time] => a_requeued_task_remembers_its_losses,
    "a queue is a list: what was given back by an earlier call has no place of its own any more":
        [jobs_given_back_stand_in_their_old_order] => tasks_given_back_at_once_stand_in_their_old_order,
    "there are no dead letters to retry":
        [an_outcome_of_an_earlier_claim_is_late, ready_wakes_when_a_dead_letter_is_retried]
        => an_outcome_of_an_earlier_delivery_is_late,
    "how many of a key run at once is nobody's business":
        [so_many_of_a_key_run_at_once, one_over_its_limit_is_in_nobodys_way,
         one_that_is_canceled_takes_no_place, those_over_their_limit_are_listed, those_over_their_limit_are_counted,
         a_queue_is_emptied_with_those_over_their_limit] => what_a_message_cannot_say_is_refused,
    "to Celery an unknown task waits":
        [wait_any_returns_at_once_for_unknown_jobs, a_watch_returns_each_job_once_and_then_nothing,
         wait_all_returns_each_as_it_ended] => an_unknown_task_waits,
    "messages say no time, results have no order, and of runs that are over nothing is kept":
        [each_state_lists_its_jobs, jobs_are_found_by_their_time, runs_that_failed_are_kept_with_who_ran_them,
         a_job_that_succeeded_says_when_it_began]
        => messages_and_results_are_listed,
    "what is canceled is taken out of the queues that are declared; of what is in hand only workers know, who listen":
        [what_waits_is_canceled_at_once, what_is_due_later_is_canceled_at_once,
         a_claim_that_was_canceled_does_not_come_back, a_claim_that_was_canceled_ends, what_has_ended_is_not_canceled,
         one_that_cannot_be_canceled_stops_no_other] => a_task_that_waits_is_canceled_at_once,
    "the same": [of_jobs_canceled_under_load_each_ran_or_did_not] => of_tasks_canceled_under_load_each_ran_or_did_not,
}

#[test]
fn what_holds_otherwise_is_a_rule_and_has_a_reason() {
    use super::{control, expiry, fanout, leases, limits, queues, search, settling, waiting};
    let rules = [
        search::RULES,
        control::RULES,
        expiry::RULES,
        fanout::RULES,
        leases::RULES,
        limits::RULES,
        queues::RULES,
        settling::RULES,
        waiting::RULES,
    ]
    .concat();
    for (rule, reason) in OTHERWISE {
        assert!(rules.contains(rule), "`{rule}` ({reason}) is no rule");
        assert!(!reason.is_empty(), "{rule}");
    }
}

async fn abilities_that_lack_say_what_to_use(kit: &Kit) {
    let broker = kit.handle().await;
    let said = [
        broker.dead_letters().err().map(|lacks| lacks.to_string()),
        broker.groups().err().map(|lacks| lacks.to_string()),
        broker.chains().err().map(|lacks| lacks.to_string()),
        broker.schedules().err().map(|lacks| lacks.to_string()),
    ];
    for (said, instead) in said
        .into_iter()
        .zip(["pool result", "group(", "chain(", "beat_schedule"])
    {
        let said = said.expect("Celery has it otherwise");
        assert!(said.contains(instead), "{said}");
    }
}

async fn messages_and_results_are_listed(kit: &Kit) {
    let broker = kit.handle_that_knows(&["default"]).await;
    for (id, verdict) in [("failed", bury("no")), ("good", finish())] {
        enqueue(&broker, vec![job(id, "default")]).await;
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        assert!(settle(&broker, &claimed, verdict).await);
    }
    enqueue(&broker, vec![job("runs", "default")]).await;
    assert_eq!(claim(&broker, &["default"], 1).await.len(), 1);
    enqueue(&broker, vec![job("waits", "default")]).await;
    for (state, expected) in [
        (StateName::Running, &["runs"][..]),
        (StateName::Waiting, &["waits"]),
        (StateName::Scheduled, &[]),
        (StateName::Deferred, &[]),
        (StateName::Dead, &["failed"]),
        (StateName::Finished, &["good"]),
    ] {
        let filter = JobFilter {
            states: vec![state],
            ..JobFilter::default()
        };
        let page = broker
            .search()
            .unwrap()
            .search(&filter, None, Budget::default())
            .await;
        let page = page.unwrap();
        let found: Vec<&str> = page.jobs.iter().map(|job| job.id.as_str()).collect();
        assert_eq!((found.as_slice(), page.next), (expected, None), "{state}");
    }
}

async fn a_task_comes_as_it_was_sent(kit: &Kit) {
    let broker = kit.handle().await;
    let new = NewJob {
        timeout: Some(Duration::from_millis(1500)),
        ..NewJob::new(queue("mail"), "work", br#"{"to": ["any", 1.5, null]}"#)
    };
    enqueue(&broker, vec![new.clone()]).await;
    let claimed = claim(&broker, &["mail"], 10).await.remove(0);
    let job = &claimed.job;
    assert_eq!(
        (&claimed.claim.job, &job.queue, &job.task),
        (&new.id, &new.queue, &new.task)
    );
    assert_eq!((job.kind, job.timeout, job.retries), (1, new.timeout, Some(0)));
    assert_eq!(body(&job.payload)[1], json!({"to": ["any", 1.5, null]}));
    let meta = meta(&job.payload);
    assert_eq!(meta["headers"]["id"], json!(new.id));
    assert_eq!(meta["properties"]["delivery_info"]["routing_key"], "mail");
    assert_eq!(meta["content_type"], "application/json");
    assert_eq!(state(&broker, new.id.as_str()).await, Some(JobState::Running));
}

async fn an_eta_is_held_until_it_is_due(kit: &Kit) {
    let (broker, other) = (kit.handle().await, kit.handle().await);
    let due = Unix::now() + Duration::from_millis(400);
    let at = |name, due| NewJob {
        due: Some(due),
        ..job(name, "default")
    };
    let later = vec![
        at("second", due + Duration::from_millis(1)),
        at("first", due),
        job("now", "default"),
    ];
    enqueue(&broker, later).await;
    let backlog = broker.backlog(&[queue("default")]).await.unwrap();
    assert_eq!((backlog.waiting(), backlog.scheduled), (3, 0));
    let early = claim_ids(&broker, 1).await;
    assert_eq!(early, ["now"], "those that wait take no room");
    if Unix::now() < due {
        assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().scheduled, 2);
        assert!(claim_ids(&other, 9).await.is_empty());
    }
    let mut came = Vec::new();
    while came.len() < 2 {
        soon(broker.ready(&[queue("default")])).await.unwrap();
        for claimed in claim(&broker, &["default"], 9).await {
            assert!(Unix::now() >= due && claimed.job.ready >= due);
            assert_eq!(meta(&claimed.job.payload)["due"], true);
            came.extend(ids_of(std::slice::from_ref(&claimed)));
            assert!(settle(&broker, &claimed, finish()).await);
        }
    }
    assert_eq!(came, ["first", "second"]);
    // What waits goes to the front when its holder leaves.
    enqueue(
        &broker,
        vec![
            at("far", due + Duration::from_secs(3600)),
            job("behind", "default"),
        ],
    )
    .await;
    assert_eq!(claim_ids(&other, 1).await, ["behind"]);
    enqueue(&broker, vec![job("last", "default")]).await;
    other.close().await.unwrap();
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 3);
    assert_eq!(claim_ids(&broker, 9).await, ["behind", "last"]);
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().scheduled, 1);
}

async fn the_age_is_not_known(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let backlog = broker.backlog(&[queue("default")]).await.unwrap();
    assert_eq!((backlog.waiting(), backlog.oldest), (2, None));
}

async fn what_a_message_cannot_say_is_refused(kit: &Kit) {
    let broker = kit.handle().await;
    for new in [
        NewJob {
            unique_key: Some("nightly".into()),
            ..job("1", "default")
        },
        NewJob {
            result_ttl: Some(Duration::ZERO),
            ..job("1", "default")
        },
        NewJob {
            retries: Some(1),
            ..job("1", "default")
        },
        NewJob {
            limit: Some(Limit {
                key: "db".into(),
                max: 1,
            }),
            ..job("1", "default")
        },
    ] {
        let refused = broker.enqueue(vec![job("0", "default"), new]).await.unwrap_err();
        assert!(
            matches!(&refused, BrokerError::Refused(why) if why.contains("`1`")),
            "{refused:?}"
        );
    }
    let twice = broker
        .enqueue(vec![job("1", "default"), job("1", "default")])
        .await;
    assert!(matches!(twice, Err(BrokerError::IdTaken(_))));
    assert!(claim_ids(&broker, 9).await.is_empty(), "all or none");
}

async fn queues_are_listed_once_declared(kit: &Kit) {
    let Kit::Celery(server) = kit else { unreachable!() };
    let mut facts = facts(server.lock().port());
    facts["queues"] = json!([
        {"name": "b", "exchange": "b", "exchange_type": "direct", "routing_key": "b"},
        {"name": "a", "exchange": "topics", "exchange_type": "topic", "routing_key": "a.#.x-y"}]);
    let broker = pool::broker::celery::open_pulled(&options(&facts, &super::kit::config()))
        .await
        .unwrap();
    broker.begin().await.unwrap();
    let mut connection = server.lock().connection();
    for set in ["_kombu.binding.topics", "_kombu.binding_permanent.topics"] {
        let members: Vec<String> = redis::cmd("SMEMBERS").arg(set).query(&mut connection).unwrap();
        assert_eq!(
            members,
            ["a.#.x-y\u{6}\u{16}^a\\..*?\\.x\\-y$\u{6}\u{16}a"],
            "{set}"
        );
    }
    redis::cmd("SADD")
        .arg("_kombu.binding.b")
        .arg("b\u{6}\u{16}\u{6}\u{16}other")
        .exec(&mut connection)
        .unwrap();
    let names = broker.queues().names().await.unwrap();
    assert_eq!(names, [queue("a"), queue("b"), queue("other")]);
}

async fn a_result_is_shown_without_arguments(kit: &Kit) {
    let (broker, other) = (kit.handle().await, kit.handle().await);
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    assert!(settle(&broker, &claimed[0], finish()).await && settle(&broker, &claimed[1], bury("no")).await);
    let views = other
        .find(&[id("00000"), id("00001"), id("unknown")])
        .await
        .unwrap();
    let [done, failed, unknown] = [0, 1, 2].map(|at| views[at].clone().unwrap());
    assert_eq!(
        (done.state, done.result.as_deref()),
        (JobState::Finished, Some(&b"42"[..]))
    );
    assert_eq!(
        (&*done.task, done.queue, done.payload.len()),
        ("work", Some(queue("default")), 0)
    );
    assert!(done.ended.is_some());
    let error = failed.error.unwrap();
    assert_eq!(
        (failed.state, &*error.kind, &*error.message),
        (JobState::Dead, "ValueError", "no")
    );
    assert_eq!(unknown.state, JobState::Waiting);
    // A success stays, whatever a copy of the task says later.
    enqueue(&broker, jobs(0..1, "default")).await;
    let copy = claim(&broker, &["default"], 1).await.remove(0);
    assert!(settle(&broker, &copy, bury("a copy")).await);
    assert_eq!(state(&other, "00000").await, Some(JobState::Finished));
}

async fn a_requeued_task_remembers_its_losses(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    for losses in 1..3 {
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        assert_eq!(claimed.job.losses, losses - 1);
        let verdict = Verdict::Again {
            due: None,
            at_front: true,
            failures: 0,
            losses,
            error: pool::job::JobError::new("worker lost", "killed by signal 9"),
        };
        assert!(settle(&broker, &claimed, verdict).await);
    }
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    let meta = meta(&claimed.job.payload);
    assert_eq!(meta["headers"]["redelivered"], true);
    assert_eq!(meta["properties"]["delivery_info"]["redelivered"], true);
}

async fn tasks_given_back_at_once_stand_in_their_old_order(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..5, "default")).await;
    let claimed = claim(&broker, &["default"], 4).await;
    let back = [2, 3, 0, 1].map(|at| Settlement {
        of: claimed[at].claim.clone(),
        verdict: give_back(),
        run: None,
    });
    assert_eq!(broker.settle(back.to_vec()).await.unwrap(), [true; 4]);
    let all = ["00000", "00001", "00002", "00003", "00004"];
    assert_eq!(claim_ids(&broker, 9).await, all);
}

async fn an_outcome_of_an_earlier_delivery_is_late(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let first = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &first, give_back()).await;
    let second = claim(&broker, &["default"], 1).await.remove(0);
    assert_eq!(second.claim.job, first.claim.job);
    assert!(!settle(&broker, &first, finish()).await);
    assert_eq!(state(&broker, "00000").await, Some(JobState::Running));
    assert!(settle(&broker, &second, finish()).await);
}

async fn an_unknown_task_waits(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let asked = [id("unknown"), id("00000")];
    let mut ended = broker.wait_any(&asked);
    assert!(super::kit::waits(&mut ended).await);
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, finish()).await;
    let ended = soon(ended).await.unwrap();
    assert_eq!((ended.len(), ended[0].0), (1, 1));
}
