//! Where the schema of RQ's jobs in Redis, which is not ours to change, has a promise otherwise.
//!
//! It is all here: the units of a promise that holds, as methods of the kit, and below the rules that do not hold, each
//! with the reason and with a rule that holds in its place.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use pool::broker::parts::turns::Turns;
use pool::broker::{BrokerError, Canceled, DeadFilter, Enqueued, Maintained, Pull};
use pool::config::{BrokerConfig, BrokerUrl, DialectKind, Dialects, Keep, Protocol, RqConfig};
use pool::job::{Claimed, JobError, JobState, NewJob, RunStamp, Settlement, Verdict, Work};
use pool::time::Unix;

use super::flow::{counted, counts, gid, group_with_end};
use super::kit::{
    Kit, Verbs, bury, claim, claim_ids, enqueue, finish, give_back, id, ids, ids_of, job, jobs, queue,
    settle, soon, state,
};
use super::limits::limited;
use crate::support::server::Server;

/// RQ counts whole seconds; what is shorter becomes longer.
const UNIT: Duration = Duration::from_secs(1);
/// Far longer than any test: no housekeeping comes in between.
const NEVER: Duration = Duration::from_secs(3600);

/// The settings of the suite.
pub fn config() -> RqConfig {
    RqConfig {
        serializer: "json".to_owned(),
        with_scheduler: true,
        job_monitoring_interval: NEVER,
        maintenance_interval: NEVER,
        ..RqConfig::default()
    }
}

/// A handle that has done what a supervisor's first claim does: it has the scheduler's lock if nobody else has, and the
/// housekeeping is behind it.
pub async fn open(url: &str, config: BrokerConfig) -> Arc<dyn Pull> {
    let rq = RqConfig {
        results_ttl: Keep::For(config.result_ttl),
        ..config.dialects.rq
    };
    let url = BrokerUrl::parse(url, Path::to_path_buf).unwrap();
    let (protocol, dialects) = (
        Protocol::Dialect(DialectKind::Rq),
        Dialects {
            rq,
            ..Dialects::default()
        },
    );
    let broker = super::kit::open(&BrokerConfig {
        url,
        protocol,
        dialects,
        ..config
    })
    .await;
    let first = broker.claim(&[queue("default")], Turns::Strict, 1).await.unwrap();
    assert!(first.iter().all(|claimed| claimed.job.work == Work::After));
    for work in first {
        settle(&broker, &work, finish()).await;
    }
    broker
}

impl Kit {
    fn is_rq(&self) -> bool {
        matches!(self, Kit::Redis(_))
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.redis_server().lock()
    }

    /// This time as it is kept.
    pub fn kept(&self, time: Duration) -> Duration {
        match self.is_rq() {
            true => UNIT * u32::try_from(time.as_millis().div_ceil(1000)).unwrap(),
            false => time,
        }
    }

    /// This moment as it is kept.
    pub fn kept_at(&self, at: Unix) -> Unix {
        match self.is_rq() {
            true => Unix(at.0.div_euclid(1000) * 1000 + i64::from(at.0.rem_euclid(1000) > 0) * 1000),
            false => at,
        }
    }

    /// The id of a job with a key: in RQ that is the key.
    pub fn name_of<'a>(&self, id: &'a str, key: &'a str) -> &'a str {
        if self.is_rq() { key } else { id }
    }

    /// Arguments such as nobody but their task can read; RQ's are those of a Python function.
    pub fn any_arguments(&self) -> Vec<u8> {
        match self.is_rq() {
            true => br#"{"to": ["any", 1.5, null]}"#.to_vec(),
            false => b"\x00\xffany bytes".to_vec(),
        }
    }

