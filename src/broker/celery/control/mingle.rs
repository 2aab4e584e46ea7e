//! A node that begins knows what was revoked before, and asks the others, before it takes a task.

use super::Question;
use crate::broker::BrokerError;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::remote::PATIENCE;

impl Consumer {
    /// What it remembers from one start to the next.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] where its file can't be read or written.
    pub fn remember(&self) -> Result<(), BrokerError> {
        let Some(state) = &self.app.state else {
            return Ok(());
        };
        self.node.remember_in(state).map_err(|error| {
            let file = &state.file;
            BrokerError::Refused(format!(
                "{file}, where revoked tasks are remembered, can't be written: {error}"
            ))
        })
    }

    /// Asks them, where the application wants that. Nobody is waited for who does not answer at once.
    pub async fn mingle(&self, others: &dyn Question) {
        let node = &self.app.node;
        let Some(exchange) = node.exchange.as_ref().filter(|_| node.mingles) else {
            return;
        };
        let (question, reply_to) = self.node.hello(exchange);
        match others.ask(&question, &reply_to, PATIENCE).await {
            Ok(answers) => answers.iter().for_each(|answer| self.node.meet(answer)),
            Err(error) => tracing::warn!(%error, "other nodes can't be asked which tasks were revoked"),
        }
    }
}
