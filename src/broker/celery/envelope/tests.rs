//! Messages of kombu, odd ones, and any bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Lists' elements as kombu 5.7 wrote them: see docs/design-celery-redis.md.
const SAMPLES: &str = include_str!("../samples/envelopes.jsonl");

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
    let raw =
        br#"{"body": "x\u00e9", "headers": {"big": 123456789012345678901234567890, "f": 1.10}, "properties":
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
    assert_eq!(super::returned(&returned, 2).0, returned, "once is enough");
    // As kombu: without headers nothing is marked.
    let bare = br#"{"headers": null, "properties": {"priority": "9"}}"#;
    assert_eq!(super::returned(bare, 0), (bare.to_vec(), 9));
    assert_eq!(super::returned(b"no message", 1), (b"no message".to_vec(), 0));
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
