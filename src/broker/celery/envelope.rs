//! A message as kombu writes it into a list: what the supervisor reads of it, and what a worker gets.
//!
//! Source: `kombu/transport/virtual/base.py`, `Message`; `celery/app/amqp.py`, `as_task_v1`, `as_task_v2`. Headers and
//! properties stay the text that they are: they are cut out and handed on, so that no number changes on its way.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{base64_text, iso};
use crate::time::Unix;

/// What the supervisor reads of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// `None`: it has none.
    pub id: Option<String>,
    /// `None`: it names none that can be read here.
    pub task: Option<String>,
    /// Its body holds what a header says of other messages, or something else is unusual: it is for Celery's own code.
    pub is_odd: bool,
    /// Not to run before.
    pub eta: Option<Unix>,
    /// Not to run from then on.
    pub expires: Option<Unix>,
    /// Its own hard limit, in seconds.
    pub time_limit: Option<f64>,
    /// How often the task asked to be run again before this.
    pub retries: u32,
    /// Workers that died with it; noted by us.
    pub losses: u32,
    /// What a worker gets: the length of what is said of the body (4 bytes, little endian), that, the body.
    pub payload: Arc<[u8]>,
}

/// A message that a transport has taken apart.
#[derive(Debug)]
pub(super) struct Parts<'m> {
    /// JSON, as the next three.
    pub headers: &'m str,
    pub properties: &'m str,
    pub content_type: &'m str,
    pub content_encoding: &'m str,
    pub correlation_id: Option<Cow<'m, str>>,
    pub losses: u32,
    pub body: Cow<'m, [u8]>,
    /// It is no text in its envelope.
    pub has_odd_body: bool,
}

#[derive(Deserialize)]
struct Envelope<'m> {
    #[serde(borrow, default)]
    body: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "content-type")]
    content_type: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "content-encoding")]
    content_encoding: Option<&'m RawValue>,
    #[serde(borrow, default)]
    headers: Option<&'m RawValue>,
    #[serde(borrow)]
    properties: &'m RawValue,
}

/// Headers of protocol 2, or the body of protocol 1. Each value may be of any type.
#[derive(Default, Deserialize)]
struct Headers<'m> {
    #[serde(borrow, default)]
    task: Option<&'m RawValue>,
    #[serde(borrow, default)]
    id: Option<&'m RawValue>,
    #[serde(borrow, default)]
    eta: Option<&'m RawValue>,
    #[serde(borrow, default)]
    expires: Option<&'m RawValue>,
    #[serde(borrow, default)]
    timelimit: Option<&'m RawValue>,
    #[serde(borrow, default)]
    retries: Option<&'m RawValue>,
    #[serde(borrow, default)]
    compression: Option<&'m RawValue>,
}

#[derive(Deserialize)]
struct Properties<'m> {
    #[serde(borrow, default)]
    correlation_id: Option<&'m RawValue>,
    #[serde(borrow, default)]
    body_encoding: Option<&'m RawValue>,
    #[serde(borrow, default)]
    priority: Option<&'m RawValue>,
    #[serde(borrow, default)]
    delivery_info: Option<&'m RawValue>,
    #[serde(default)]
    pool_losses: Option<serde_json::Number>,
}

impl Message {
    /// Reads an element of a list; `is_due`: it has waited for its time. The error says why nobody could read it.
    pub fn read(raw: &[u8], is_due: bool) -> Result<Self, String> {
        let raw = std::str::from_utf8(raw).map_err(|_| "it is no UTF-8 text")?;
        let envelope: Envelope<'_> = object_of(raw).map_err(|why| format!("it is no message: {why}"))?;
        let properties = properties(&envelope)?;
        let said =
            |value: Option<&'_ RawValue>| value.map_or("null".to_owned(), |value| value.get().to_owned());
        Self::of(
            &Parts {
                headers: envelope.headers.map_or("{}", RawValue::get),
                properties: envelope.properties.get(),
                content_type: &said(envelope.content_type),
                content_encoding: &said(envelope.content_encoding),
                correlation_id: text(properties.correlation_id),
                losses: losses(properties.pool_losses.as_ref()),
                body: body(envelope.body, properties.body_encoding)?,
                has_odd_body: !envelope.body.is_some_and(is_text),
            },
            is_due,
        )
    }

