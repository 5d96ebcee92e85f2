//! The `entries` of an event: its large parts, each `{"type", "data"}`, with the field names that clients of the API know,
//! which are not those that SDKs send.

use serde_json::{Map, Value, json};

/// The parts of an event that it has, the most telling first.
pub(super) fn entries(event: &Map<String, Value>) -> Vec<Value> {
    let part = |name: &str| event.get(name).filter(|value| !is_blank(value));
    let entry = |kind: &str, data: Value| json!({ "type": kind, "data": data });
    let message = part("logentry").or_else(|| part("message"));
    let same = |name: &str, kind: &str| part(name).map(|value| entry(kind, value.clone()));
    [
        part("exception").map(|value| entry("exception", exceptions(value))),
        part("stacktrace").map(|value| entry("stacktrace", stack_trace(value))),
        message.map(|value| entry("message", message_data(value))),
        part("threads").map(|value| entry("threads", threads(value))),
        part("breadcrumbs").map(|value| entry("breadcrumbs", json!({ "values": values(value) }))),
        part("request").map(|value| entry("request", request(value))),
        same("debug_meta", "debugmeta"),
        same("template", "template"),
        same("csp", "csp"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(members) => members.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// The members of a list in any of the forms that SDKs send, without nulls.
fn values(list: &Value) -> Vec<Value> {
    let members = match list {
        Value::Object(object) => match object.get("values") {
            Some(Value::Array(members)) => members.as_slice(),
            Some(_) => &[],
            None => std::slice::from_ref(list),
        },
        Value::Array(members) => members.as_slice(),
        _ => &[],
    };
    members.iter().filter(|member| !member.is_null()).cloned().collect()
}

fn message_data(entry: &Value) -> Value {
    match entry {
        Value::Object(parts) => json!({
            "formatted": parts.get("formatted").or_else(|| parts.get("message")),
            "message": parts.get("message"),
            "params": parts.get("params"),
        }),
        text => json!({ "formatted": text }),
    }
}

fn exceptions(list: &Value) -> Value {
    let shaped: Vec<_> = values(list)
        .into_iter()
        .map(|exception| match exception {
            Value::Object(mut members) => {
                rename(&mut members, &[("thread_id", "threadId"), ("raw_stacktrace", "rawStacktrace")]);
                reshape(&mut members, "stacktrace", stack_trace);
                reshape(&mut members, "rawStacktrace", stack_trace);
                Value::Object(members)
            }
            other => json!({ "value": other }),
        })
        .collect();
    let has_system_frames =
        shaped.iter().any(|exception| exception["stacktrace"]["hasSystemFrames"] == Value::Bool(true));
    json!({ "values": shaped, "hasSystemFrames": has_system_frames, "excOmitted": null })
}

fn threads(list: &Value) -> Value {
    let shaped: Vec<_> = values(list)
        .into_iter()
        .map(|thread| match thread {
            Value::Object(mut members) => {
                reshape(&mut members, "stacktrace", stack_trace);
                Value::Object(members)
            }
            other => other,
        })
        .collect();
    json!({ "values": shaped })
}

/// Frames stay in the order that SDKs send them: the crash is last.
fn stack_trace(trace: &Value) -> Value {
    let frames = trace.get("frames").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let frames: Vec<_> = frames.iter().filter(|frame| !frame.is_null()).map(frame).collect();
    let has_system_frames = frames.iter().any(|frame| frame["inApp"] == Value::Bool(false));
    json!({
        "frames": frames,
        "framesOmitted": trace.get("frames_omitted"),
        "registers": trace.get("registers"),
        "hasSystemFrames": has_system_frames,
    })
}

fn frame(frame: &Value) -> Value {
    let field = |name: &str| frame.get(name).cloned().unwrap_or_default();
    json!({
        "filename": field("filename"),
        "absPath": field("abs_path"),
        "module": field("module"),
        "package": field("package"),
        "platform": field("platform"),
        "instructionAddr": field("instruction_addr"),
        "symbolAddr": field("symbol_addr"),
        "function": field("function"),
        "rawFunction": field("raw_function"),
        "symbol": field("symbol"),
        "context": context(frame),
        "lineNo": field("lineno"),
        "colNo": field("colno"),
        "inApp": frame.get("in_app").and_then(Value::as_bool).unwrap_or(false),
        "trust": field("trust"),
        "lock": field("lock"),
        "vars": field("vars"),
    })
}

/// `[[line number, text], …]` around the frame's line; empty where the line or its number is unknown.
fn context(frame: &Value) -> Vec<(u64, Value)> {
    let lines = |name: &str| frame.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let current = frame.get("context_line").filter(|line| !line.is_null());
    let (Some(current), Some(number)) = (current, frame.get("lineno").and_then(Value::as_u64)) else {
        return Vec::new();
    };
    let before = lines("pre_context");
    let first = number.saturating_sub(before.len() as u64);
    let all = before.iter().chain(std::iter::once(current)).chain(lines("post_context"));
    (0..).zip(all).map(|(place, line)| (first.saturating_add(place), line.clone())).collect()
}

fn request(request: &Value) -> Value {
    let Value::Object(members) = request else { return json!({ "data": request }) };
    let field = |name: &str| members.get(name).cloned().unwrap_or_default();
    json!({
        "method": field("method"),
        "url": field("url"),
        "fragment": field("fragment"),
        "query": pairs(&field("query_string")),
        "headers": pairs(&field("headers")),
        "cookies": pairs(&field("cookies")),
        "data": field("data"),
        "env": field("env"),
        "inferredContentType": field("inferred_content_type"),
    })
}

/// Objects become sorted pairs; pairs and plain texts stay.
fn pairs(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| json!([name, value])).collect(),
        Value::Null => json!([]),
        other => other.clone(),
    }
}

fn rename(members: &mut Map<String, Value>, names: &[(&str, &str)]) {
    for (sent, shown) in names {
        if let Some(value) = members.remove(*sent) {
            members.insert((*shown).to_owned(), value);
        }
    }
}

fn reshape(members: &mut Map<String, Value>, name: &str, shape: fn(&Value) -> Value) {
    if let Some(value) = members.get_mut(name)
        && !value.is_null()
    {
        *value = shape(value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(event: &Value) -> Value {
        Value::Array(entries(event.as_object().unwrap()))
    }

    #[test]
    fn frames_get_the_names_and_the_context_that_clients_know() {
        let shaped = of(&json!({"exception": {"values": [{"type": "E", "thread_id": 4, "stacktrace": {"frames": [
            {"function": "outer", "in_app": false},
            {"function": "f", "abs_path": "/a.py", "lineno": 2, "colno": 3, "in_app": true, "vars": {"x": "1"},
             "pre_context": ["one"], "context_line": "two", "post_context": ["three"]},
        ]}}]}}));
        let exception = &shaped[0]["data"]["values"][0];
        assert_eq!(exception["threadId"], 4);
        assert_eq!(exception["stacktrace"]["hasSystemFrames"], true);
        let frame = &exception["stacktrace"]["frames"][1];
        assert_eq!((&frame["absPath"], &frame["lineNo"], &frame["inApp"]), (&json!("/a.py"), &json!(2), &json!(true)));
        assert_eq!(frame["context"], json!([[1, "one"], [2, "two"], [3, "three"]]));
        assert_eq!(frame["vars"], json!({"x": "1"}));
    }

    #[test]
    fn requests_and_messages_are_reshaped_and_empty_parts_left_out() {
        let shaped = of(&json!({
            "request": {"headers": {"Host": "a"}, "query_string": "x=1"}, "message": "hello", "exception": {}, "threads": null,
        }));
        assert_eq!(shaped[0], json!({"type": "message", "data": {"formatted": "hello"}}));
        assert_eq!(shaped[1]["data"]["headers"], json!([["Host", "a"]]));
        assert_eq!(shaped[1]["data"]["query"], "x=1");
        assert_eq!(shaped.as_array().unwrap().len(), 2);
    }

    #[test]
    fn parts_of_odd_forms_do_not_panic() {
        for odd in [
            json!(1),
            json!("x"),
            json!([1, null, [], "x", {"stacktrace": 3}]),
            json!({"values": 3}),
            json!({"frames": [1, null]}),
        ] {
            let event = json!({
                "exception": odd, "threads": odd, "stacktrace": odd, "breadcrumbs": odd, "request": odd, "logentry": odd,
            });
            assert!(of(&event).is_array());
        }
        let huge =
            json!({"stacktrace": {"frames": [{"lineno": u64::MAX, "context_line": "a", "post_context": ["b"]}]}});
        assert!(of(&huge).is_array());
    }
}
