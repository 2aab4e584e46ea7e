//! What a worker says of a task's end: see docs/design-celery.md.

use serde::Deserialize;

use crate::time::Unix;

/// How it ended, as far as the broker's part in it goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Outcome {
    #[serde(default)]
    pub state: String,
    /// `None`: nothing is left to do.
    #[serde(default)]
    pub then: Option<Then>,
    #[serde(default)]
    pub store: Option<Store>,
    /// What a chore says that ends no message.
    #[serde(default)]
    pub answer: Option<serde_json::Value>,
    /// When it is due, in seconds: of the state `LATER`.
    #[serde(default)]
    eta: Option<f64>,
}

/// What Celery's own late acknowledgement would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Then {
    Ack,
    /// On Redis the same: there are no dead letters.
    Reject,
    /// To the back of its queue.
    Requeue,
}

/// A result that was captured and is to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Store {
    pub key: String,
    pub value: String,
    /// In seconds; `None`: for ever.
    #[serde(default)]
    pub expires: Option<WholeSeconds>,
}

impl Store {
    /// How long it is kept, in seconds, as scripts are told; empty: for ever.
    pub fn life(&self) -> String {
        match self.expires {
            None | Some(WholeSeconds(0)) => String::new(),
            Some(WholeSeconds(life)) => life.to_string(),
        }
    }
}

/// Whole seconds, of a number that may have a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "f64")]
pub(super) struct WholeSeconds(pub u64);

impl From<f64> for WholeSeconds {
    fn from(seconds: f64) -> Self {
        WholeSeconds(seconds.max(0.0) as u64)
    }
}

impl Outcome {
    /// It is over, and this is stored of it.
    pub fn over(store: Option<Store>) -> Self {
        Outcome {
            store,
            ..Outcome::default()
        }
    }

    /// Reads it; what can't be read is an acknowledgement, for the task has ended.
    pub fn read(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_else(|error| {
            tracing::error!(%error, "a worker's word of a task's end can't be read: it is acknowledged");
            Outcome::default()
        })
    }

    /// It has not run, and is due at this time: only its body could tell.
    pub fn later(&self) -> Option<Unix> {
        let eta = self.eta.filter(|_| self.state == "LATER")?;
        Some(Unix((eta * 1000.0).ceil() as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_what_becomes_of_message_and_result() {
        let said = br#"{"state": "SUCCESS", "then": "requeue", "runtime": 0.1,
            "store": {"key": "celery-task-meta-1", "value": "{}", "expires": 86400.5}}"#;
        let outcome = Outcome::read(said);
        assert_eq!((outcome.then, outcome.later()), (Some(Then::Requeue), None));
        assert_eq!(outcome.store.unwrap().expires, Some(WholeSeconds(86_400)));
        let bare = Outcome::read(br#"{"state": "IGNORED", "then": "reject", "store": null}"#);
        assert_eq!((bare.then, bare.store), (Some(Then::Reject), None));
        assert_eq!(Outcome::read(b"42"), Outcome::default());
        let later = Outcome::read(br#"{"state": "LATER", "then": null, "eta": 1795962474.983}"#);
        assert_eq!(later.later(), Some(Unix(1_795_962_474_983)));
    }
}