    /// The same, of a message that a transport has taken apart.
    pub fn of(parts: &Parts<'_>, is_due: bool) -> Result<Self, String> {
        let said: Headers<'_> =
            object_of(parts.headers).map_err(|_| "its headers are no object of distinct names")?;
        // Protocol 1 says it all in the body.
        let in_body = match said.task {
            None if parts.content_type == r#""application/json""# && said.compression.is_none() => {
                std::str::from_utf8(&parts.body)
                    .ok()
                    .and_then(|body| object_of(body).ok())
                    .unwrap_or_default()
            }
            _ => Headers::default(),
        };
        let is_odd = said.task.is_none() || parts.has_odd_body;
        let of = if said.task.is_some() { &said } else { &in_body };
        let id = text(of.id)
            .or_else(|| number_of(of.id))
            .or_else(|| parts.correlation_id.clone());
        Ok(Message {
            task: text(of.task).map(Cow::into_owned),
            eta: time("eta", of.eta)?,
            expires: time("expires", of.expires)?,
            time_limit: time_limit(of.timelimit),
            retries: of
                .retries
                .and_then(|retries| retries.get().parse().ok())
                .unwrap_or(0),
            losses: parts.losses,
            payload: payload(&meta(parts, is_due), &parts.body)?,
            id: id.map(Cow::into_owned),
            is_odd,
        })
    }

    /// The same, once it has waited for its time.
    pub fn come_due(self) -> Self {
        Message {
            payload: with_member(&self.payload, "due", &true.into()),
            ..self
        }
    }
}

fn properties<'m>(envelope: &Envelope<'m>) -> Result<Properties<'m>, String> {
    object_of(envelope.properties.get())
        .map_err(|_| "its properties are no object of distinct names".to_owned())
}

/// An object, and no array of its values in their order, which would do as well.
fn object_of<'m, T: Deserialize<'m>>(text: &'m str) -> Result<T, serde_json::Error> {
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text),
        false => Err(serde::de::Error::custom("an object is expected")),
    }
}

/// A text, if it is one.
fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    let text: Text<'_> = serde_json::from_str(value?.get()).ok()?;
    Some(text.0)
}

/// A whole number as a text: Celery takes it as an id.
fn number_of(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let number: i64 = serde_json::from_str(value?.get()).ok()?;
    Some(Cow::Owned(number.to_string()))
}

fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// A body as its serializer wrote it. Source: `kombu/transport/virtual/base.py`, `Channel.decode_body`.
fn body<'m>(body: Option<&'m RawValue>, encoding: Option<&RawValue>) -> Result<Cow<'m, [u8]>, String> {
    let Some(body) = body else {
        return Ok(Cow::Borrowed(b""));
    };
    // An object in place of a text: Celery's own code knows what to make of it.
    let Some(text) = text(Some(body)) else {
        return Ok(Cow::Borrowed(body.get().as_bytes()));
    };
    match self::text(encoding).as_deref() {
        None => Ok(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
        Some("base64") => base64_text::decode(text.as_bytes()).map(Cow::Owned),
        Some(other) => Err(format!("its body_encoding, `{other}`, is unknown")),
    }
}

/// A time; what is there and is none can't be obeyed.
fn time(name: &str, value: Option<&RawValue>) -> Result<Option<Unix>, String> {
    let Some(value) = value.filter(|value| !matches!(value.get(), "null" | "\"\"")) else {
        return Ok(None);
    };
    let time = text(Some(value)).and_then(|text| iso::read(&text));
    time.map(Some).ok_or_else(|| {
        let shown = crate::text::head(value.get(), 40);
        format!("its {name}, {shown}, is no time")
    })
}

/// The hard one of `[hard, soft]`.
fn time_limit(value: Option<&RawValue>) -> Option<f64> {
    let limits: Vec<Option<f64>> = serde_json::from_str(value?.get()).ok()?;
    limits.first().copied().flatten()
}

fn losses(noted: Option<&serde_json::Number>) -> u32 {
    let noted = noted.and_then(serde_json::Number::as_u64).unwrap_or(0);
    u32::try_from(noted).unwrap_or(u32::MAX)
}

