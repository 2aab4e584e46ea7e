//! What a worker gets of a message: the length of what is said of the body (4 bytes, little endian), that, the body.

use std::sync::Arc;

use super::Parts;

/// What a worker is told of the body.
pub(super) fn meta(parts: &Parts<'_>, is_due: bool) -> String {
    format!(
        r#"{{"headers":{},"properties":{},"content_type":{},"content_encoding":{}{}}}"#,
        parts.headers,
        parts.properties,
        parts.content_type,
        parts.content_encoding,
        if is_due { r#","due":true"# } else { "" },
    )
}

pub(super) fn payload(meta: &str, body: &[u8]) -> Result<Arc<[u8]>, String> {
    let len = u32::try_from(meta.len()).map_err(|_| "its headers are longer than 4 GiB")?;
    Ok([&len.to_le_bytes()[..], meta.as_bytes(), body].concat().into())
}

/// The payload of a message, with a chore for Celery's own code: what is said of the body says which.
pub(in crate::broker::celery) fn with_chore(payload: &[u8], chore: &serde_json::Value) -> Arc<[u8]> {
    with_member(payload, "chore", chore)
}

/// The payload of a message, with one word more of what is said of the body.
pub(in crate::broker::celery) fn with_member(
    payload: &[u8],
    name: &str,
    value: &serde_json::Value,
) -> Arc<[u8]> {
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
pub(in crate::broker::celery) fn said_of(payload: &[u8]) -> serde_json::Value {
    let meta = || {
        let (len, rest) = payload.split_first_chunk::<4>()?;
        let meta = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        serde_json::from_slice::<serde_json::Value>(meta).ok()
    };
    meta().map_or(serde_json::Value::Null, |mut meta| meta["headers"].take())
}
