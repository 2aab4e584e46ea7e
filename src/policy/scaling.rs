//! The scaling policies: the list of them, and their settings.
//!
//! A policy knows nothing of limits: [`super::limits`] puts them around its wish. To add one: a file beside
//! [`utilization`], its settings in [`Settings`] (with their keys in `config/keys.rs`), a line in [`Policy`], in
//! [`Settings::threshold`] and in [`Settings::start`].

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
    /// Of both.
    pub threshold: Threshold,
    /// Of `demand`.
    pub demand: demand::Settings,
}

/// `utilization_threshold`: the share of the workers that is busy on average, above which there is one worker more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Threshold {
    /// What suits the policy.
    #[default]
    Auto,
    /// This share; in `0.0..=1.0`, above 0.
    Share(f64),
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
            Policy::Utilization => Box::new(Utilization::new(self.threshold())),
            Policy::Demand => Box::new(Demand::new(self.threshold(), self.demand)),
        }
    }

    /// The threshold in force.
    pub fn threshold(&self) -> f64 {
        match (self.threshold, self.policy) {
            (Threshold::Share(share), _) => share,
            (Threshold::Auto, Policy::Utilization) => utilization::THRESHOLD,
            (Threshold::Auto, Policy::Demand) => demand::THRESHOLD,
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
