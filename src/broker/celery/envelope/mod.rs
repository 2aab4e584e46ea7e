//! A message as kombu writes it into a list: what the supervisor reads of it, and what a worker gets.
//!
//! Source: `kombu/transport/virtual/base.py`, `Message`; `celery/app/amqp.py`, `as_task_v1`, `as_task_v2`. Headers and
//! properties stay the text that they are: they are cut out and handed on, so that no number changes on its way.

mod payload;
mod returned;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use payload::{meta, payload};
pub(super) use payload::{said_of, with_chore, with_member};
pub(super) use returned::returned;

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
    /// What a worker gets: see `payload`.
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

/// Of an entry of `unacked` the message and the queue that it came from.
/// Source: `kombu/transport/redis.py`, `QoS.append`: message, exchange, routing key.
pub(super) fn unacked(entry: &[u8]) -> Option<(Vec<u8>, String)> {
    let (message, _, routing_key): (&RawValue, Cow<'_, str>, Cow<'_, str>) =
        serde_json::from_slice(entry).ok()?;
    Some((message.get().as_bytes().to_vec(), routing_key.into_owned()))
}