/// What a worker is told of the body.
fn meta(parts: &Parts<'_>, is_due: bool) -> String {
    format!(
        r#"{{"headers":{},"properties":{},"content_type":{},"content_encoding":{}{}}}"#,
        parts.headers,
        parts.properties,
        parts.content_type,
        parts.content_encoding,
        if is_due { r#","due":true"# } else { "" },
    )
}

fn payload(meta: &str, body: &[u8]) -> Result<Arc<[u8]>, String> {
    let len = u32::try_from(meta.len()).map_err(|_| "its headers are longer than 4 GiB")?;
    Ok([&len.to_le_bytes()[..], meta.as_bytes(), body].concat().into())
}

/// The payload of a message, with a chore for Celery's own code: what is said of the body says which.
pub(super) fn with_chore(payload: &[u8], chore: &serde_json::Value) -> Arc<[u8]> {
    with_member(payload, "chore", chore)
}

/// The payload of a message, with one word more of what is said of the body.
pub(super) fn with_member(payload: &[u8], name: &str, value: &serde_json::Value) -> Arc<[u8]> {
    let split = || {
        let (len, rest) = payload.split_first_chunk::<4>()?;
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
    };
    let (meta, body) = split().expect("a payload that we have made");
    let meta = String::from_utf8_lossy(meta);
    let open = meta.strip_suffix('}').expect("an object that we have made");
    let meta = format!(r#"{open},"{name}":{value}}}"#);
    // It is longer by this only: its length was checked.
    self::payload(&meta, body).unwrap_or_else(|_| payload.into())
}

/// The headers of a message, of its payload; null where there are none.
pub(super) fn said_of(payload: &[u8]) -> serde_json::Value {
    let meta = || {
        let (len, rest) = payload.split_first_chunk::<4>()?;
        let meta = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        serde_json::from_slice::<serde_json::Value>(meta).ok()
    };
    meta().map_or(serde_json::Value::Null, |mut meta| meta["headers"].take())
}

/// The message as it goes back into its list, and the priority by which it is served.
///
/// Marked as delivered again, and with the number of workers that died with it, if any did.
/// Source: `kombu/transport/redis.py`, `Channel._do_restore_message`, which leaves one as it is that has no headers.
pub(super) fn returned(raw: &[u8], losses: u32) -> (Vec<u8>, i64) {
    let Ok(text) = std::str::from_utf8(raw) else {
        return (raw.to_vec(), 0);
    };
    let mut edited = text.to_owned();
    let mut priority = 0;
    let mut edit =
        |place: fn(&Properties<'_>, &Envelope<'_>) -> Option<(usize, usize)>, key: &str, value: &str| {
            let after = {
                let Ok(envelope) = object_of::<Envelope<'_>>(&edited) else {
                    return;
                };
                let Ok(properties) = properties(&envelope) else {
                    return;
                };
                priority = self::priority(properties.priority);
                let start = edited.as_ptr() as usize;
                place(&properties, &envelope).map(|(at, len)| inserted(&edited, at - start, len, key, value))
            };
            if let Some(after) = after {
                edited = after;
            }
        };
    edit(
        |properties, _| properties.delivery_info.and_then(object),
        "redelivered",
        "true",
    );
    if losses > 0 {
        edit(
            |_, envelope| object(envelope.properties),
            "pool_losses",
            &losses.to_string(),
        );
    }
    edit(
        |_, envelope| envelope.headers.and_then(object),
        "redelivered",
        "true",
    );
    (edited.into_bytes(), priority)
}

/// Where an object stands in memory: its address and length.
fn object(value: &RawValue) -> Option<(usize, usize)> {
    let text = value.get();
    text.starts_with('{')
        .then_some((text.as_ptr() as usize, text.len()))
}

/// The text with this value in the object of it that begins at `at`.
fn inserted(text: &str, at: usize, len: usize, key: &str, value: &str) -> String {
    let object = &text[at..at + len];
    let mut members: Vec<(String, Box<RawValue>)> = members(object);
    members.retain(|(name, _)| name != key);
    let mut written = String::with_capacity(len + key.len() + value.len() + 8);
    written.push('{');
    for (name, value) in &members {
        let name = serde_json::Value::from(name.as_str());
        written.push_str(&format!("{name}: {}, ", value.get()));
    }
    written.push_str(&format!("\"{key}\": {value}}}"));
    [&text[..at], &written, &text[at + len..]].concat()
}

/// The members of an object in their order; of a name that is there twice, both.
fn members(object: &str) -> Vec<(String, Box<RawValue>)> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, Box<RawValue>)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut from = serde_json::Deserializer::from_str(object);
    serde::Deserializer::deserialize_map(&mut from, Members).unwrap_or_default()
}

