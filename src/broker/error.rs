//! What goes wrong at a broker, as typed values.

use crate::job::{GroupId, JobId};

/// What went wrong at the broker, in words for the user; `Display` gives the whole sentence.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// Nobody answers, or the file can't be opened. Exit code 3.
    #[error("cannot reach {url}: {reason} ({hint})")]
    Unreachable {
        /// The broker, without its secrets.
        url: String,
        /// What the system said.
        reason: String,
        /// What the user can do.
        hint: &'static str,
    },
    /// It answers, but can't do this now: disk full, read-only, locked for too long. Trying again may help.
    #[error("{url} refuses for now: {reason}")]
    Busy {
        /// The broker, without its secrets.
        url: String,
        /// What it said.
        reason: String,
    },
    /// What it holds is not what we wrote.
    #[error("{url} holds something unexpected: {reason}")]
    Corrupt {
        /// The broker, without its secrets.
        url: String,
        /// Where and what.
        reason: String,
    },
    /// The request can't be met: a payload over the limit, a certificate that can't be read.
    #[error("{0}")]
    Refused(String),
    /// Another job has the id of one that was to be enqueued; nothing was.
    #[error("cannot enqueue job `{0}`: another job has this id (leave the id out to get a fresh one)")]
    IdTaken(JobId),
    /// Another group has the id of one that was to be enqueued; nothing was.
    #[error("cannot enqueue group `{0}`: another group has this id")]
    GroupTaken(GroupId),
    /// This broker has no such ability.
    #[error(transparent)]
    NotHere(#[from] NotHere),
}

/// What a broker can't do, and what does it instead. `Display` gives the whole sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{broker} has no {ability}: {instead}")]
pub struct NotHere {
    /// What was asked for, in the plural: `chains`.
    pub ability: &'static str,
    /// The broker, without its secrets.
    pub broker: String,
    /// What the user can do instead.
    pub instead: &'static str,
}
