//! What the transport over RabbitMQ is told: plain values.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::broker::amqp::options::{Certificates, Options, Server};
use crate::broker::celery::facts::{Facts, QueueFacts};
use crate::broker::celery::url::Parts;

/// A broadcast queue that nobody consumes for so long vanishes.
const BROADCAST_LIFE: Duration = Duration::from_secs(3600);
const PORT: u16 = 5672;
const PORT_TLS: u16 = 5671;

/// The broker, and what is declared there.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker::celery) struct AmqpTransport {
    pub server: Options,
    pub queues: Vec<Declared>,
    /// Queues in which delayed messages wait are quorum queues, if those that are consumed are.
    pub delays_in_quorum: bool,
}

/// A queue as a stock worker declares it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::broker::celery) struct Declared {
    pub name: String,
    /// The name by which it is served.
    pub known_as: String,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    /// It is there already, as far as the application knows.
    pub no_declare: bool,
    pub arguments: Map<String, Value>,
    pub consumer_arguments: Map<String, Value>,
    pub exchange: Exchange,
    pub routing_key: String,
    pub binding_arguments: Map<String, Value>,
    /// Further exchanges that it is bound to, with the key.
    pub bindings: Vec<(Exchange, String)>,
}

/// An exchange; without a name, the one by which each queue is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::broker::celery) struct Exchange {
    pub name: String,
    pub kind: String,
    pub durable: bool,
    pub auto_delete: bool,
    pub no_declare: bool,
    pub arguments: Map<String, Value>,
}

impl AmqpTransport {
    /// Reads what the application says. The error says what is not possible here, without secrets.
    pub fn read(facts: &Facts) -> Result<Self, String> {
        let broker = &facts.broker;
        let urls = broker.urls.iter().flat_map(|url| url.split(';'));
        let uses_tls = !matches!(broker.ssl, None | Some(Value::Null | Value::Bool(false)));
        let servers: Result<Vec<_>, String> = urls.map(|url| server(url, uses_tls)).collect();
        let servers = servers?;
        if servers.is_empty() {
            return Err("it names no server".to_owned());
        }
        Ok(AmqpTransport {
            server: Options {
                servers,
                certificates: certificates(broker.ssl.as_ref()),
                heartbeat: broker
                    .heartbeat
                    .map_or(0, |seconds| seconds.clamp(0.0, 3600.0).ceil() as u16),
            },
            queues: facts
                .queues
                .iter()
                .map(|queue| declared(queue, facts.node.as_deref().unwrap_or_default()))
                .collect(),
            delays_in_quorum: facts
                .settings
                .broker_native_delayed_delivery_queue_type
                .as_deref()
                .is_none_or(|kind| kind == "quorum"),
        })
    }
}

/// Source: `kombu/transport/pyamqp.py`, `Transport.default_connection_params`, `establish_connection`.
fn server(url: &str, uses_tls: bool) -> Result<Server, String> {
    let parts = Parts::of(url)?;
    let tls = match parts.scheme.as_str() {
        "amqps" | "pyamqps" => true,
        "amqp" | "pyamqp" | "librabbitmq" => uses_tls,
        other => return Err(format!("`{other}://` is no URL of a RabbitMQ server")),
    };
    let (host, port) = parts.host_and_port(if tls { PORT_TLS } else { PORT })?;
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    Ok(Server {
        host,
        port,
        tls,
        user: or(parts.user, "guest"),
        password: or(parts.password, "guest"),
        vhost: or(parts.path, "/"),
    })
}

