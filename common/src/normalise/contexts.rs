//! Contexts: objects that say what the event happened in. Each has a type, the name of its key unless it says another.
//!
//! A context that had to be cut is not completed any further, so that cutting and completing do not alternate.

use super::field::{self, Field, invalid, is_blank, text};
use super::trim::{Bag, trim_bag};
use super::{EventContext, raw_description, take_meta, user_agent};
use crate::tree::{MetaTree, Object, Path, Value};

const CONTEXT: Bag = Bag::of(8192, 7);
/// Feature flags are a long list.
const FLAGS: Bag = Bag::of(131_072, 7);

/// Settles the contexts.
pub(super) fn normalise(event: &mut Object<'_>, context: &EventContext<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("contexts");
    let mut contexts = match event.get_mut("contexts").map(Value::take) {
        Some(Value::Object(contexts)) => contexts,
        _ => Object::new(),
    };
    // Only a server may say that it processed an event again.
    if contexts.remove("reprocessing").is_some() {
        drop(take_meta(meta, &path.key("reprocessing")));
    }
    for (key, value) in contexts.iter_mut().filter(|(_, value)| !value.is_null()) {
        field::settle(value, Field::Object, meta, &path.key(key));
    }
    let is_missing = |key: &str| contexts.get(key).is_none_or(Value::is_null);
    for (key, object) in user_agent::contexts(event, context, is_missing) {
        contexts.insert(key, object);
    }
    let event_id = text(event, "event_id").filter(|id| is_id(id, 32));
    if event_id.is_some() && contexts.get("trace").is_none_or(Value::is_null) {
        contexts.insert("trace", Object::new());
    }
    for (key, value) in contexts.iter_mut() {
        let path = path.key(key);
        let is_cut = meta.get(&path).is_some_and(|meta| meta.original_length.is_some());
        let Value::Object(object) = value else { continue };
        if !is_cut {
            complete(key, object, event_id, meta, &path);
        }
        if !is_cut && is_blank(object, "type") {
            object.insert("type", key.clone());
        }
        trim_bag(value, if key == "flags" { FLAGS } else { CONTEXT }, meta, &path);
    }
    event.insert("contexts", contexts);
}

fn complete(key: &str, object: &mut Object<'_>, event_id: Option<&str>, meta: &mut MetaTree, path: &Path<'_>) {
    raw_description::complete(key, object);
    if key == "trace" {
        settle_trace(object, event_id, meta, path);
    }
}

/// Every event belongs to a trace: where its SDK knows none, to one that is named after it.
fn settle_trace(trace: &mut Object<'_>, event_id: Option<&str>, meta: &mut MetaTree, path: &Path<'_>) {
    for (key, digits) in [("trace_id", 32), ("span_id", 16), ("parent_span_id", 16)] {
        let Some(value) = trace.get_mut(key).filter(|value| !value.is_null()) else { continue };
        match value.as_str().map(|id| (id, is_id(id, digits))) {
            Some((id, true)) if id.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                *value = Value::from(id.to_ascii_lowercase());
            }
            Some((_, true)) => {}
            _ => invalid(value, "expected a trace or span id", meta, &path.key(key)),
        }
    }
    if is_blank(trace, "trace_id")
        && let Some(event_id) = event_id
    {
        trace.insert("trace_id", event_id.to_owned());
    }
    if is_blank(trace, "span_id")
        && let Some(span_id) = text(trace, "trace_id").and_then(span_id_of)
    {
        trace.insert("span_id", span_id);
    }
}

/// The second half of a trace id; the first where the second is zero.
fn span_id_of(trace_id: &str) -> Option<String> {
    let halves = [trace_id.get(16..)?, trace_id.get(..16)?];
    halves.into_iter().find(|half| is_id(half, 16)).map(str::to_owned)
}

/// Whether a text is a number of so many hexadecimal digits, and not zero.
fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::tree::{Document, PythonFloats};

    fn settled(json: &str) -> String {
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise(document.value.as_object_mut().unwrap(), &context(), &mut document.meta);
        String::from_utf8(document.to_json()).unwrap()
    }

    #[test]
    fn contexts_have_types_and_servers_words_are_taken_out() {
        for (came, expected) in [
            (r#"{"contexts":{"app":{"v":1}}}"#, r#"{"contexts":{"app":{"v":1,"type":"app"}}}"#),
            (r#"{"contexts":{"x":{"type":"app"}}}"#, r#"{"contexts":{"x":{"type":"app"}}}"#),
            (r#"{"contexts":{"reprocessing":{"v":1}}}"#, r#"{"contexts":{}}"#),
            (
                r#"{"contexts":{"os":{"raw_description":"macOS 13.2"}}}"#,
                r#"{"contexts":{"os":{"raw_description":"macOS 13.2","name":"macOS","version":"13.2","type":"os"}}}"#,
            ),
            (
                r#"{"contexts":{"app":5}}"#,
                r#"{"contexts":{"app":null},"_meta":{"contexts":{"app":{"":{"err":[["invalid_data",{"reason":"expected an object"}]],"val":5}}}}}"#,
            ),
        ] {
            assert_eq!(settled(came), expected);
            assert_eq!(settled(expected), expected);
        }
    }

    #[test]
    fn a_trace_is_forced_and_named_after_the_event() {
        const ID: &str = "fc6d8c0c43fc4630ad850ee518f1b9d0";
        for (came, expected) in [
            ("{}", r#""trace_id":"fc6d8c0c43fc4630ad850ee518f1b9d0","span_id":"ad850ee518f1b9d0","type":"trace""#),
            (
                r#"{"trace":{"trace_id":"4C79F60C11214EB38604F4AE0781BFB2"}}"#,
                r#""trace_id":"4c79f60c11214eb38604f4ae0781bfb2","span_id":"8604f4ae0781bfb2","type":"trace""#,
            ),
            (
                r#"{"trace":{"trace_id":"4c79f60c11214eb38604f4ae0781bfb2","span_id":"fa90fdead5f74052","type":"trace"}}"#,
                r#""trace_id":"4c79f60c11214eb38604f4ae0781bfb2","span_id":"fa90fdead5f74052","type":"trace""#,
            ),
        ] {
            let once = settled(&format!(r#"{{"event_id":"{ID}","contexts":{came}}}"#));
            assert_eq!(once, format!(r#"{{"event_id":"{ID}","contexts":{{"trace":{{{expected}}}}}}}"#));
        }
        let repaired = settled(&format!(
            r#"{{"event_id":"{ID}","contexts":{{"trace":{{"trace_id":"x","span_id":"0000000000000000"}}}}}}"#
        ));
        assert!(
            repaired.contains(&format!(r#""trace":{{"trace_id":"{ID}","span_id":"ad850ee518f1b9d0","type":"trace"}}"#))
        );
        assert!(repaired.contains(
            r#""trace_id":{"":{"err":[["invalid_data",{"reason":"expected a trace or span id"}]],"val":"x"}}"#
        ));
    }
}
