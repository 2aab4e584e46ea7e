//! The scaling policies: the list of them, and their settings.
//!
//! A policy knows nothing of limits: [`super::limits`] puts them around its wish. To add one: a file beside
//! [`utilization`], its settings in [`Settings`] (with their keys in `config/keys.rs`), a line in [`Policy`] and in
//! [`Settings::start`].

pub mod demand;
pub mod utilization;
pub mod wish;

use std::time::Duration;

use demand::Demand;
use utilization::Utilization;
use wish::ScalingPolicy;

/// `policy`: the list of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// By the workers that are busy on average.
    #[default]
    Utilization,
    /// By what waits, too.
    Demand,
}

/// Which policy a pool has, and the settings of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// The one in force.
    pub policy: Policy,
    /// Of `utilization`; `demand` goes by the same threshold.
    pub utilization: utilization::Settings,
    /// Of `demand`.
    pub demand: demand::Settings,
}

impl Policy {
    /// Its name in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Utilization => "utilization",
            Policy::Demand => "demand",
        }
    }
}

impl Settings {
    /// The policy in force, which has seen nothing yet.
    pub fn start(&self) -> Box<dyn ScalingPolicy> {
        match self.policy {
            Policy::Utilization => Box::new(Utilization::new(self.utilization)),
            Policy::Demand => Box::new(Demand::new(self.utilization.threshold, self.demand)),
        }
    }

    /// How long a job may wait, where the policy in force goes by it.
    pub fn target_wait(&self) -> Option<Duration> {
        match self.policy {
            Policy::Utilization => None,
            Policy::Demand => Some(self.demand.target_wait),
        }
    }
}
