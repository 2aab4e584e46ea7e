//! What a simulation is told by whoever runs it, and what it shows.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::World;
use super::process::{Call, Frame, Worker};
use crate::config::Config;
use crate::fleet::{Action, Command, Event, Fleet};
use crate::time::Now;

/// Says what jobs do, and looks on.
pub trait Script: Sized {
    /// How a call of the application goes: of one job, or of a batch.
    fn call(&mut self, jobs: &[Frame], rng: &mut Rng) -> Call;

    /// An alarm that [`World::alarm`] set. Here jobs are enqueued, and people and accidents come in.
    fn alarm(_world: &mut World<Self>, _which: u32) {}

    /// Something happens.
    fn see(&mut self, _scene: &Scene<'_>, _what: &Seen<'_>) {}
}

/// How things are while something is seen.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// When.
    pub now: Now,
    /// What the supervisor decides with.
    pub fleet: &'a Fleet,
    /// Workers by number.
    pub workers: &'a BTreeMap<u64, Worker>,
}

/// What can be seen.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A supervisor starts with these settings. Whatever was before it is gone.
    Start(&'a Config),
    /// It takes new settings.
    Reload(&'a Config),
    /// Somebody asks for this.
    Asked(&'a Command),
    /// The fleet is told of this.
    Told(&'a Event),
    /// It decides on this, which is performed a little later.
    Decided(&'a Action),
    /// These are performed next, one after the other.
    Turn(&'a [Action]),
    /// This is performed now.
    Performs(&'a Action),
    /// A worker begins these jobs.
    Begins {
        /// Which worker.
        worker: u64,
        /// One job, or a batch.
        jobs: &'a [Frame],
    },
    /// The call that a worker was in has ended.
    Ended {
        /// Which worker.
        worker: u64,
    },
}
