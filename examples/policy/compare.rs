//! All rules on all loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pool::config::{Config, RunArgs, load};
use pool::job::PoolName;
use pool::policy::scaling::wish::ScalingPolicy;
use pool::sim::load::Load;
use pool::sim::replay::figures::Figures;
use pool::sim::replay::{self, Setup, bound};

use crate::loads::Named;
use crate::peers;

/// Every rule keeps within these.
pub const LIMITS: (u32, u32) = (2, 24);
/// A job that waits longer is late.
const SLO: Duration = Duration::from_secs(1);
/// Shorter waits count as this: nobody notices them.
pub const WAIT_MIN_S: f64 = 0.01;

/// The policies of this pool come first: what a row is called, its policy, and what differs from the defaults.
const OWN: [(&str, &str, &[&str]); 5] = [
    ("utilization", "utilization", &[]),
    ("demand", "demand", &[]),
    ("demand 0.5", "demand", &["--utilization-threshold", "0.5"]),
    ("demand 0.5 s", "demand", &["--target-wait", "500ms"]),
    (
        "demand brisk",
        "demand",
        &["--target-wait", "20ms", "--scaling-period", "1s"],
    ),
];

/// What decides about the size, and what it is called.
pub struct Rule {
    pub name: String,
    /// The policy of this pool, if it is one.
    pub own: Option<&'static str>,
    config: Config,
    start: Option<fn() -> Box<dyn ScalingPolicy>>,
}

fn pool_name() -> PoolName {
    PoolName::new("default").expect("a valid name")
}

fn config(flags: &[&str]) -> Config {
    let all = ["--broker", "memory:", "--socket", "unused"].iter().chain(flags);
    let args = RunArgs::from_flags(all).expect("flags that exist");
    load(&args, |_| None).expect("settings that are valid")
}

fn limited(flags: &[&str], (min, max): (u32, u32)) -> Config {
    let (min, max) = (min.to_string(), max.to_string());
    config(&[&["--min-workers", &min, "--max-workers", &max], flags].concat())
}

/// The policies of this pool, the rules of other programs, and fixed sizes.
pub fn rules() -> Vec<Rule> {
    let own = OWN.map(|(name, policy, flags)| Rule {
        name: name.to_owned(),
        own: Some(policy),
        config: limited(&[&["--policy", policy], flags].concat(), LIMITS),
        start: None,
    });
    let mut rules = Vec::from(own);
    for peer in peers::all() {
        let period = peer.period.as_secs().to_string();
        rules.push(Rule {
            name: peer.name.to_owned(),
            own: None,
            config: limited(
                &["--scaling-period", &period, "--utilization-window", &period],
                LIMITS,
            ),
            start: Some(peer.start),
        });
    }
    for size in [4, 8, 16, 24] {
        rules.push(Rule {
            name: format!("fixed {size}"),
            own: None,
            config: limited(&[], (size, size)),
            start: None,
        });
    }
    rules
}

impl Rule {
    pub fn run(&self, load: &Arc<Load>, seed: u64) -> Figures {
        let setup = Setup {
            config: self.config.clone(),
            pool: pool_name(),
            load: Arc::clone(load),
            cores: None,
            seed,
        };
        let run = replay::run_with(&setup, self.start.map(|start| start()));
        Figures::of(&run, load, SLO, bound::clairvoyant(load, LIMITS))
    }
}

/// What a rule made of a load: over several seeds, means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    pub wait_p95: f64,
    pub worker_seconds: f64,
    pub worker_ratio: f64,
    pub late_share: f64,
    /// In all of them together.
    pub reversals: u64,
}

impl Outcome {
    fn of(runs: &[Figures]) -> Self {
        let mean = |of: fn(&Figures) -> f64| runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64;
        Outcome {
            wait_p95: mean(|run| run.wait_p95),
            worker_seconds: mean(|run| run.worker_seconds),
            worker_ratio: mean(|run| run.worker_ratio),
            late_share: mean(|run| run.late_share),
            reversals: runs.iter().map(|run| run.reversals).sum(),
        }
    }
}

/// One load, and what each rule made of it, in the order of the rules.
pub struct Row {
    pub name: String,
    pub outcomes: Vec<Outcome>,
}

/// Each rule on each load, on all processors. Loads that differ in nothing but their seed have one name.
pub fn all(rules: &[Rule], loads: Vec<Named>) -> Vec<Row> {
    let loads: Vec<(String, Arc<Load>)> = loads
        .into_iter()
        .map(|named| (named.name, Arc::new(named.load)))
        .collect();
    let (next, count) = (AtomicUsize::new(0), rules.len() * loads.len());
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            let (load, rule) = (&loads[at / rules.len()].1, &rules[at % rules.len()]);
            done.push((at, rule.run(load, 1)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, Figures)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let of =
            |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("a simulation that ends");
        threads.into_iter().flat_map(of).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    let figures: Vec<Figures> = done.into_iter().map(|(_, figures)| figures).collect();
    let mut rows: Vec<Row> = Vec::new();
    for (name, _) in &loads {
        if rows.iter().any(|row| row.name == *name) {
            continue;
        }
        let of_rule = |rule: usize| {
            let runs = loads.iter().zip(figures.chunks(rules.len()));
            let runs = runs.filter(|((load, _), _)| load == name);
            Outcome::of(&runs.map(|(_, figures)| figures[rule]).collect::<Vec<_>>())
        };
        rows.push(Row {
            name: name.clone(),
            outcomes: (0..rules.len()).map(of_rule).collect(),
        });
    }
    rows
}

fn point(outcome: &Outcome) -> (f64, f64) {
    (outcome.wait_p95.max(WAIT_MIN_S), outcome.worker_seconds)
}

impl Row {
    /// By how much another rule is better than this one in both p95 wait and worker-seconds: 0.05 is 5 %. 0: none is.
    /// Other settings of the same policy are no other rule.
    pub fn behind(&self, rules: &[Rule], rule: usize) -> f64 {
        let policy = rules[rule].own;
        let others = (0..rules.len()).filter(|other| policy.is_none() || rules[*other].own != policy);
        others.map(|other| self.ahead(other, rule)).fold(0.0, f64::max)
    }

    /// By how much one row is better than another in both: below 0, if it is worse in one.
    pub fn ahead(&self, other: usize, rule: usize) -> f64 {
        let (own, other) = (point(&self.outcomes[rule]), point(&self.outcomes[other]));
        (own.0 / other.0 - 1.0).min(own.1 / other.1 - 1.0)
    }
}
