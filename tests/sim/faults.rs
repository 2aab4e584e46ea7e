//! What goes wrong, and what people do, at any moment.

use pool::fleet::{Command, Done};
use pool::job::Outcome;
use pool::sim::process::{Process, Said};
use pool::time::Mono;

use crate::settings::{self, POOLS, pool_name};
use crate::watch::Watch;

/// A world under test.
type World = pool::sim::World<Watch>;

/// One kind of disturbance.
pub type Fault = fn(&mut World);

/// How the world behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Jobs come, processes do what they should.
    Calm,
    /// And people change what can be changed.
    People,
    /// And anything dies, freezes or lies.
    Wild,
}

impl Mood {
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Mood::Calm => &[],
            Mood::People => PEOPLE,
            Mood::Wild => WILD,
        }
    }

    /// Tasks of the jobs that come, as often as they stand here.
    pub fn tasks(self) -> &'static [&'static str] {
        match self {
            Mood::Calm | Mood::People => &PEACEFUL,
            Mood::Wild => &ANY_TASK,
        }
    }
}

const PEACEFUL: [&str; 12] = [
    "noop", "noop", "noop", "short", "short", "medium", "long", "large", "row", "row", "row", "row",
];

const ANY_TASK: [&str; 27] = [
    "row", "row", "row", "row", "mixed", "mixed", "mixed", "noop", "noop", "noop", "noop", "noop", "noop",
    "short", "short", "short", "short", "medium", "medium", "long", "large", "fails", "fails", "again",
    "poison", "endless", "stubborn",
];

const PEOPLE: &[Fault] = &[
    scale,
    pause,
    resume,
    resume,
    reload,
    settings_change,
    worker_is_replaced,
];

const WILD: &[Fault] = &[
    scale,
    pause,
    resume,
    resume,
    reload,
    settings_change,
    worker_is_replaced,
    worker_is_killed,
    job_is_stopped,
    forks_fail,
    forks_work,
    forks_work,
    app_breaks,
    app_is_repaired,
    app_is_repaired,
    worker_dies,
    worker_dies,
    worker_freezes,
    worker_freezes,
    worker_thaws,
    worker_talks_garbage,
    worker_repeats_itself,
    worker_invents_an_outcome,
    worker_says_ready_again,
    template_dies,
    template_freezes,
    template_thaws,
    broker_goes,
    broker_comes,
    broker_comes,
    supervisor_dies,
];

fn any_pool(world: &mut World) -> pool::job::PoolName {
    pool_name(POOLS[world.rng.usize(..POOLS.len())])
}

fn any_worker(world: &mut World) -> Option<u64> {
    let alive = world
        .workers()
        .iter()
        .filter(|(_, worker)| worker.process == Process::Alive);
    let alive: Vec<u64> = alive.map(|(id, _)| *id).collect();
    world.rng.choice(&alive).copied()
}

fn scale(world: &mut World) {
    let (pool, min) = (any_pool(world), world.rng.u32(..5));
    let max = min.max(1) + world.rng.u32(..4);
    world.command(Command::Scale {
        pool,
        min: Some(min),
        max: Some(max),
    });
}

fn pause(world: &mut World) {
    let pool = any_pool(world);
    world.command(Command::Pause { pool: Some(pool) });
}

fn resume(world: &mut World) {
    world.command(Command::Resume { pool: None });
}

fn reload(world: &mut World) {
    let config = world.config().clone();
    world.reload(config, true);
}

fn settings_change(world: &mut World) {
    let config = {
        let config = world.config().clone();
        settings::redraw(&mut world.rng, &config)
    };
    let new_generation = world.rng.bool();
    world.reload(config, new_generation);
}

/// By a command of RQ, as the next two.
fn worker_is_replaced(world: &mut World) {
    if let Some(worker) = any_worker(world) {
        world.command(Command::ReplaceWorker { worker });
    }
}

fn worker_is_killed(world: &mut World) {
    if let Some(worker) = any_worker(world) {
        world.command(Command::KillWorker { worker });
    }
}

fn job_is_stopped(world: &mut World) {
    let running = any_worker(world).and_then(|id| world.fleet().running_job(id));
    if let Some(job) = running.map(|job| job.job.id.clone()) {
        world.command(Command::StopJob { job });
    }
}

fn forks_fail(world: &mut World) {
    world.conditions.forks_fail = true;
}

fn forks_work(world: &mut World) {
    world.conditions.forks_fail = false;
}

fn app_breaks(world: &mut World) {
    world.conditions.app_broken = true;
}

fn app_is_repaired(world: &mut World) {
    world.conditions.app_broken = false;
}

fn worker_dies(world: &mut World) {
    if let Some(id) = any_worker(world) {
        world.kill_worker(id);
    }
}

fn worker_freezes(world: &mut World) {
    if let Some(id) = any_worker(world) {
        world.freeze_worker(id);
    }
}

fn worker_thaws(world: &mut World) {
    if let Some(id) = any_worker(world) {
        world.thaw_worker(id);
    }
}

fn says(world: &mut World, said: impl FnOnce(&World, u64) -> Option<Said>) {
    let Some(id) = any_worker(world) else { return };
    let Some(said) = said(world, id) else { return };
    if let Said::Done(done) = &said
        && let Some(worker) = world.workers().get(&id)
        && worker.holds().any(|frame| frame.execution == done.execution)
    {
        world.script.liars.insert(id);
    }
    world.speak_for_worker(id, said);
}

fn worker_talks_garbage(world: &mut World) {
    says(world, |_, _| Some(Said::Garbage));
}

fn worker_says_ready_again(world: &mut World) {
    says(world, |_, _| Some(Said::Ready));
}

/// The outcome that it says next, twice.
fn worker_repeats_itself(world: &mut World) {
    says(world, |world, id| world.workers().get(&id)?.last_said().cloned());
}

/// An outcome of a job that was somebody else's, or that it has not begun, with stamps from nowhere.
fn worker_invents_an_outcome(world: &mut World) {
    let (execution, stamp) = (world.rng.u64(..200), world.rng.u64(..u64::MAX));
    says(world, |world, id| {
        let running = world.workers().get(&id)?.running.as_ref();
        // That it ends the job that it runs is no invention: nobody can tell it from the truth.
        (running.map(|running| running.frame.execution) != Some(execution)).then_some(Said::Done(Done {
            execution,
            started: Mono(stamp),
            ended: Mono(0),
            outcome: Outcome::Success(Vec::new()),
            whole_batch: false,
        }))
    });
}

fn any_template(world: &mut World) -> Option<u64> {
    let templates: Vec<u64> = world.templates().keys().copied().collect();
    world.rng.choice(&templates).copied()
}

fn template_dies(world: &mut World) {
    if let Some(id) = any_template(world) {
        world.kill_template(id);
    }
}

fn template_freezes(world: &mut World) {
    if let Some(id) = any_template(world) {
        world.freeze_template(id);
    }
}

fn template_thaws(world: &mut World) {
    if let Some(id) = any_template(world) {
        world.thaw_template(id);
    }
}

fn broker_goes(world: &mut World) {
    world.set_broker_away(true);
}

fn broker_comes(world: &mut World) {
    world.set_broker_away(false);
}

fn supervisor_dies(world: &mut World) {
    if world.rng.u8(..4) == 0 {
        world.kill_supervisor();
    }
}
