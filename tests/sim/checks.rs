//! What must hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use pool::fleet::figures::BrokerCalls;
use pool::fleet::snapshot::{PoolSnapshot, Snapshot};
use pool::fleet::tally::Tally;
use pool::policy::prefetch::HELD_MAX;
use pool::sim::broker::Place;
use pool::sim::process::Process;

use crate::watch::Watch;

/// A world under test.
type World = pool::sim::World<Watch>;

/// Most jobs that a pool may have claimed and not handed out.
const BUFFER_MAX: usize = 4096;

/// Panics, in words, if something does not hold.
pub fn check(world: &mut World) {
    let picture = world.fleet().snapshot(world.now());
    no_job_is_lost(world);
    no_job_is_on_two_live_workers(world);
    no_process_is_forgotten(world, &picture);
    nobody_waits_for_what_was_taken_back(world);
    queues_are_bounded(world, &picture);
    all_pools_fit_together(&picture);
    world.script.permits.check(&picture);
    let before = std::mem::take(&mut world.script.sizes);
    for (name, pool) in &picture.pools {
        size_is_within_limits(name, pool, before.get(name).copied().unwrap_or((0, 0)));
        figures_make_sense(name, pool);
        world.script.sizes.insert(name.clone(), (pool.workers, pool.max));
    }
}

/// Each job that the broker lent is in the fleet's hand, or on its way there or back.
fn no_job_is_lost(world: &World) {
    if world.has_left() {
        return;
    }
    let lent = world.supply().ledger().count(Place::Running);
    let settling = world.traffic().unsettled() as usize - world.supply().settled_unheard();
    let known = world.fleet().in_hand() + settling + world.supply().delivering();
    assert_eq!(
        lent, known,
        "the broker lent {lent} jobs, the supervisor knows {known}"
    );
}

fn no_job_is_on_two_live_workers(world: &World) {
    let mut seen = BTreeMap::new();
    for (id, worker) in world.workers() {
        for frame in worker.holds().filter(|_| worker.process != Process::Dead) {
            let other = seen.insert(&frame.id, id);
            assert!(other.is_none(), "{} is on worker {id} and on {other:?}", frame.id);
        }
    }
}

/// A process that the fleet does not know was told to leave; so was one that it knows as leaving.
fn no_process_is_forgotten(world: &World, picture: &Snapshot) {
    let known: BTreeSet<u64> = picture
        .pools
        .values()
        .flat_map(|pool| pool.processes.iter().map(|process| process.worker))
        .collect();
    for (id, worker) in world.workers() {
        let told = worker.closed || worker.process == Process::Dead;
        assert!(
            told || known.contains(id),
            "worker {id} is {:?} and forgotten",
            worker.process
        );
    }
}

/// The rest of a job that a worker stands in the middle of never comes.
fn nobody_waits_for_what_was_taken_back(world: &World) {
    for (id, worker) in world.workers() {
        assert!(
            !worker.torn || worker.process == Process::Dead,
            "worker {id} reads a job whose rest was taken back"
        );
    }
}

fn queues_are_bounded(world: &World, picture: &Snapshot) {
    for (id, worker) in world.workers() {
        let held = worker.holds().count();
        assert!(held <= HELD_MAX as usize, "worker {id} holds {held} jobs");
        let alone = worker.holds().any(|frame| frame.is_long);
        assert!(
            !alone || held == 1,
            "worker {id} holds {held} jobs beside a long one"
        );
    }
    for (name, pool) in &picture.pools {
        let bound = BUFFER_MAX + pool.processes.len() * HELD_MAX as usize;
        assert!(
            pool.prefetched as usize <= bound,
            "pool {name} holds {} jobs",
            pool.prefetched
        );
    }
}

