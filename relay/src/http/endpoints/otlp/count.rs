//! How many spans or logs an export request holds.
//!
//! ```text
//! ExportTraceServiceRequest   1: repeated ResourceSpans   2: repeated ScopeSpans   2: repeated Span
//! ExportLogsServiceRequest    1: repeated ResourceLogs    2: repeated ScopeLogs    2: repeated LogRecord
//! ```
//!
//! Invariant: nothing is allocated for what is counted, so that millions of empty messages cost no memory.

use prost::bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde::Deserialize;

use super::unstored::{self, Counted, One, Sum};
use crate::refusal::Refusal;

/// Fields from the request down to a span or log.
const WAY_DOWN: [u32; 3] = [1, 2, 2];

#[derive(Deserialize)]
struct Export {
    #[serde(default, alias = "resourceSpans", alias = "resourceLogs")]
    resources: Sum<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default, alias = "scopeSpans", alias = "scopeLogs")]
    scopes: Sum<Scope>,
}

#[derive(Deserialize)]
struct Scope {
    #[serde(default, alias = "spans", alias = "logRecords")]
    entries: Sum<One>,
}

impl Counted for Resource {
    fn entries(&self) -> u64 {
        self.scopes.total
    }
}

impl Counted for Scope {
    fn entries(&self) -> u64 {
        self.entries.total
    }
}

/// Of a request in JSON.
pub(super) fn json(body: &[u8]) -> Result<u64, Refusal> {
    let export: Export = serde_json::from_slice(body).map_err(|error| unstored::not_json(&error))?;
    Ok(export.resources.total)
}

/// Of a request in protobuf.
pub(super) fn protobuf(body: &[u8]) -> Result<u64, Refusal> {
    entries(body, &WAY_DOWN)
        .ok_or_else(|| Refusal::malformed("invalid_protobuf", "the body is no export request in protobuf"))
}

/// Recursion is as deep as `way_down` is long.
fn entries(mut message: &[u8], way_down: &[u32]) -> Option<u64> {
    let Some((&field, rest)) = way_down.split_first() else { return Some(1) };
    let mut total = 0;
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        if tag != field {
            skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
            continue;
        }
        if wire_type != WireType::LengthDelimited {
            return None;
        }
        let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
        total += entries(message.get(..length)?, rest)?;
        message = &message[length..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn field(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    #[test]
    fn spans_and_logs_are_counted_in_both_formats() {
        let span = field(2, &field(5, b"name"));
        let scope = field(2, &[field(1, b""), span.clone(), span.clone(), field(3, b"schema")].concat());
        let resource = field(1, &[field(1, b""), scope.clone(), scope].concat());
        assert_eq!(protobuf(&[resource.clone(), resource].concat()).unwrap(), 8);
        assert_eq!(protobuf(b"").unwrap(), 0);
        for (text, count) in [
            (r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{},{}]},{}]},{"scopeSpans":null}]}"#, 2),
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{}}]}]}]}"#, 1),
            ("{}", 0),
        ] {
            assert_eq!(json(text.as_bytes()).unwrap(), count, "{text}");
        }
    }

    #[test]
    fn what_is_no_export_is_refused() {
        for body in [&b"\x0a\x05ab"[..], b"\x0a", b"\x08\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(protobuf(body).is_err(), "{body:?}");
        }
        for body in ["", "[]x", "{\"resourceSpans\":5}", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":{}}]}]}"] {
            assert!(json(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = protobuf(&body);
            let _ = json(&body);
        }
    }
}
