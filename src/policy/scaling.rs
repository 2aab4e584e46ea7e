//! The scaling policies: the list of them, and their settings.
//!
//! A policy knows nothing of limits: [`super::limits`] puts them around its wish. To add one: a file beside
//! [`utilization`], its settings in [`Settings`] (with their keys in `config/keys.rs`), a line in [`Policy`] and in
//! [`Settings::start`].

pub mod utilization;
pub mod wish;

use utilization::Utilization;
use wish::ScalingPolicy;

/// `policy`: the list of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// By the share of their time that workers are busy.
    #[default]
    Utilization,
}

/// Which policy a pool has, and the settings of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// The one in force.
    pub policy: Policy,
    /// Of `utilization`.
    pub utilization: utilization::Settings,
}

impl Policy {
    /// Its name in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Utilization => "utilization",
        }
    }
}

impl Settings {
    /// The policy in force, which has seen nothing yet.
    pub fn start(&self) -> Box<dyn ScalingPolicy> {
        match self.policy {
            Policy::Utilization => Box::new(Utilization::new(self.utilization)),
        }
    }
}
