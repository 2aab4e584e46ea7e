//! Queues that a node serves from now on, or no more. Source: `celery/worker/control.py`, `add_consumer`, `cancel_consumer`;
//! `celery/worker/consumer/consumer.py`, `add_task_queue`.

use serde_json::{Value, json};

use super::Answer;
use super::python::quoted;
use super::request::Request;
use crate::broker::celery::options::Queue;
use crate::broker::{Ask, PoolView};
use crate::job::QueueName;

/// What changes.
#[derive(Debug, PartialEq)]
pub(in crate::broker::celery) struct QueueChange {
    pub queue: QueueName,
    /// To be declared; `None`: it is served no more.
    pub added: Option<Queue>,
    /// What is asked of the supervisor.
    pub asks: Vec<Ask>,
    pub answer: Value,
}

impl QueueChange {
    /// What a request asks for; `None`: it is about something else. `pools`: those of this node.
    pub fn of(request: &Request, pools: &[PoolView]) -> Option<Result<Self, Answer>> {
        match request.method.as_str() {
            "add_consumer" => Some(Self::add(request, pools)),
            "cancel_consumer" => Some(Self::cancel(request, pools)),
            _ => None,
        }
    }

    fn add(request: &Request, pools: &[PoolView]) -> Result<Self, Answer> {
        let queue = named(request)?;
        let [PoolView { pool, .. }] = pools else {
            let text = "this node has several pools: name the queue in the settings of one, and reload";
            return Err(Ok(json!({ "error": text })));
        };
        let text = |name: &str, default: &str| match request.arguments.get(name) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            _ => default.to_owned(),
        };
        let added = Queue {
            name: queue.to_string(),
            at_server: queue.to_string(),
            exchange: text("exchange", queue.as_str()),
            exchange_type: text("exchange_type", "direct"),
            routing_key: text("routing_key", queue.as_str()),
            expires: None,
        };
        Ok(QueueChange {
            answer: json!({"ok": format!("add consumer {queue}")}),
            asks: vec![Ask::AddQueue {
                pool: pool.clone(),
                queue: queue.clone(),
            }],
            added: Some(added),
            queue,
        })
    }

    fn cancel(request: &Request, pools: &[PoolView]) -> Result<Self, Answer> {
        let queue = named(request)?;
        let serving = pools.iter().filter(|pool| pool.queues.contains(&queue));
        Ok(QueueChange {
            answer: json!({"ok": format!("no longer consuming from {queue}")}),
            asks: serving
                .map(|PoolView { pool, .. }| Ask::DropQueue {
                    pool: pool.clone(),
                    queue: queue.clone(),
                })
                .collect(),
            added: None,
            queue,
        })
    }
}

/// A queue as it is shown, see `kombu.Queue.as_dict`.
pub(in crate::broker::celery) fn shown(queue: &Queue) -> Value {
    json!({
        "name": queue.name,
        "exchange": {
            "name": queue.exchange, "type": queue.exchange_type, "arguments": null, "durable": true, "passive": false,
            "auto_delete": false, "delivery_mode": null, "no_declare": false,
        },
        "routing_key": queue.routing_key, "queue_arguments": null, "binding_arguments": null, "consumer_arguments": null,
        "durable": true, "exclusive": false, "auto_delete": false, "no_ack": false, "alias": null, "bindings": [],
        "no_declare": null, "expires": null, "message_ttl": null, "max_length": null, "max_length_bytes": null,
        "max_priority": null,
    })
}

fn named(request: &Request) -> Result<QueueName, Answer> {
    let Some(name) = request.arguments.get("queue") else {
        let what = format!(
            "{}() missing 1 required positional argument: 'queue'",
            request.method
        );
        return Err(Err(format!("TypeError({})", quoted(&what))));
    };
    let name = name.as_str().unwrap_or_default();
    QueueName::new(name).map_err(|why| {
        Err(format!(
            "ValueError({})",
            quoted(&format!("the queue's name {why}"))
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::PoolName;

    fn pool(name: &str, queues: &[&str]) -> PoolView {
        PoolView {
            pool: PoolName::new(name).unwrap(),
            queues: queues.iter().map(|name| QueueName::new(name).unwrap()).collect(),
            min: 1,
            max: 1,
            jobs_max: None,
        }
    }

    fn asked(method: &str, arguments: Value, pools: &[PoolView]) -> Result<QueueChange, Answer> {
        let Value::Object(arguments) = arguments else {
            panic!()
        };
        let request = Request {
            method: method.to_owned(),
            arguments,
            ..Request::default()
        };
        QueueChange::of(&request, pools).unwrap()
    }

    #[test]
    fn a_queue_comes_with_its_exchange_and_goes_from_all_pools_that_serve_it() {
        let one = [pool("a", &["celery"])];
        let change = asked(
            "add_consumer",
            json!({"queue": "x", "exchange_type": "topic"}),
            &one,
        )
        .unwrap();
        let queue = change.added.unwrap();
        assert_eq!(
            (&*queue.exchange, &*queue.exchange_type, &*queue.routing_key),
            ("x", "topic", "x")
        );
        assert_eq!(
            (change.asks.len(), change.answer),
            (1, json!({"ok": "add consumer x"}))
        );
        let two = [pool("a", &["x"]), pool("b", &["y", "x"]), pool("c", &["y"])];
        assert!(asked("add_consumer", json!({"queue": "x"}), &two).is_err());
        assert_eq!(
            asked("cancel_consumer", json!({"queue": "x"}), &two)
                .unwrap()
                .asks
                .len(),
            2
        );
        assert!(
            asked("cancel_consumer", json!({"queue": "z"}), &two)
                .unwrap()
                .asks
                .is_empty()
        );
        for bad in [json!({}), json!({"queue": ""}), json!({"queue": 5})] {
            assert!(
                asked("cancel_consumer", bad.clone(), &two).unwrap_err().is_err(),
                "{bad}"
            );
        }
    }
}
