//! A message as RabbitMQ delivers it, in the terms in which Celery's messages are read here.
//!
//! Headers are written as JSON once, on their way to a worker. Source: `kombu/transport/pyamqp.py`, `Channel.message_to_python`.

use std::borrow::Cow;
use std::fmt::Write;

use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};

use super::chain::without_delay;
use crate::broker::celery::envelope::{Message, Parts};

/// What dead-lettering adds; nobody in a worker asks for it, and it holds what JSON can't say.
const OF_THE_SERVER: &str = "x-death";
/// How often a message of a quorum queue came back. Source: RabbitMQ, "Quorum Queues", "Poison Message Handling".
const RETURNS: &str = "x-delivery-count";

/// How often it came back to its queue. Classic queues do not count that.
pub(super) fn returns(delivery: &Delivery) -> u32 {
    // Celery's retries carry all headers on: what comes for the first time may have the count of another message.
    let headers = delivery.properties.headers().as_ref();
    let headers = headers.filter(|_| delivery.redelivered);
    let count = headers.and_then(|headers| headers.inner().get(RETURNS));
    match count {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
        Some(AMQPValue::LongInt(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}

/// Reads a delivery. `losses`: workers that died with it, as far as is known here. The error says why nobody could read it.
pub(super) fn read(delivery: &Delivery, losses: u32) -> Result<Message, String> {
    let headers = written_headers(delivery);
    let properties = &delivery.properties;
    let text = |value: Option<&lapin::types::ShortString>| {
        value.map_or_else(|| "null".to_owned(), |text| quoted(text.as_str()))
    };
    Message::of(
        &Parts {
            headers: &headers,
            properties: &of_delivery(delivery),
            content_type: &text(properties.content_type().as_ref()),
            content_encoding: &text(properties.content_encoding().as_ref()),
            correlation_id: properties
                .correlation_id()
                .as_ref()
                .map(|id| Cow::Borrowed(id.as_str())),
            losses,
            body: Cow::Borrowed(&delivery.data),
            has_odd_body: false,
        },
        false,
    )
}

fn written_headers(delivery: &Delivery) -> String {
    let mut headers = String::with_capacity(512);
    match delivery.properties.headers() {
        Some(table) => write_table(&mut headers, table, true),
        None => headers.push_str("{}"),
    }
    headers
}

/// Its headers; null where they are none that JSON could say.
pub(super) fn headers_of(delivery: &Delivery) -> serde_json::Value {
    serde_json::from_str(&written_headers(delivery)).unwrap_or_default()
}

/// Its properties, with what is said of its delivery, as kombu's messages have them.
fn of_delivery(delivery: &Delivery) -> String {
    let properties = &delivery.properties;
    let (exchange, key) = route_of(delivery);
    let mut written = String::with_capacity(256);
    let _ = write!(
        written,
        r#"{{"delivery_info":{{"exchange":{},"routing_key":{},"redelivered":{}}}"#,
        quoted(exchange),
        quoted(key),
        delivery.redelivered,
    );
    for (name, value) in [
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
    ] {
        if let Some(value) = value {
            let _ = write!(written, r#","{name}":{}"#, quoted(value.as_str()));
        }
    }
    if let Some(mode) = properties.delivery_mode() {
        let _ = write!(written, r#","delivery_mode":{mode}"#);
    }
    if let Some(priority) = properties.priority() {
        let _ = write!(written, r#","priority":{priority}"#);
    }
    written.push('}');
    written
}

/// The exchange and the key by which it came. One that was delayed has the bits of its delay in the key, which a retry would
/// carry on: it came as if it had been sent to its queue.
fn route_of(delivery: &Delivery) -> (&str, &str) {
    let key = delivery.routing_key.as_str();
    match without_delay(key) {
        plain if plain.len() < key.len() => ("", plain),
        _ => (delivery.exchange.as_str(), key),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write_table(written: &mut String, table: &FieldTable, is_outermost: bool) {
    written.push('{');
    let mut comma = "";
    for (name, value) in table {
        if is_outermost && name.as_str() == OF_THE_SERVER {
            continue;
        }
        let _ = write!(written, "{comma}{}:", quoted(name.as_str()));
        write_value(written, value);
        comma = ",";
    }
    written.push('}');
}

/// As Python has it after its AMQP library has read it. Source: `amqp/serialization.py`, `_read_item`.
fn write_value(written: &mut String, value: &AMQPValue) {
    let _ = match value {
        AMQPValue::Boolean(value) => write!(written, "{value}"),
        AMQPValue::ShortShortInt(value) => write!(written, "{value}"),
        AMQPValue::ShortShortUInt(value) => write!(written, "{value}"),
        AMQPValue::ShortInt(value) => write!(written, "{value}"),
        AMQPValue::ShortUInt(value) => write!(written, "{value}"),
        AMQPValue::LongInt(value) => write!(written, "{value}"),
        AMQPValue::LongUInt(value) => write!(written, "{value}"),
        AMQPValue::LongLongInt(value) => write!(written, "{value}"),
        AMQPValue::Timestamp(value) => write!(written, "{value}"),
        AMQPValue::Float(value) => write!(written, "{}", serde_json::Value::from(*value)),
        AMQPValue::Double(value) => write!(written, "{}", serde_json::Value::from(*value)),
        AMQPValue::DecimalValue(value) => {
            let whole = f64::from(value.value) / 10f64.powi(i32::from(value.scale));
            write!(written, "{}", serde_json::Value::from(whole))
        }
        AMQPValue::ShortString(value) => write!(written, "{}", quoted(value.as_str())),
        AMQPValue::LongString(value) => {
            write!(written, "{}", quoted(&String::from_utf8_lossy(value.as_bytes())))
        }
        AMQPValue::ByteArray(value) => {
            write!(written, "{}", quoted(&String::from_utf8_lossy(value.as_slice())))
        }
        AMQPValue::FieldArray(values) => {
            written.push('[');
            for (at, value) in values.as_slice().iter().enumerate() {
                if at > 0 {
                    written.push(',');
                }
                write_value(written, value);
            }
            written.push(']');
            Ok(())
        }
        AMQPValue::FieldTable(table) => {
            write_table(written, table, false);
            Ok(())
        }
        AMQPValue::Void => write!(written, "null"),
    };
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::{FieldArray, LongString};
    use serde_json::{Value, json};

    use super::*;

    fn delivery(headers: Vec<(&str, AMQPValue)>, body: &str) -> Delivery {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_correlation_id("c".into())
            .with_priority(3)
            .with_headers(table);
        let mut delivery = Delivery::mock(5, "".into(), "mail".into(), true, body.as_bytes().to_vec());
        delivery.properties = properties;
        delivery
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(LongString::from(text))
    }

    fn meta(payload: &[u8]) -> Value {
        let (len, rest) = payload.split_first_chunk::<4>().unwrap();
        serde_json::from_slice(&rest[..u32::from_le_bytes(*len) as usize]).unwrap()
    }

    #[test]
    fn a_delivery_is_told_as_a_list_tells_it() {
        let limits = FieldArray::from(vec![AMQPValue::Double(2.5), AMQPValue::Void]);
        let delivery = delivery(
            vec![
                ("task", text("proj.add")),
                ("id", text("1-\"x")),
                ("timelimit", AMQPValue::FieldArray(limits)),
                ("retries", AMQPValue::LongInt(2)),
                ("stamps", AMQPValue::FieldTable(FieldTable::default())),
                ("x-death", AMQPValue::Timestamp(1)),
            ],
            "[[1, 2], {}, {}]",
        );
        let message = read(&delivery, 1).unwrap();
        assert_eq!(
            (message.task.as_deref(), message.id.as_deref()),
            (Some("proj.add"), Some("1-\"x"))
        );
        assert_eq!(
            (message.time_limit, message.retries, message.losses),
            (Some(2.5), 2, 1)
        );
        assert!(!message.is_odd);
        assert!(message.payload.ends_with(b"[[1, 2], {}, {}]"));
        let meta = meta(&message.payload);
        let told = json!({"exchange": "", "routing_key": "mail", "redelivered": true});
        assert_eq!(meta["properties"]["delivery_info"], told);
        assert_eq!(
            (
                &meta["properties"]["priority"],
                &meta["properties"]["correlation_id"]
            ),
            (&json!(3), &json!("c"))
        );
        assert_eq!(meta["headers"]["stamps"], json!({}));
        assert_eq!(meta["headers"].get("x-death"), None);
        assert_eq!(meta["content_type"], "application/json");
    }

    #[test]
    fn returns_are_those_of_this_message() {
        let mut again = delivery(vec![(RETURNS, AMQPValue::LongLongInt(3))], "");
        assert!(again.redelivered);
        assert_eq!(returns(&again), 3);
        again.redelivered = false;
        assert_eq!(returns(&again), 0, "it is a retry of one that came back");
        assert_eq!(returns(&delivery(vec![(RETURNS, text("many"))], "")), 0);
    }

    #[test]
    fn protocol_1_stands_in_the_body() {
        let delivery = delivery(vec![], r#"{"task": "t", "id": "old", "args": []}"#);
        let message = read(&delivery, 0).unwrap();
        assert_eq!((message.id.as_deref(), message.is_odd), (Some("old"), true));
    }

    #[test]
    fn numbers_that_json_does_not_know_are_null() {
        let mut written = String::new();
        write_value(&mut written, &AMQPValue::Double(f64::NAN));
        assert_eq!(written, "null");
    }
}