/// Of `broker_use_ssl`, in the words of Python's `ssl`. Source: `amqp/transport.py`, `SSLTransport._wrap_socket_sni`.
fn certificates(said: Option<&Value>) -> Certificates {
    let of = |key: &str| {
        said.and_then(|said| said.get(key))
            .filter(|value| !value.is_null())
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // Source: `ssl.VerifyMode`: 0 is CERT_NONE; a client's CERT_OPTIONAL is CERT_REQUIRED.
    let checks = of("cert_reqs").map(text);
    let file = |key| of(key).and_then(Value::as_str).map(PathBuf::from);
    Certificates {
        ca: file("ca_certs"),
        own: file("certfile"),
        key: file("keyfile"),
        unchecked: matches!(checks.as_deref(), Some("CERT_NONE" | "0")),
    }
}

/// Source: `kombu/entity.py`, `Queue.queue_declare`; `kombu/utils/amq_manager.py`, `to_rabbitmq_queue_arguments`.
fn declared(facts: &QueueFacts, node: &str) -> Declared {
    let mut arguments = facts.arguments.clone().unwrap_or_default();
    let name = facts.at_server(node);
    let is_ours = name != facts.name;
    if is_ours {
        arguments.insert(
            "x-expires".to_owned(),
            Value::from(BROADCAST_LIFE.as_millis() as i64),
        );
    }
    let millis = |seconds: f64| Value::from((seconds * 1000.0) as i64);
    for (name, value) in [
        ("x-expires", facts.expires.map(millis)),
        ("x-message-ttl", facts.message_ttl.map(millis)),
        ("x-max-length", facts.max_length.map(Value::from)),
        ("x-max-length-bytes", facts.max_length_bytes.map(Value::from)),
        ("x-max-priority", facts.max_priority.map(Value::from)),
    ] {
        if let Some(value) = value {
            arguments.insert(name.to_owned(), value);
        }
    }
    let exchange = Exchange {
        name: facts.exchange.clone().unwrap_or_default(),
        kind: facts.exchange_type.clone().unwrap_or_else(|| "direct".to_owned()),
        durable: facts.exchange_durable.unwrap_or(true),
        auto_delete: facts.exchange_auto_delete,
        no_declare: facts.exchange_no_declare,
        arguments: facts.exchange_arguments.clone().unwrap_or_default(),
    };
    let bindings = facts.bindings.iter().map(|binding| {
        let exchange = Exchange {
            name: binding.exchange.clone(),
            kind: binding
                .exchange_type
                .clone()
                .unwrap_or_else(|| "direct".to_owned()),
            durable: true,
            ..Exchange::default()
        };
        (exchange, binding.routing_key.clone().unwrap_or_default())
    });
    Declared {
        name,
        known_as: facts.known_as().to_owned(),
        durable: facts.durable.unwrap_or(true),
        exclusive: facts.exclusive,
        // Source: `kombu/entity.py`, `Queue.__init__`: an exclusive queue is deleted with its connection.
        // Of one for this node alone consumers come and go.
        auto_delete: !is_ours && facts.auto_delete || facts.exclusive,
        no_declare: facts.no_declare.unwrap_or(false),
        consumer_arguments: facts.consumer_arguments.clone().unwrap_or_default(),
        routing_key: facts.routing_key.clone().unwrap_or_default(),
        binding_arguments: facts.binding_arguments.clone().unwrap_or_default(),
        bindings: bindings.collect(),
        exchange,
        arguments,
    }
}

impl Declared {
    /// One that the application does not name. Source: `celery/app/amqp.py`, `Queues.new_missing`.
    pub fn missing(name: &str) -> Self {
        Declared {
            name: name.to_owned(),
            known_as: name.to_owned(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_declare: false,
            arguments: Map::new(),
            consumer_arguments: Map::new(),
            exchange: Exchange {
                name: name.to_owned(),
                kind: "direct".to_owned(),
                durable: true,
                ..Exchange::default()
            },
            routing_key: name.to_owned(),
            binding_arguments: Map::new(),
            bindings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, ssl: &str) -> Result<AmqpTransport, String> {
        let text = format!(
            r#"{{"broker": {{"transport": "amqp", "urls": ["{url}"], "ssl": {ssl}, "heartbeat": 120.0}},
                "queues": [{{"name": "q", "exchange": "x", "exchange_type": "topic", "routing_key": "k",
                             "expires": 1.5, "max_priority": 9, "arguments": {{"x-queue-type": "quorum"}}}}]}}"#
        );
        AmqpTransport::read(&Facts::read(&text).unwrap())
    }

    #[test]
    fn an_address_is_read_as_kombu_reads_it() {
        let vhost = |url: &str| read(url, "null").unwrap().server.servers[0].vhost.clone();
        assert_eq!(
            ["amqp://h", "amqp://h/", "amqp://h//", "amqp://h/%2f"].map(vhost),
            ["/"; 4]
        );
        assert_eq!(
            ["amqp://h/mine", "pyamqp://h//mine"].map(vhost),
            ["mine", "/mine"]
        );
        let plain = read("amqp://", "null").unwrap().server;
        assert_eq!(plain.servers[0].shown(), "amqp://localhost:5672//");
        assert_eq!((&*plain.servers[0].user, plain.heartbeat), ("guest", 120));
        let several = read("amqps://u%40:p%3A@a/v;amqp://b:7", "null")
            .unwrap()
            .server
            .servers;
        assert_eq!(
            (&*several[0].user, &*several[0].password, several[0].port),
            ("u@", "p:", 5671)
        );
        assert_eq!(several[1].shown(), "amqp://b:7//");
    }

    #[test]
    fn certificates_are_those_of_broker_use_ssl() {
        let said =
            r#"{"ca_certs": "/ca.pem", "certfile": "/own.pem", "keyfile": "/key.pem", "cert_reqs": 2}"#;
        let server = read("amqp://h", said).unwrap().server;
        assert!(server.servers[0].tls && server.servers[0].port == 5671);
        assert_eq!(server.certificates.ca, Some("/ca.pem".into()));
        assert!(!server.certificates.unchecked);
        let unchecked = |said| read("amqp://h", said).unwrap().server.certificates.unchecked;
        assert!(unchecked(r#"{"cert_reqs": 0}"#) && unchecked(r#"{"cert_reqs": "CERT_NONE"}"#));
        let odd = read("amqp://u:secret@h:port", "null").unwrap_err();
        assert!(!odd.contains("secret"), "{odd}");
    }

    #[test]
    fn a_queue_is_declared_with_all_its_arguments() {
        let queue = read("amqp://h", "null").unwrap().queues.remove(0);
        assert!(queue.durable && queue.exchange.durable);
        assert_eq!(queue.arguments["x-expires"], 1500);
        assert_eq!(queue.arguments["x-max-priority"], 9);
        assert_eq!(queue.exchange.kind, "topic");
    }
}
