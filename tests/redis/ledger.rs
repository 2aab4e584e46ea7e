//! What ran, by the file that each job appends a line to, against what was enqueued and what Redis says of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use fastrand::Rng;
use redis::Connection;

use crate::jobs::{self, Job};
use crate::pool::Pool;
use crate::wait_for;

/// All jobs of a test, what was killed under them, and where chance comes from.
pub struct Ledger {
    pub rng: Rng,
    enqueued: BTreeSet<String>,
    failing: BTreeSet<String>,
    /// Those that RQ's own code runs and settles.
    whole: BTreeSet<String>,
    /// Processes that were killed.
    pub killed: BTreeSet<i32>,
    /// Lives of the supervisor that ended by kill -9, with all its workers.
    pub killed_lives: BTreeSet<u32>,
    /// The server may forget what it answered last: it is copied to a replica afterwards, which takes its place.
    pub is_forgetful: bool,
}

/// One line.
struct Run {
    name: String,
    life: u32,
    pid: i32,
}

/// How the jobs of a test ended.
#[derive(Debug, Default)]
pub struct Summary {
    pub finished: usize,
    /// Those whose function failed.
    pub failed: usize,
    /// Those that failed for another reason: their process was killed.
    pub lost: usize,
    /// Those of them whose function had not begun.
    pub lost_unbegun: usize,
    /// Those that ran more than once.
    pub repeated: usize,
}

/// How many jobs a test is to run: `POOL_FAULT_JOBS`, or `usual`.
pub fn count(usual: usize) -> usize {
    std::env::var("POOL_FAULT_JOBS").map_or(usual, |count| count.parse().unwrap())
}

