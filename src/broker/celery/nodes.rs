//! What all nodes answer, for who is none itself: `pool cancel`, `pool queues`.

use std::collections::HashSet;

use serde_json::Value;

use super::consumer::Consumer;
use super::control::Question;
use super::remote::{PATIENCE, said};
use crate::broker::BrokerError;
use crate::job::QueueName;

impl Consumer {
    /// What each node answers; null where its answer can't be read. `None`: the application has no remote control.
    pub async fn ask_all(
        &self,
        at: &dyn Question,
        method: &str,
        arguments: &Value,
    ) -> Result<Option<Vec<Value>>, BrokerError> {
        let Some(exchange) = &self.app.node.exchange else {
            return Ok(None);
        };
        let (question, reply_to) = self.node.question(exchange, method, arguments);
        let answers = at.ask(&question, &reply_to, PATIENCE).await?;
        let said = answers.iter().flat_map(|answer| match said(answer) {
            // In another serializer than JSON.
            said if said.is_empty() => vec![Value::Null],
            said => said.into_iter().map(|(_, answer)| answer).collect(),
        });
        Ok(Some(said.collect()))
    }

    /// Those of these queues that no node serves; `None`: nobody can say so.
    pub async fn unserved(
        &self,
        queues: &[QueueName],
        at: &dyn Question,
    ) -> Result<Option<Vec<QueueName>>, BrokerError> {
        let answers = self.ask_all(at, "active_queues", &Value::Null).await?;
        Ok(answers.and_then(|answers| unserved(queues, &answers)))
    }
}

/// Source: `celery/worker/control.py`, `active_queues`: a list of queues as objects.
fn unserved(queues: &[QueueName], answers: &[Value]) -> Option<Vec<QueueName>> {
    let lists: Option<Vec<&Vec<Value>>> = answers.iter().map(Value::as_array).collect();
    let served = lists?.into_iter().flatten();
    let served: HashSet<&str> = served.filter_map(|queue| queue["name"].as_str()).collect();
    let unserved = queues.iter().filter(|queue| !served.contains(queue.as_str()));
    Some(unserved.cloned().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_queue_that_no_node_names_is_served_by_none() {
        let queues = ["mail", "hihg"].map(|name| QueueName::new(name).unwrap());
        let node = json!([{"name": "mail", "routing_key": "mail"}, {"name": "celery"}]);
        let of = |answers: &[Value]| unserved(&queues, answers);
        assert_eq!(of(&[node.clone(), json!([])]), Some(vec![queues[1].clone()]));
        assert_eq!(of(&[]), Some(queues.to_vec()));
        assert_eq!(of(&[node, json!({"error": "?"})]), None, "one does not say");
    }
}
