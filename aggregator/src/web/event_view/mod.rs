//! What a page shows of one event: plain values made of the stored JSON, which a template then only has to lay out.
//!
//! ```text
//! JSON bytes ──▶ serde_json::Value ──▶ EventView { exceptions, message, threads, breadcrumbs, request, … } ──▶ template
//! ```
//!
//! Promises:
//! - Any bytes make a view. A field of an unexpected type is shown as JSON text, a missing one is left out; nothing here
//!   returns an error or panics, since what is wrong with an event is what its reader came to see.
//! - The size is bounded: every list has a maximum named beside it and counts what it left out, every text is cut (see
//!   [`json_text`]), and a piece of the event is shown in one place only. So a page is at most a small multiple of its event.
//! - Nothing of an event becomes a link, markup or a class name. Texts are escaped by the template; the few values that
//!   choose a style (the level) are matched against known ones first.
//!
//! What it does not do: change or normalise the event (the relay did), or read stores.

mod breadcrumb;
mod context;
mod exception;
mod frame;
pub(crate) mod json_text;
mod message;
mod request;
mod row;
mod summary;
mod tag;
mod thread;

use serde_json::{Map, Value};

pub(crate) use breadcrumb::Breadcrumbs;
pub(crate) use context::Sections;
pub(crate) use exception::ExceptionChain;
pub(crate) use frame::StackTrace;
pub(crate) use message::Message;
pub(crate) use request::Request;
pub(crate) use row::Rows;
pub(crate) use summary::Summary;
pub(crate) use tag::Tags;
pub(crate) use thread::Threads;

/// Loaded modules or packages of an event, shown folded.
const MODULES_MAX: usize = 500;
/// Extra values of an event.
const EXTRA_MAX: usize = 100;

/// Everything a page shows of an event.
#[derive(Debug, Default)]
pub(crate) struct EventView {
    /// Why the stored bytes could not be read as a JSON object; the rest is empty then.
    pub(crate) problem: Option<String>,
    pub(crate) summary: Summary,
    pub(crate) exceptions: ExceptionChain,
    pub(crate) message: Option<Message>,
    /// A stack trace of the event itself, as messages and old SDKs have it.
    pub(crate) stack_trace: Option<StackTrace>,
    pub(crate) threads: Threads,
    pub(crate) breadcrumbs: Breadcrumbs,
    pub(crate) request: Option<Request>,
    pub(crate) tags: Tags,
    pub(crate) user: Rows,
    pub(crate) contexts: Sections,
    pub(crate) extra: Rows,
    pub(crate) security_report: Rows,
    pub(crate) sdk: Rows,
    pub(crate) modules: Rows,
}

impl EventView {
    /// Reads the stored JSON of an event.
    pub(crate) fn from_json(bytes: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Object(event)) => Self::from_object(&event),
            Ok(_) => Self::unreadable("it is no JSON object"),
            // Nesting beyond 128 levels ends here too.
            Err(error) => Self::unreadable(&error.to_string()),
        }
    }

    fn unreadable(reason: &str) -> Self {
        Self { problem: Some(reason.to_owned()), ..Self::default() }
    }

    fn from_object(event: &Map<String, Value>) -> Self {
        let field = |name: &str| event.get(name).unwrap_or(&Value::Null);
        Self {
            problem: None,
            summary: Summary::from_event(event),
            exceptions: ExceptionChain::from_value(field("exception")),
            message: Message::from_event(event),
            stack_trace: StackTrace::from_value(field("stacktrace")),
            threads: Threads::from_value(field("threads")),
            breadcrumbs: Breadcrumbs::from_value(field("breadcrumbs")),
            request: Request::from_value(field("request")),
            tags: Tags::from_value(field("tags")),
            user: Rows::known_members(field("user"), &[], EXTRA_MAX),
            contexts: Sections::from_contexts(field("contexts")),
            extra: Rows::from_value(field("extra"), EXTRA_MAX),
            security_report: Rows::from_value(security_report(event), EXTRA_MAX),
            sdk: Rows::known_members(field("sdk"), &[], EXTRA_MAX),
            modules: Rows::from_value(field("modules"), MODULES_MAX),
        }
    }
}

/// The body of a browser's security report; an event has one of them at most.
fn security_report(event: &Map<String, Value>) -> &Value {
    ["csp", "hpkp", "expectct", "expectstaple"].iter().find_map(|kind| event.get(*kind)).unwrap_or(&Value::Null)
}

/// The members of one of the protocol's lists, which come as `{"values": […]}`, as a bare array, or as one bare object.
/// Nulls, which stand for what a server removed, are skipped.
fn values_of(list: &Value) -> Vec<&Value> {
    let members = match list {
        Value::Object(object) => match object.get("values") {
            Some(Value::Array(values)) => values.as_slice(),
            Some(Value::Null) => &[],
            Some(single) => std::slice::from_ref(single),
            None if object.is_empty() => &[],
            None => std::slice::from_ref(list),
        },
        Value::Array(values) => values.as_slice(),
        Value::Null => &[],
        _ => std::slice::from_ref(list),
    };
    members.iter().filter(|member| !member.is_null()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_that_are_no_object_leave_a_reason() {
        for bytes in [&b""[..], b"[]", b"null", b"{\"a\":", b"\xff\xfe", b"\"text\""] {
            let view = EventView::from_json(bytes);
            assert!(view.problem.is_some(), "{bytes:?}");
        }
        let deep = format!("{{\"extra\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(EventView::from_json(deep.as_bytes()).problem.is_some());
    }

    #[test]
    fn a_field_of_any_wrong_type_is_shown_rather_than_refused() {
        let fields = [
            "exception",
            "message",
            "logentry",
            "stacktrace",
            "threads",
            "breadcrumbs",
            "request",
            "tags",
            "user",
            "contexts",
            "extra",
            "csp",
            "sdk",
            "modules",
            "release",
            "level",
            "platform",
            "fingerprint",
            "timestamp",
        ];
        let oddities = [
            json!(null),
            json!(true),
            json!(-7.5),
            json!(""),
            json!("text"),
            json!([]),
            json!({}),
            json!([1, null, "x", [], {}]),
            json!({"values": 7}),
            json!({"values": [null, 1, "x", [[]], {"stacktrace": {"frames": [1, null, {"vars": 3}]}}]}),
            json!({"values": {"type": {"a": 1}, "value": [2]}}),
            json!({"frames": "none"}),
            json!({"a": {"b": {"c": [1]}}}),
        ];
        for field in fields {
            for oddity in &oddities {
                let event = serde_json::to_vec(&json!({ field: oddity })).unwrap();
                assert!(EventView::from_json(&event).problem.is_none(), "{field} = {oddity}");
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            "[a-z_]{1,8}",
            proptest::sample::select(vec![
                "values",
                "frames",
                "type",
                "value",
                "stacktrace",
                "vars",
                "lineno",
                "pre_context",
                "context_line",
                "post_context",
                "data",
                "headers",
                "cookies",
                "timestamp",
                "level",
                "message",
                "mechanism",
                "params",
            ])
            .prop_map(str::to_owned),
        ];
        leaf.prop_recursive(5, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((key.clone(), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_json_makes_a_view(field in proptest::sample::select(vec![
            "exception", "threads", "stacktrace", "breadcrumbs", "request", "tags", "user", "contexts", "logentry", "sdk",
        ]), value in any_json()) {
            let event = serde_json::to_vec(&json!({ field: value })).unwrap();
            prop_assert!(EventView::from_json(&event).problem.is_none());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = EventView::from_json(&bytes);
        }
    }
}
