//! A node that begins asks the others what was revoked, before it takes a task.

use super::Question;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::remote::PATIENCE;

impl Consumer {
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
