//! What the node asks of its supervisor.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::broker::{Ask, Order, Orders, Picture, Told};

/// Who carries out what is asked.
#[derive(Clone)]
pub(super) struct Supervisor(Arc<Mutex<Orders>>);

impl Supervisor {
    pub fn new(orders: Orders) -> Self {
        Supervisor(Arc::new(Mutex::new(orders)))
    }

    /// Asks, and waits for the answer. The error says why it was not done.
    pub async fn ask(&self, ask: Ask) -> Result<Told, String> {
        let (reply, told) = oneshot::channel();
        let order = Order {
            ask,
            reply: Some(reply),
        };
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(order);
        told.await
            .unwrap_or_else(|_| Err("the supervisor is leaving".to_owned()))
    }

    /// How things are at this moment.
    pub async fn picture(&self) -> Result<Picture, String> {
        match self.ask(Ask::Look).await? {
            Told::Seen(picture) => Ok(picture),
            Told::Done(done) => Err(done),
        }
    }
}