    /// The arguments of a claimed job. RQ's worker gets them in the job's `data`, as its producer wrote it.
    pub fn arguments(&self, claimed: &Claimed) -> Vec<u8> {
        if matches!(self, Kit::Celery(_)) {
            return super::celery::arguments(&claimed.job.payload);
        }
        if !self.is_rq() {
            return claimed.job.payload.to_vec();
        }
        assert_eq!(claimed.job.kind, 0, "a plain job");
        let data = &*claimed.job.payload;
        let mut text = Vec::new();
        if flate2::read::ZlibDecoder::new(data)
            .read_to_end(&mut text)
            .is_err()
        {
            text = data.to_vec(); // RQ reads what is not compressed, too
        }
        let call: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&text).unwrap();
        let shown = if call[2].get() == "[]" { &call[3] } else { &call[2] };
        shown.get().as_bytes().to_vec()
    }

    /// What the callback of a group is told: RQ keeps no counts, but at the first failure it is known whose it was.
    pub fn told(&self, mut summary: serde_json::Value, first_failed: Option<&str>) -> serde_json::Value {
        let told = summary.as_object_mut().unwrap();
        if self.is_rq() {
            told.retain(|key, _| key == "group" || key == "total");
            told.extend(first_failed.map(|id| ("first_failed".to_owned(), id.into())));
        }
        summary
    }

    /// A handle whose housekeeping is soon due: on RQ it is what finds expired claims.
    pub async fn housekeeper(&self) -> Arc<dyn Pull> {
        if matches!(self, Kit::Celery(_)) {
            return self.short_lived().await;
        }
        let rq = RqConfig {
            maintenance_interval: Duration::from_millis(300),
            ..config()
        };
        self.handle_with(BrokerConfig {
            dialects: Dialects {
                rq,
                ..Dialects::default()
            },
            ..super::kit::config()
        })
        .await
    }

    /// Leases of [`Kit::short_lived`] run out by themselves; RQ's claims live for a minute and more, and are made old.
    pub fn let_leases_run_out(&self) {
        if self.is_rq() {
            self.age_claims("redis.call('TIME')[1] - 100");
        }
    }

    /// Claims expire at this second, by a formula in Lua.
    fn age_claims(&self, second: &str) {
        let script = format!(
            "local claims = redis.call('ZRANGE', 'rq:wip:default', 0, -1, 'WITHSCORES')
            for at = 1, #claims, 2 do
              redis.call('ZADD', 'rq:wip:default', {second} + claims[at + 1] % 1, claims[at])
            end
            return #claims / 2"
        );
        let mut connection = self.server().connection();
        let aged: u64 = redis::cmd("EVAL")
            .arg(script)
            .arg(0)
            .query(&mut connection)
            .unwrap();
        assert!(aged > 0, "something is claimed");
    }

    /// Jobs that are due are ready. RQ's scheduler has to see them first.
    pub async fn let_due_jobs_be_seen(&self, broker: &Arc<dyn Pull>) {
        let queues = [queue("default")];
        while self.is_rq() && broker.backlog(&queues).await.unwrap().scheduled > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many of so many expired results maintenance deletes: Redis deletes them itself.
    pub fn deleted_by_maintenance(&self, expired: u64) -> u64 {
        if self.is_rq() { 0 } else { expired }
    }
}

/// `"reason": [rules] => what holds in their place`
macro_rules! otherwise {
    ($($reason:literal: [$($rule:ident),*] => $instead:ident,)*) => {
        /// Rules that do not hold, each with the reason.
        const OTHERWISE: &[(&str, &str)] = &[$($((stringify!($rule), $reason)),*),*];

        /// Whether this is one of them; then what holds in its place was held to.
        pub async fn holds_otherwise(rule: &str, kit: &Kit) -> bool {
            match rule {
                $($(stringify!($rule))|* => $instead(kit).await,)*
                _ => return false,
            }
            true
        }
    };
}

