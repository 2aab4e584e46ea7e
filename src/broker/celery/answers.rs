//! What chores answer that end no message, for who waits for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::oneshot;

/// Who waits for the answer of a chore, by the chore's number.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<HashMap<i64, oneshot::Sender<Result<Value, String>>>>);

impl Answers {
    /// The answer of this chore is waited for.
    pub fn expect(&self, of: i64) -> oneshot::Receiver<Result<Value, String>> {
        let (sender, receiver) = oneshot::channel();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(of, sender);
        receiver
    }

    /// A chore has ended, and this is what its worker said.
    pub fn came(&self, of: i64, answer: Result<Value, String>) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&of);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer); // who asked may have left
        }
    }
}