impl Ledger {
    /// Chance comes from `POOL_SEED`, if it is set; a failure tells the seed.
    pub fn new() -> Ledger {
        let seed =
            std::env::var("POOL_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        println!("POOL_SEED={seed}");
        Ledger {
            rng: Rng::with_seed(seed),
            enqueued: BTreeSet::new(),
            failing: BTreeSet::new(),
            whole: BTreeSet::new(),
            killed: BTreeSet::new(),
            killed_lives: BTreeSet::new(),
            is_forgetful: false,
        }
    }

    /// So many jobs of all kinds.
    pub fn jobs(&mut self, count: usize) -> Vec<Job> {
        (0..count).map(|_| self.job()).collect()
    }

    /// A job that RQ's own code runs, over a connection of its worker's.
    pub fn whole_job(&mut self) -> Job {
        let name = self.name();
        self.whole.insert(name.clone());
        Job::mark(&name).whole()
    }

    fn name(&mut self) -> String {
        let name = format!("job-{}", self.enqueued.len());
        self.enqueued.insert(name.clone());
        name
    }

    fn job(&mut self) -> Job {
        let name = self.name();
        match self.rng.u32(0..100) {
            0..4 => Job::nap(&name, self.rng.f64() / 10.0),
            4..6 => {
                self.failing.insert(name.clone());
                Job::fail(&name)
            }
            6..8 => {
                self.whole.insert(name.clone());
                Job::mark(&name).whole()
            }
            8..10 => Job::mark(&name).with_callback(),
            _ => Job::mark(&name),
        }
    }

    /// How many lines have been written.
    pub fn progress(&self, pool: &Pool) -> usize {
        runs(pool).len()
    }

    /// Waits until so many more lines have been written.
    pub fn wait_for_progress(&self, pool: &Pool, lines: usize) {
        let wanted = (runs(pool).len() + lines).min(self.enqueued.len());
        pool.wait_for("jobs to run", |pool| runs(pool).len() >= wanted);
    }

    /// Waits until every job has ended, and asserts that none vanished, that each is settled once, and that none ran
    /// twice but those whose process was killed.
    pub fn assert_settled(&self, pool: &Pool, connection: &mut Connection) -> Summary {
        let names: Vec<String> = self.enqueued.iter().cloned().collect();
        let open = RefCell::new(names.clone());
        let redis = RefCell::new(&mut *connection);
        let state = || {
            let open = open.borrow();
            let shown = &open[..open.len().min(20)];
            let known = jobs::known_of(&mut redis.borrow_mut(), &open[0]);
            let log = pool.log();
            format!(
                "{} jobs are open, such as {shown:?}; of the first: {known}\n{log}",
                open.len()
            )
        };
        wait_for("all jobs to end", state, || {
            let mut open = open.borrow_mut();
            let found = jobs::statuses(&mut redis.borrow_mut(), &open);
            if found.len() == open.len() {
                let mut found = found.iter();
                open.retain(|_| !matches!(found.next().unwrap().as_str(), "finished" | "failed"));
            }
            open.is_empty().then_some(())
        });
        self.assert_nothing_is_left(pool, connection);
        let summary = self.assert_outcomes(pool, connection, &names);
        println!("{summary:?}");
        summary
    }

    fn assert_outcomes(&self, pool: &Pool, connection: &mut Connection, names: &[String]) -> Summary {
        let mut ran: BTreeMap<String, Vec<Run>> = BTreeMap::new();
        for run in runs(pool) {
            ran.entry(run.name.clone()).or_default().push(run);
        }
        let reasons: BTreeMap<String, String> = jobs::failed(connection, "default").into_iter().collect();
        let mut summary = Summary::default();
        for (name, status) in names.iter().zip(jobs::statuses(connection, names)) {
            let runs = ran.get(name).map_or(&[][..], Vec::as_slice);
            let reason = reasons.get(name);
            match (status.as_str(), reason) {
                ("finished", None) => {
                    assert!(!runs.is_empty(), "{name} is finished and never ran");
                    assert!(
                        !self.failing.contains(name),
                        "{name} is finished and should have failed"
                    );
                    summary.finished += 1;
                }
                ("failed", Some(reason)) if !reason.is_empty() => {
                    let is_killed = self.failed_with_its_process(reason, runs);
                    assert!(
                        is_killed || self.failing.contains(name),
                        "{name} failed: {reason}\n{}",
                        pool.log()
                    );
                    summary.failed += usize::from(!is_killed);
                    summary.lost += usize::from(is_killed);
                    summary.lost_unbegun += usize::from(is_killed && runs.is_empty());
                }
                (status, reason) => panic!("{name} is {status}, with the reason {reason:?}"),
            }
            if runs.len() > 1 && !self.is_forgetful {
                summary.repeated += 1;
                let (_, repeated) = runs.split_last().unwrap();
                let unexpected = repeated.iter().find(|run| !self.is_killed(run));
                assert!(
                    unexpected.is_none(),
                    "{name} ran {} times, and process {:?} was not killed\n{}",
                    runs.len(),
                    unexpected.map(|run| run.pid),
                    pool.log()
                );
            }
        }
        summary
    }

    /// Whether a job failed in the way of those whose worker or supervisor was killed.
    fn failed_with_its_process(&self, reason: &str, runs: &[Run]) -> bool {
        let reason = reason_text(reason);
        let worker = reason.contains("Work-horse terminated unexpectedly");
        let supervisor =
            reason.contains("AbandonedJobError") || reason.contains("stuck in intermediate queue");
        if self.is_forgetful {
            return supervisor;
        }
        let is_killed = runs.last().is_none_or(|run| self.is_killed(run));
        is_killed && (worker || supervisor && !self.killed_lives.is_empty())
    }

    fn is_killed(&self, run: &Run) -> bool {
        self.killed.contains(&run.pid) || self.killed_lives.contains(&run.life)
    }

    /// No job is waiting, taken or running by any of RQ's lists; each that ended has one result. (RQ's own code commits
    /// again when the answer to its commit was lost, so that it may leave two.)
    fn assert_nothing_is_left(&self, pool: &Pool, connection: &mut Connection) {
        let lists = ["rq:queue:default", "rq:queue:default:intermediate"];
        let state = || pool.log();
        wait_for("all lists to be empty", state, || {
            let mut pipeline = redis::pipe();
            lists.iter().for_each(|list| {
                pipeline.llen(list);
            });
            pipeline.zcard("rq:wip:default");
            let left: Vec<u64> = pipeline.query(connection).ok()?;
            left.iter().all(|count| *count == 0).then_some(())
        });
        let mut pipeline = redis::pipe();
        for name in &self.enqueued {
            pipeline.xlen(format!("rq:results:{name}"));
        }
        let results: Vec<u64> = pipeline.query(connection).unwrap();
        for (name, count) in self.enqueued.iter().zip(results) {
            let is_right = count == 1 || count > 1 && self.whole.contains(name);
            assert!(is_right, "{name} has {count} results\n{}", pool.log());
        }
    }
}

/// The supervisor is at work: one job more runs, once the server takes it. (A new master may lose sight of its replica, and
/// refuses meanwhile.)
pub fn assert_one_more_job_runs(pool: &Pool, connection: &mut Connection, name: &str) {
    let job = [Job::mark(name)];
    wait_for(
        "the job to be taken",
        || pool.log(),
        || jobs::try_to_enqueue(connection, "default", &job).ok(),
    );
    pool.wait_for("one more job to run", |pool| {
        runs(pool).iter().any(|run| run.name == name)
    });
    let names = [name.to_owned()];

    wait_for(
        "the job to be settled",
        || pool.log(),
        || (jobs::statuses(connection, &names) == ["finished"]).then_some(()),
    );
}

fn runs(pool: &Pool) -> Vec<Run> {
    let text = fs::read_to_string(pool.path("ledger")).unwrap_or_default();
    let run = |line: &str| {
        let mut words = line.split(' ');
        Run {
            name: words.next().unwrap().to_owned(),
            life: words.next().unwrap().parse().unwrap(),
            pid: words.next().unwrap().parse().unwrap(),
        }
    };
    text.lines().map(run).collect()
}

/// What an entry of the results stream says of an error: compressed, in base64.
fn reason_text(packed: &str) -> String {
    use base64::Engine;
    use std::io::Read;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .unwrap_or_default();
    let mut text = String::new();
    match flate2::read::ZlibDecoder::new(&bytes[..]).read_to_string(&mut text) {
        Ok(_) => text,
        Err(_) => packed.to_owned(),
    }
}