/// A pool never grows past its maximum. One that was lowered waits for busy workers.
fn size_is_within_limits(name: &str, pool: &PoolSnapshot, (before, max_before): (u32, u32)) {
    let max = pool.max.max(max_before);
    let grew_past = pool.workers > max && pool.workers > before;
    assert!(
        !grew_past,
        "pool {name} grew from {before} to {}, max {max}",
        pool.workers
    );
    assert!(
        pool.min <= pool.max,
        "pool {name}: min {} max {}",
        pool.min,
        pool.max
    );
}

/// What the pools want and what each may always have fit below the limit on all workers.
fn all_pools_fit_together(picture: &Snapshot) {
    let wanted = |pool: &PoolSnapshot| {
        let staying = if pool.floor == 0 { 0 } else { pool.target };
        staying.max(pool.floor)
    };
    let wanted: u32 = picture.pools.values().map(wanted).sum();
    let total = picture.max_total_workers.unwrap_or(u32::MAX);
    assert!(
        wanted <= total,
        "{wanted} workers wanted of {total}: {picture:#?}"
    );
}

fn figures_make_sense(name: &str, pool: &PoolSnapshot) {
    assert!(
        pool.busy <= pool.workers,
        "pool {name}: {} busy of {}",
        pool.busy,
        pool.workers
    );
    let share = pool.utilization.unwrap_or(0.0);
    assert!(
        share.is_finite() && share >= 0.0,
        "pool {name}: utilization {share}"
    );
}

/// No process misbehaved: whatever people changed, each job began once and ended well.
pub fn each_job_ran_once(world: &World) {
    for job in world.supply().ledger().jobs() {
        assert_eq!(
            (job.place, job.begins, job.losses),
            (Place::Finished, 1, 0),
            "{job:?}"
        );
    }
}

/// Each job counts once: as done, as a run with its time, and as one that waited.
pub fn each_job_was_counted(world: &World) {
    let picture = world.fleet().snapshot(world.now());
    let figures = world.fleet().figures(picture, BrokerCalls::default());
    let sum = |of: &dyn Fn(&Tally) -> u64| figures.pools.values().map(of).sum::<u64>();
    let done = sum(&|tally| tally.sum(|task| task.done));
    let runs = sum(&|tally| tally.sum(|task| task.durations.count()));
    let waits = sum(&|tally| tally.waits.iter().map(|(_, wait)| wait.0.count()).sum());
    let jobs = world.supply().ledger().jobs().len() as u64;
    assert_eq!((done, runs, waits), (jobs, jobs, jobs));
    let cut_short = sum(&|tally| tally.cut_short.values().sum());
    let deaths = sum(&|tally| tally.deaths.values().sum());
    assert_eq!((cut_short, deaths), (0, 0), "{figures:#?}");
}

/// Nothing went wrong: no job has a failure or a loss to its name.
pub fn no_job_is_blamed(world: &World) {
    for job in world.supply().ledger().jobs() {
        assert_eq!((job.failures, job.losses), (0, 0), "{job:?}");
    }
}

/// Whether a worker is leaving that has no permit for its successor: that one comes when it is gone.
pub fn one_leaves_before_its_successor(world: &World) -> bool {
    let leaves = |state: &str| state == "retiring" || state == "killed";
    let picture = world.fleet().snapshot(world.now());
    let mut of_permits = picture
        .pools
        .iter()
        .filter(|(name, _)| world.script.permits.are_taken_by(name));
    of_permits.any(|(_, pool)| pool.processes.iter().any(|process| leaves(&process.state)))
}

/// With nothing to do, a pool shrinks to its minimum; its workers stand idle and are of the newest app.
pub fn pools_are_at_rest(world: &World) {
    let picture = world.fleet().snapshot(world.now());
    for (name, pool) in &picture.pools {
        assert_eq!((pool.workers, pool.busy), (pool.min, 0), "pool {name}: {pool:#?}");
        for process in &pool.processes {
            let newest = process.generation == picture.generation;
            assert!(
                newest,
                "generation {} is loaded: {process:#?}",
                picture.generation
            );
        }
    }
}
