//! The record of one decision about a pool's size: what was known, what each term of the policy asked for, which of them
//! won, and which limit held.

use super::scaling::wish::{Candidate, Reason, Sample, Term};

/// A limit that kept a pool from the size that its policy wished, or moved it by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `min_workers`.
    Minimum,
    /// `max_workers`.
    Maximum,
    /// `max_memory` of the pool.
    Memory,
    /// `supervisor.max_total_memory`, or the floors of the other pools below it.
    TotalMemory,
    /// `supervisor.max_total_workers`, or the floors of the other pools below it.
    TotalWorkers,
    /// The permits of one kind that all pools share, or what they take for the floors of the other pools.
    Permits,
    /// Growth that brought no throughput is held, see [`super::throughput`].
    Throughput,
    /// Somebody paused the pool.
    Paused,
    /// No template is ready to fork from.
    NotLoadable,
}

impl Limit {
    /// The setting that it comes from, or in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Minimum => "min_workers",
            Limit::Maximum => "max_workers",
            Limit::Memory => "max_memory",
            Limit::TotalMemory => "max_total_memory",
            Limit::TotalWorkers => "max_total_workers",
            Limit::Permits => "permits",
            Limit::Throughput => "throughput_hold",
            Limit::Paused => "paused",
            Limit::NotLoadable => "app not loadable",
        }
    }
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Workers before.
    pub from: u32,
    /// Workers wanted; the caller forks what is missing, or retires idle ones.
    pub to: u32,
    /// Why.
    pub reason: Reason,
    /// What was known.
    pub sample: Sample,
    /// The limits in force: `min_workers` and `max_workers`.
    pub bounds: (u32, u32),
    /// What each term of the policy asked for.
    pub candidates: Vec<Candidate>,
    /// The term that won; `None`: the policy wished no change, or was not asked.
    pub term: Option<Term>,
    /// The size that the policy wished.
    pub wished: u32,
    /// The limit that held.
    pub limit: Option<Limit>,
}

impl Decision {
    /// Whether the number of workers changes.
    pub fn is_change(&self) -> bool {
        self.from != self.to
    }
}