otherwise! {
    "a claim that expired is RQ's housekeeping's, which is handed out with the claims":
        [maintenance_returns_jobs_to_the_front_when_their_lease_ran_out] => expired_claims_come_back_with_the_next_claim,
    "a job that came back may be what ended its supervisor: it is taken alone, until it has run for a moment":
        [ready_wakes_when_a_lease_runs_out] => a_job_that_came_back_is_taken_alone,
    "a claim is an execution of RQ's, which lives for a minute at the least":
        [a_renewed_lease_holds] => a_renewed_execution_holds,
    "of an error RQ keeps the text, and of failures and losses no count":
        [a_buried_job_is_kept_with_its_error] => the_text_of_an_error_is_kept,
    "of a job that is to run again RQ keeps how many retries are left, and not why":
        [a_requeued_job_remembers_what_went_wrong] => a_requeued_job_has_one_retry_less,
    "a queue is a list: what was given back by an earlier call has no place of its own any more":
        [jobs_given_back_stand_in_their_old_order] => jobs_given_back_at_once_stand_in_their_old_order,
    "a key is the job's id, so that its next holder takes the dead letter's place":
        [a_dead_letter_is_not_retried_while_its_key_is_held] => a_dead_letter_gives_way_to_the_next_with_its_key,
    "a group is a set of jobs: how far it is, is counted over those that are there":
        [a_dead_letter_of_an_ended_group_calls_nobody, results_of_members_are_kept_until_their_group_has_expired,
         an_empty_group_has_ended] => a_group_is_what_its_members_are,
    "nothing of RQ's hands a result on":
        [a_chain_hands_each_result_on, a_deferred_job_is_in_no_queue, a_failure_ends_the_chain_and_is_named,
         a_chain_goes_on_when_what_failed_is_retried, a_follower_is_not_retried_alone,
         jobs_that_cannot_wait_for_others_are_refused] => chains_are_refused,
    "RQ's own code ends a job with a rate limit, in its worker, and frees its slot":
        [so_many_of_a_key_run_at_once] => so_many_of_a_key_are_queued,
    "of a run that a retry policy runs again RQ keeps no record":
        [runs_that_failed_are_kept_with_who_ran_them] => the_last_run_is_kept_with_who_ran_it,
}

