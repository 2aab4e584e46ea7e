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

/// What decides about the size, and what it is called.
pub struct Rule {
    pub name: String,
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
    let own = |name: &str, flags: &[&str]| Rule {
        name: name.to_owned(),
        config: limited(flags, LIMITS),
        start: None,
    };
    let mut rules = vec![
        own("utilization", &["--policy", "utilization"]),
        own("demand", &["--policy", "demand"]),
        own(
            "demand 0.8",
            &["--policy", "demand", "--utilization-threshold", "0.8"],
        ),
    ];
    for peer in peers::all() {
        let period = peer.period.as_secs().to_string();
        rules.push(Rule {
            name: peer.name.to_owned(),
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
            begins: None,
            cores: None,
            seed,
        };
        let run = replay::run_with(&setup, self.start.map(|start| start()));
        Figures::of(&run, load, SLO, bound::clairvoyant(load, LIMITS))
    }
}

/// One load, and what each rule made of it, in the order of the rules.
pub struct Row {
    pub name: String,
    pub figures: Vec<Figures>,
}

/// Each rule on each load, on all processors.
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
    let rows = loads.into_iter().zip(figures.chunks(rules.len()));
    rows.map(|((name, _), figures)| Row {
        name,
        figures: figures.to_vec(),
    })
    .collect()
}

fn point(figures: &Figures) -> (f64, f64) {
    (figures.wait_p95.max(WAIT_MIN_S), figures.worker_seconds)
}

impl Row {
    /// By how much another rule is better than this one in both p95 wait and worker-seconds: 0.05 is 5 %. 0: none is.
    pub fn behind(&self, rule: usize) -> f64 {
        let own = point(&self.figures[rule]);
        let by = |other: &Figures| {
            let other = point(other);
            (own.0 / other.0 - 1.0).min(own.1 / other.1 - 1.0)
        };
        self.figures.iter().map(by).fold(0.0, f64::max)
    }
}
