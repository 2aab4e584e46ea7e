//! A message on its way back into its list.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Envelope, Properties, object_of, properties, text};

/// The message as it goes back into its list, and the priority by which it is served.
///
/// Marked as delivered again, and with the number of workers that died with it, if any did.
/// Source: `kombu/transport/redis.py`, `Channel._do_restore_message`, which leaves one as it is that has no headers.
pub(in crate::broker::celery) fn returned(raw: &[u8], losses: u32) -> (Vec<u8>, i64) {
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
