//! Why a worker is replaced, and what becomes of what a killed one held.

use crate::policy::recycle;

/// Why a worker is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// A newer generation of the app is loaded.
    Outdated,
    /// Somebody asked for it.
    Asked,
    /// Something else has read its frames.
    Stolen,
    /// It ran or grew long enough.
    Worn(recycle::Reason),
}

impl Expiry {
    /// In a word, as the setting is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Expiry::Outdated => "reload",
            Expiry::Asked => "asked",
            Expiry::Stolen => "its jobs were stolen",
            Expiry::Worn(recycle::Reason::MaxJobs) => "max_jobs",
            Expiry::Worn(recycle::Reason::MaxAge) => "max_age",
            Expiry::Worn(recycle::Reason::MaxWorkerMemory) => "max_worker_memory",
            Expiry::Worn(recycle::Reason::MaxWorkerPrivate) => "max_worker_private",
        }
    }
}

/// What becomes of what a killed worker held; of two reasons the later one in this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is lost with the worker.
    Lost,
    /// It ran past its timeout.
    TimedOut,
    /// It was interrupted, and goes back to its queue.
    GivenBack,
    /// Somebody stopped this execution; what else ran goes back.
    Stopped(u64),
    /// Nothing of it had begun.
    Unbegun,
}
