//! A broker that feeds us.

use std::sync::Arc;

use crate::broker::{Broker, BrokerError, Events, Source};

/// A broker and its source.
#[derive(Debug)]
pub(super) struct Opened {
    pub broker: Arc<dyn Broker>,
    pub source: Box<dyn Source>,
}

impl Opened {
    /// Begins to be fed by this broker.
    pub async fn begin(broker: Arc<dyn Broker>, events: Events) -> Result<Self, BrokerError> {
        let source = broker.clone().supply(events).await?;
        Ok(Opened { broker, source })
    }
}
