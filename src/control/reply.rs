//! What a supervisor answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::health::Health;
use crate::fleet::snapshot::Snapshot;

/// One reply, on the wire `{"reply":"done","message":"…"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The picture that was asked for.
    Snapshot {
        /// The supervisor now.
        snapshot: Arc<Snapshot>,
    },
    /// Who serves what.
    Serving {
        /// The supervisor's process id.
        pid: i32,
        /// Where its application runs.
        directory: String,
        /// The queues of all its pools.
        queues: Vec<String>,
    },
    /// What the loaded application says about its broker.
    Facts {
        /// With passwords: not for a log. `None`: nothing, or nothing yet.
        facts: Option<String>,
    },
    /// The request names another broker than the one that is served; nothing was done.
    OtherBroker {
        /// The supervisor's process id.
        pid: i32,
        /// The address of the broker that it serves.
        broker: String,
    },
    /// The metrics that were asked for.
    Metrics {
        /// In the text format that was asked for.
        text: String,
    },
    /// Whether all is well.
    Health {
        /// What is not.
        health: Health,
    },
    /// It is done.
    Done {
        /// What changed, in a sentence for people: `pool default: 2..8 workers`.
        message: String,
    },
    /// It can't be done; nothing changed.
    Error {
        /// What could not be done and why.
        message: String,
        /// What the user can do, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

impl Reply {
    /// It is done, and this is what changed.
    pub fn done(message: impl Into<String>) -> Self {
        Reply::Done {
            message: message.into(),
        }
    }

    /// It can't be done, and this is why.
    pub fn error(message: impl Into<String>) -> Self {
        Reply::Error {
            message: message.into(),
            hint: None,
        }
    }

    /// [`Reply::error`] with what the user can do about it.
    pub fn error_with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Reply::Error {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

impl From<Snapshot> for Reply {
    fn from(snapshot: Snapshot) -> Self {
        Reply::Snapshot {
            snapshot: Arc::new(snapshot),
        }
    }
}