/// Source: `kombu/transport/virtual/base.py`, `_get_message_priority`.
fn priority(value: Option<&RawValue>) -> i64 {
    let Some(value) = value else {
        return 0;
    };
    let said = text(Some(value)).unwrap_or(Cow::Borrowed(value.get()));
    let number = said
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite());
    number.map_or(0, |number| number.clamp(0.0, 9.0) as i64)
}

/// Of an entry of `unacked` the message and the queue that it came from.
/// Source: `kombu/transport/redis.py`, `QoS.append`: message, exchange, routing key.
pub(super) fn unacked(entry: &[u8]) -> Option<(Vec<u8>, String)> {
    let (message, _, routing_key): (&RawValue, Cow<'_, str>, Cow<'_, str>) =
        serde_json::from_slice(entry).ok()?;
    Some((message.get().as_bytes().to_vec(), routing_key.into_owned()))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Lists' elements as kombu 5.7 wrote them: see docs/design-celery-redis.md.
    const SAMPLES: &str = include_str!("samples/envelopes.jsonl");

    fn split(payload: &[u8]) -> (Value, Vec<u8>) {
        let (len, rest) = payload.split_first_chunk::<4>().unwrap();
        let (meta, body) = rest.split_at(u32::from_le_bytes(*len) as usize);
        (serde_json::from_slice(meta).unwrap(), body.to_vec())
    }

    fn sample(properties: &Value, headers: &Value) -> Vec<u8> {
        json!({"body": "W1tdLCB7fSwge31d", "content-type": "application/json", "content-encoding": "utf-8",
            "headers": headers, "properties": properties})
        .to_string()
        .into_bytes()
    }

    #[test]
    fn each_message_of_kombu_is_read_and_handed_on_whole() {
        let mut whole = 0;
        for line in SAMPLES.lines() {
            let message = Message::read(line.as_bytes(), false).unwrap();
            let raw: Value = serde_json::from_str(line).unwrap();
            let (meta, body) = split(&message.payload);
            assert_eq!(meta["headers"], raw["headers"]);
            assert_eq!(meta["properties"], raw["properties"]);
            assert_eq!(meta["content_type"], raw["content-type"]);
            assert_eq!(STANDARD.encode(&body), raw["body"].as_str().unwrap());
            assert_eq!(
                message.id.as_deref(),
                raw["properties"]["correlation_id"].as_str()
            );
            assert_eq!(message.task.as_deref(), Some("proj.add"), "{line}");
            assert_eq!(message.losses, 0);
            whole += usize::from(message.is_odd);
            let headers = &raw["headers"];
            assert_eq!(message.eta.is_some(), headers["eta"].is_string());
            assert_eq!(message.expires.is_some(), headers["expires"].is_string());
            assert_eq!(message.time_limit, headers["timelimit"][0].as_f64());
        }
        assert_eq!(whole, 1, "the one of protocol 1");
        assert!(SAMPLES.lines().count() >= 7);
    }

    #[test]
    fn a_returned_message_says_so_and_keeps_all_else_as_it_was() {
        let raw = br#"{"body": "x\u00e9", "headers": {"big": 123456789012345678901234567890, "f": 1.10}, "properties":
            {"priority": 5, "delivery_info": {"exchange": "", "redelivered": false}, "delivery_tag": "t"}}"#;
        let (returned, priority) = returned(raw, 2);
        assert_eq!(priority, 5);
        let text = String::from_utf8(returned.clone()).unwrap();
        assert!(
            text.contains(r#""big": 123456789012345678901234567890, "f": 1.10, "redelivered": true}"#),
            "{text}"
        );
        assert!(
            text.contains(r#"{"exchange": "", "redelivered": true}"#),
            "{text}"
        );
        assert!(
            text.contains(r#""pool_losses": 2"#) && text.contains("x\\u00e9"),
            "{text}"
        );
        assert_eq!(Message::read(&returned, false).unwrap().losses, 2);
        assert_eq!(self::returned(&returned, 2).0, returned, "once is enough");
        // As kombu: without headers nothing is marked.
        let bare = br#"{"headers": null, "properties": {"priority": "9"}}"#;
        assert_eq!(self::returned(bare, 0), (bare.to_vec(), 9));
        assert_eq!(self::returned(b"no message", 1), (b"no message".to_vec(), 0));
    }

    #[test]
    fn what_nobody_can_read_is_refused_with_the_reason() {
        let good = json!({"delivery_tag": "t", "body_encoding": "base64"});
        for (raw, why) in [
            (b"\xff".to_vec(), "no UTF-8"),
            (b"".to_vec(), "no message"),
            (b"[]".to_vec(), "no message"),
            (b"{\"body\": ".to_vec(), "no message"),
            (b"{\"body\": \"\"}".to_vec(), "properties"),
            (sample(&json!([]), &json!({})), "properties"),
            (sample(&good, &json!([1])), "headers"),
            (sample(&json!({"body_encoding": "rot13"}), &json!({})), "`rot13`"),
            (
                sample(&good, &json!({"task": "t", "eta": "soon"})),
                "its eta, \"soon\"",
            ),
            (
                sample(&good, &json!({"task": "t", "expires": 5})),
                "its expires, 5",
            ),
        ] {
            let error = Message::read(&raw, false).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn odd_values_of_headers_are_left_to_celerys_own_code() {
        let good = json!({"body_encoding": "base64"});
        for headers in [
            json!({"task": 5, "id": []}),
            json!({"task": "t", "timelimit": "x"}),
            json!({}),
        ] {
            let message = Message::read(&sample(&good, &headers), false).unwrap();
            assert_eq!((message.time_limit, message.id), (None, None));
        }
        let message = Message::read(&sample(&json!({}), &json!({"task": "t", "id": "1"})), false).unwrap();
        assert_eq!(
            split(&message.payload).1,
            b"W1tdLCB7fSwge31d",
            "no encoding is named"
        );
        let chore = with_chore(&message.payload, &json!({"do": "revoked"}));
        let (meta, body) = split(&chore);
        assert_eq!(
            (meta["chore"]["do"].as_str(), body),
            (Some("revoked"), b"W1tdLCB7fSwge31d".to_vec())
        );
        assert_eq!(meta["headers"]["id"], "1");
    }

    #[test]
    fn an_entry_of_unacked_gives_message_and_queue() {
        let entry = br#"[{"body": "a, b]"}, "", "mail \u00e9"]"#;
        let (message, queue) = unacked(entry).unwrap();
        assert_eq!((&*message, &*queue), (&br#"{"body": "a, b]"}"#[..], "mail é"));
        for odd in [&b""[..], b"[]", b"[{}, 1, 2]", b"{}"] {
            assert_eq!(unacked(odd), None);
        }
    }

    /// Any JSON, not deep.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ -~é\"\\\\]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let names = prop_oneof![
                Just("task"),
                Just("id"),
                Just("eta"),
                Just("timelimit"),
                Just("priority"),
                Just("delivery_info"),
                Just("body_encoding"),
                Just("redelivered"),
                Just("pool_losses"),
                Just("x")
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((names, inner), 0..4).prop_map(|all| Value::Object(
                    all.into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::read(&raw, false);
            let _ = returned(&raw, 1);
            let _ = unacked(&raw);
        }

        #[test]
        fn any_message_is_read_or_refused_and_goes_back_as_a_message(
            body in any_json(), headers in any_json(), properties in any_json(), losses in 0u32..3,
        ) {
            let raw = json!({"body": body, "headers": headers, "properties": properties}).to_string();
            let (back, priority) = returned(raw.as_bytes(), losses);
            prop_assert!((0..=9).contains(&priority));
            let (before, after): (Value, Value) =
                (serde_json::from_str(&raw).unwrap(), serde_json::from_slice(&back).unwrap());
            prop_assert_eq!(&before["body"], &after["body"]);
            if let Ok(message) = Message::read(raw.as_bytes(), false) {
                split(&message.payload);
                split(&with_chore(&message.payload, &json!({"do": "x"})));
                prop_assert!(Message::read(&back, false).is_ok());
                prop_assert_eq!(losses > 0 && Message::read(&back, false).unwrap().losses != losses, false);
            }
        }
    }
}
