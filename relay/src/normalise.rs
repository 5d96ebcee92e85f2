//! Normalisation: bring what SDKs send into the form that later stages rely on.
//!
//! Here in this version: event payloads are JSON objects (checked by a scan that builds no tree and does not judge text, so
//! lone surrogates and the like pass), and every envelope that makes an event has an id in its header. The header's id wins, else
//! the payload's, else a new one. The work on the event's fields is not here yet.

use std::fmt;

use bytes::{Bytes, BytesMut};
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::ids::EventId;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::limit::Limited;
use crate::refusal::Refusal;
use crate::submission::{Random, Submission};

/// A submission whose events are JSON objects and whose envelope has an id where one is needed.
#[derive(Debug)]
pub struct Normalised(Submission);

impl Normalised {
    /// For the next stage.
    pub(crate) fn into_submission(self) -> Submission {
        self.0
    }
}

/// Checks the events and settles the event id.
///
/// # Errors
/// [`Refusal::Malformed`] if an event is no JSON object or has a nil or malformed id.
pub fn normalise(limited: Limited, random: Random) -> Result<Normalised, Refusal> {
    let mut submission = limited.into_submission();
    if writes_python_floats(submission.client.as_deref()) {
        patch_events(&mut submission.envelope);
    }
    let mut payload_id = None;
    for item in submission.envelope.items().iter().filter(|item| is_event(item)) {
        let head = event_head(item)?;
        payload_id = payload_id.or(head.event_id);
    }
    let envelope = &mut submission.envelope;
    if envelope.event_id().is_none() && envelope.items().iter().any(Item::creates_event) {
        let id = match payload_id {
            Some(text) => text.parse().map_err(|error| Refusal::malformed("invalid_event_id", format!("{error}")))?,
            None => EventId::from_random(random().ok_or_else(|| {
                Refusal::unavailable("internal", "the relay has no source of random numbers at the moment")
            })?),
        };
        envelope.set_event_id(id);
    }
    Ok(Normalised(submission))
}

const fn is_event(item: &Item) -> bool {
    matches!(item.item_type(), ItemType::Event | ItemType::Transaction | ItemType::Feedback | ItemType::Security)
}

fn event_head(item: &Item) -> Result<EventHead, Refusal> {
    EventHead::read(item.payload()).map_err(|error| {
        Refusal::malformed("invalid_json", format!("invalid JSON in the {} item: {error}", item.item_type().as_str()))
    })
}

/// What is read of an event's payload: two short keys. Everything else is skipped over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EventHead {
    /// `event_id` as written; absent and null are the same.
    pub(crate) event_id: Option<String>,
    /// Whether `type` is `transaction`.
    pub(crate) is_transaction: bool,
}

impl EventHead {
    /// Scans a payload, which must be one JSON object.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }
}

impl<'de> Deserialize<'de> for EventHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadVisitor)
    }
}

struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = EventHead;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventHead, A::Error> {
        let mut head = EventHead::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::EventId => match map.next_value::<serde_json::Value>()? {
                    serde_json::Value::Null => head.event_id = None,
                    serde_json::Value::String(id) => head.event_id = Some(id),
                    _ => return Err(A::Error::custom("event_id is not a string")),
                },
                Key::Type => head.is_transaction = map.next_value::<IsTransaction>()?.0,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(head)
    }
}

/// A key of the event. Read as bytes, because as text a lone surrogate in it would be an error.
enum Key {
    EventId,
    Type,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(match key {
                    b"event_id" => Key::EventId,
                    b"type" => Key::Type,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

/// The value of `type`; anything that is no string is not `transaction`.
struct IsTransaction(bool);

impl<'de> Deserialize<'de> for IsTransaction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get() == "\"transaction\""))
    }
}

/// Old Python SDKs write floats as Python does, `NaN` and `Infinity`, which JSON does not have.
fn writes_python_floats(client: Option<&str>) -> bool {
    client.is_some_and(|client| client.starts_with("raven-python/") || client.starts_with("sentry-python/"))
}

fn patch_events(envelope: &mut Envelope) {
    if !envelope.items().iter().any(|item| is_event(item) && EventHead::read(item.payload()).is_err()) {
        return;
    }
    let items = envelope.items().to_vec();
    envelope.retain_items(|_| false);
    for mut item in items {
        if is_event(&item)
            && let Some(patched) = without_python_floats(item.payload())
        {
            item.set_payload(patched);
        }
        envelope.push(item);
    }
}

/// The payload with each bare `NaN`, `Infinity` and `-Infinity` replaced by JSON of the same length; `None` if there is none.
fn without_python_floats(payload: &[u8]) -> Option<Bytes> {
    // `NaN` has no room for `null`.
    const TOKENS: [(&[u8], &[u8]); 3] = [(b"NaN", b"0.0"), (b"Infinity", b"null    "), (b"-Infinity", b"null     ")];
    let mut patched: Option<BytesMut> = None;
    let mut at = 0;
    let mut in_string = false;
    while at < payload.len() {
        match payload[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'N' | b'I' | b'-' => {
                if let Some((token, replacement)) = TOKENS.iter().find(|(token, _)| payload[at..].starts_with(token)) {
                    patched.get_or_insert_with(|| BytesMut::from(payload))[at..at + token.len()]
                        .copy_from_slice(replacement);
                    at += token.len() - 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    patched.map(BytesMut::freeze)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<EventHead, serde_json::Error> {
        EventHead::read(text.as_bytes())
    }

    #[test]
    fn id_and_type_are_found_among_anything() {
        let head = read(r#"{"a":{"event_id":"inner"},"event_id":"abc","b":[1e999,{"c":null}],"type":"transaction"} "#)
            .unwrap();
        assert_eq!(head, EventHead { event_id: Some("abc".to_owned()), is_transaction: true });
        assert_eq!(read(r#"{"event_id":null,"type":7}"#).unwrap(), EventHead::default());
    }

    #[test]
    fn text_is_not_judged() {
        for text in [
            r#"{"message":"\ud800 alone"}"#,
            r#"{"\udc00":"a key too"}"#,
            r#"{"message":"\u0000"}"#,
            r#"{"type":"\ud83d"}"#,
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text));
        }
        assert!(EventHead::read(b"{\"message\":\"\xff\xfe\"}").is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in
            ["", "[]", "1", "null", "\"x\"", "{", "{}{}", "{\"a\":}", "{\"a\":NaN}", "{\"event_id\":5}", "{'a':1}"]
        {
            assert!(read(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(read(&deep).is_ok());
    }

    #[test]
    fn python_floats_become_json_of_equal_length_outside_of_strings() {
        let written = br#"{"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity"}"#;
        let patched = without_python_floats(written).unwrap();
        assert_eq!(patched.len(), written.len());
        assert_eq!(&patched[..], &br#"{"a":0.0,"b":[null     ,null    ],"c":"NaN \" Infinity"}"#[..]);
        assert_eq!(without_python_floats(br#"{"a":-1,"b":"-Infinity"}"#), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_scan_or_the_patch_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = EventHead::read(&payload);
            if let Some(patched) = without_python_floats(&payload) {
                prop_assert_eq!(patched.len(), payload.len());
            }
        }

        #[test]
        fn valid_json_is_never_patched(value in "[a-zNI\\-\\\\\" ]{0,40}") {
            let json = serde_json::json!({ "a": value, "b": -1 }).to_string();
            prop_assert_eq!(without_python_floats(json.as_bytes()), None);
        }
    }
}