#[test]
fn what_holds_otherwise_is_a_rule_and_has_a_reason() {
    use super::{control, dead, expiry, fanout, flow, leases, limits, queues, search, settling, waiting};
    let rules = [
        search::RULES,
        control::RULES,
        dead::RULES,
        expiry::RULES,
        fanout::RULES,
        flow::RULES,
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

async fn the_last_run_is_kept_with_who_ran_it(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    let at = Unix(1_700_000_000_000);
    let settlement = Settlement {
        of: claimed.claim,
        verdict: bury("no"),
        run: Some(RunStamp {
            worker: 1,
            ordinal: 1,
            started: at,
            ended: at + Duration::from_millis(250),
            death: None,
        }),
    };
    assert_eq!(broker.settle(vec![settlement]).await.unwrap(), [true]);
    let views = broker.find(&ids(0..1)).await.unwrap();
    let [attempt] = &views[0].as_ref().unwrap().attempts[..] else {
        panic!("{views:?}");
    };
    assert_eq!(
        (attempt.started, attempt.ended),
        (Some(at), Some(Unix(at.0 + 250)))
    );
    assert!(attempt.worker.is_some());
    assert!(attempt.error.to_string().contains("no"), "{attempt:?}");
}

async fn so_many_of_a_key_are_queued(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, limited(0..3, "default", "db", 2)).await;
    enqueue(
        &broker,
        vec![NewJob {
            at_front: true,
            ..limited(3..4, "default", "db", 2).remove(0)
        }],
    )
    .await;
    let claimed = claim(&broker, &["default"], 9).await;
    assert_eq!(ids_of(&claimed), ["00000", "00001"]);
    let mut connection = kit.server().connection();
    let mut read = |command: &str, words: &[&str]| -> Vec<String> {
        ::redis::cmd(command).arg(words).query(&mut connection).unwrap()
    };
    // As RQ's own producers write it: rq/queue.py, _enqueue_rate_limited_job.
    assert_eq!(read("SMEMBERS", &["rq:rl-keys"]), ["db"]);
    assert_eq!(read("HGETALL", &["rq:rl:db"]), ["concurrency", "2"]);
    assert_eq!(
        read("ZRANGE", &["rq:rl:db:allowed", "0", "-1"]),
        ["00000", "00001"]
    );
    assert_eq!(
        read("ZRANGE", &["rq:rl:db:rate_limited", "0", "-1"]),
        ["00002", "00003"]
    );
    let fields = [
        "rq:job:00003",
        "status",
        "rate_limit_key",
        "rate_limit_concurrency",
        "enqueue_at_front",
    ];
    assert_eq!(read("HMGET", &fields), ["rate_limited", "db", "2", "1"]);
}

async fn expired_claims_come_back_with_the_next_claim(kit: &Kit) {
    let (dying, other) = (kit.handle().await, kit.housekeeper().await);
    enqueue(&other, jobs(0..4, "default")).await;
    assert_eq!(claim_ids(&dying, 3).await.len(), 3);
    kit.let_leases_run_out();
    assert_eq!(other.maintain().await.unwrap(), Maintained::default());
    tokio::time::sleep(Duration::from_millis(300)).await; // its housekeeping is due
    // Those that came back one at a time, and what waited behind the last with it.
    for expected in [&["00000"][..], &["00001"], &["00002", "00003"]] {
        let claimed = claim(&other, &["default"], 9).await;
        assert_eq!(ids_of(&claimed), expected);
        assert!(
            claim_ids(&other, 9).await.is_empty(),
            "none while it has not begun"
        );
        for job in &claimed {
            assert!(settle(&other, job, finish()).await);
        }
    }
}

async fn a_job_that_came_back_is_taken_alone(kit: &Kit) {
    let (dying, other) = (kit.short_lived().await, kit.housekeeper().await);
    enqueue(&other, jobs(0..3, "default")).await;
    assert_eq!(claim_ids(&dying, 3).await.len(), 3);
    kit.let_leases_run_out();
    soon(other.ready(&[queue("default")])).await.unwrap();
    for expected in ["00000", "00001", "00002"] {
        let claimed = claim(&other, &["default"], 9).await;
        assert_eq!(ids_of(&claimed), [expected]);
        assert!(settle(&other, &claimed[0], finish()).await);
    }
    assert_eq!(other.backlog(&[queue("default")]).await.unwrap().waiting(), 0);
}

async fn a_renewed_execution_holds(kit: &Kit) {
    let (holder, other) = (kit.handle().await, kit.housekeeper().await);
    enqueue(&holder, jobs(0..1, "default")).await;
    let claimed = claim(&holder, &["default"], 1).await.remove(0);
    kit.let_leases_run_out();
    holder.extend().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await; // the other's housekeeping is due
    assert!(claim_ids(&other, 9).await.is_empty());
    assert!(settle(&holder, &claimed, finish()).await);
}

async fn the_text_of_an_error_is_kept(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    let error = JobError {
        detail: "Traceback\nValueError: no such file".into(),
        ..JobError::new("ValueError", "no such file")
    };
    let verdict = Verdict::Bury {
        error: error.clone(),
        failures: 3,
        losses: 1,
    };
    assert!(settle(&broker, &claimed[0], verdict).await);
    assert!(settle(&broker, &claimed[1], bury("it has no detail")).await);
    let found = broker.find(&ids(0..2)).await.unwrap();
    let kept = |at: usize| found[at].clone().unwrap().error.unwrap();
    assert_eq!(kept(0).detail, error.detail);
    assert_eq!(kept(0).message, "ValueError: no such file");
    assert_eq!(kept(1).message, "ValueError: it has no detail");
    let view = found[0].clone().unwrap();
    assert_eq!(
        (view.state, view.failures, view.losses),
        (JobState::Dead, Some(1), None)
    );
    assert!(view.ended.is_some());
    assert!(claim_ids(&broker, 9).await.is_empty());
}

async fn a_requeued_job_has_one_retry_less(kit: &Kit) {
    let broker = kit.handle().await;
    let new = NewJob {
        retries: Some(3),
        ..job("1", "default")
    };
    enqueue(&broker, vec![new]).await;
    for left in [3, 2, 1] {
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        let used = claimed.job.failures;
        assert_eq!(claimed.job.retries.map(|retries| retries - used), Some(left));
        let verdict = Verdict::Again {
            due: None,
            at_front: false,
            failures: 1,
            losses: 0,
            error: JobError::new("ValueError", "no"),
        };
        assert!(settle(&broker, &claimed, verdict).await);
        assert_eq!(state(&broker, "1").await, Some(JobState::Waiting));
    }
}

async fn jobs_given_back_at_once_stand_in_their_old_order(kit: &Kit) {
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

#[tokio::test]
async fn a_job_given_back_twice_is_not_taken_from_who_runs_it_now() {
    let kit = Kit::redis();
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let mut connection = kit.server().connection();
    let mut run = |lua: &str| -> redis::Value {
        let script = redis::Script::new(lua);
        script.invoke(&mut connection).unwrap()
    };
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    // It was given back, the answer was lost, and another worker runs it by now.
    run(
        "redis.call('DEL', 'rq:wip:default', unpack(redis.call('KEYS', 'rq:execution:00000:*')))
         redis.call('HSET', 'rq:job:00000', 'status', 'started', 'worker_name', 'another')",
    );
    settle(&broker, &claimed, give_back()).await;
    assert_eq!(claim_ids(&broker, 1).await, Vec::<String>::new());
    assert_eq!(state(&broker, "00000").await, Some(JobState::Running));
}

/// RQ's own code wrote how it ended, and a replica that had not heard of that became the master.
#[tokio::test]
async fn an_end_that_a_failover_lost_is_found_by_housekeeping() {
    let kit = Kit::redis();
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    let mut connection = kit.server().connection();
    // It knows of the end of the second one.
    let script = redis::Script::new("redis.call('HSET', 'rq:job:00001', 'status', 'finished')");
    let () = script.invoke(&mut connection).unwrap();
    for job in &claimed {
        assert!(settle(&broker, job, Verdict::Forget).await);
    }
    let left: Vec<(String, f64)> = redis::cmd("ZRANGE")
        .arg("rq:wip:default")
        .arg(&["0", "-1", "WITHSCORES"])
        .query(&mut connection)
        .unwrap();
    let [(execution, expires)] = &left[..] else {
        panic!("{left:?}")
    };
    assert!(execution.starts_with("00000:"), "{left:?}");
    assert_eq!(expires.fract(), 0.0, "it has begun: it does not run again");
}

#[tokio::test]
async fn a_cancel_that_redis_refuses_leaves_the_job_in_its_queue() {
    let kit = Kit::redis();
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let mut connection = kit.server().connection();
    let set = |connection: &mut redis::Connection, key: &str| {
        let mut set = redis::cmd("SET");
        set.arg(key).arg("of another type").exec(connection).unwrap();
    };
    set(&mut connection, "rq:canceled:default");
    let answers = broker.control().unwrap().cancel(&[id("00000")]).await.unwrap();
    let [Canceled::Refused(reason)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(reason.contains("WRONGTYPE"), "{reason}");
    assert_eq!(state(&broker, "00000").await, Some(JobState::Waiting));
    assert_eq!(claim_ids(&broker, 1).await, ["00000"]);
}

async fn a_dead_letter_gives_way_to_the_next_with_its_key(kit: &Kit) {
    let broker = kit.handle().await;
    let keyed = |name| NewJob {
        unique_key: Some("key".into()),
        ..job(name, "default")
    };
    enqueue(&broker, vec![keyed("1")]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, bury("no")).await;
    let next = enqueue(&broker, vec![keyed("2")]).await;
    assert_eq!(next, [Enqueued::New(id("key"))]);
    assert_eq!(broker.retry_dead(&[id("key")]).await.unwrap(), []);
    let all = DeadFilter {
        limit: 9,
        ..DeadFilter::default()
    };
    assert_eq!(broker.dead(&all).await.unwrap(), []);
    assert_eq!(claim_ids(&broker, 9).await, ["key"]);
}

async fn a_group_is_what_its_members_are(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group_with_end(vec![])).await.unwrap();
    assert_eq!(broker.group(&gid("g")).await.unwrap(), None, "nobody is in it");
    assert_eq!(state(&broker, "done").await, Some(JobState::Waiting));
    let mut members = jobs(0..2, "default");
    members[1].result_ttl = Some(Duration::ZERO);
    broker.enqueue_group(counted(members)).await.unwrap();
    let claimed = claim(&broker, &["default"], 2).await;
    settle(&broker, &claimed[0], bury("no")).await;
    settle(&broker, &claimed[1], finish()).await;
    assert_eq!(counts(&broker).await, (1, 0, 1, true), "one left nothing");
    broker.retry_dead(&ids(0..1)).await.unwrap();
    assert_eq!(counts(&broker).await, (1, 0, 0, false), "one runs again");
}

async fn chains_are_refused(kit: &Kit) {
    let broker = kit.handle().await;
    let refused = broker.enqueue_chain(jobs(0..2, "default")).await.unwrap_err();
    assert!(matches!(refused, BrokerError::NotHere(_)), "{refused:?}");
    assert!(refused.to_string().contains("depends_on"), "{refused}");
    assert!(claim_ids(&broker, 9).await.is_empty());
}
