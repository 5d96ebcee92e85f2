//! The event as a whole: rules that several files share, idempotence, and trees that nobody would send.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::timestamp::Timestamp;
use crate::tree::PythonFloats;

const RECEIVED_MILLIS: u64 = 1_763_820_306_789;
const ID: &str = "fc6d8c0c43fc4630ad850ee518f1b9d0";

/// An event received on 2025-11-22 at 14:05:06.789 UTC from 192.0.2.9.
pub(super) fn context() -> EventContext<'static> {
    EventContext {
        event_id: Some(ID.parse().unwrap()),
        received_at: Timestamp::from_millis(RECEIVED_MILLIS),
        sent_at: None,
        client_address: Some([192, 0, 2, 9].into()),
        ip_inference: IpInference::Allowed,
        user_agent: None,
        client_hints: ClientHints::default(),
        client: None,
        retention_days: 90,
    }
}

fn normalised(json: &str, context: &EventContext<'_>) -> Document<'static> {
    let value = crate::tree::read(json.as_bytes()).unwrap().into_owned();
    let mut document = Document { value, meta: MetaTree::default() };
    normalise_event(&mut document, context).unwrap();
    document
}

fn text_of(document: &Document<'_>) -> String {
    String::from_utf8(document.to_json()).unwrap()
}

/// The parts of a normalised event under the given keys, and its `_meta`.
fn parts(json: &str, keys: &[&str]) -> (String, String) {
    parts_in(json, keys, &context())
}

fn parts_in(json: &str, keys: &[&str], context: &EventContext<'_>) -> (String, String) {
    let document = normalised(json, context);
    let part = |key: &&str| document.value.get(key).map_or("-".to_owned(), Value::to_json);
    (keys.iter().map(part).collect::<Vec<_>>().join(" "), document.meta.to_value().to_json())
}

#[test]
fn an_empty_event_gets_what_every_event_has() {
    let document = normalised("{}", &context());
    assert_eq!(
        text_of(&document),
        format!(
            r#"{{"timestamp":1763820306.789,"received":1763820306.789,"event_id":"{ID}","level":"error","platform":"other","contexts":{{"trace":{{"trace_id":"{ID}","span_id":"ad850ee518f1b9d0","type":"trace"}}}},"type":"default"}}"#
        )
    );
}

#[test]
fn times_outside_of_what_is_kept_move_with_the_whole_event() {
    for (sent, kind) in
        [("2025-08-24T14:05:06.788Z", "past_timestamp"), ("2025-11-22T14:06:06.790Z", "future_timestamp")]
    {
        let crumb = Timestamp::parse(sent).unwrap().minus(std::time::Duration::from_secs(10)).to_rfc3339();
        let event = format!(r#"{{"timestamp":"{sent}","breadcrumbs":[{{"timestamp":"{crumb}"}}]}}"#);
        let (parts, meta) = parts(&event, &["timestamp", "breadcrumbs"]);
        assert_eq!(parts, r#"1763820306.789 {"values":[{"timestamp":1763820296.789}]}"#);
        assert_eq!(
            meta,
            format!(
                r#"{{"timestamp":{{"":{{"err":[["{kind}",{{"sdk_time":"{sent}","server_time":"2025-11-22T14:05:06.789Z"}}]]}}}}}}"#
            )
        );
    }
    for kept in ["2025-08-24T14:05:06.789Z", "2025-11-22T14:06:06.789Z"] {
        assert_eq!(parts(&format!(r#"{{"timestamp":"{kept}"}}"#), &[]).1, "{}");
    }
}

#[test]
fn a_clock_that_is_off_by_55_minutes_is_corrected_and_one_off_by_less_is_not() {
    for (sent_at, timestamp) in [
        ("2025-11-22T13:10:06.789Z", "1763820306.789"),
        ("2025-11-22T13:10:06.790Z", "1763817006.789"),
        ("2025-11-22T15:00:06.789Z", "1763813706.789"),
    ] {
        let context = EventContext { sent_at: Timestamp::parse(sent_at), ..context() };
        let (parts, meta) = parts_in(r#"{"timestamp":1763817006.789}"#, &["timestamp"], &context);
        assert_eq!(parts, timestamp, "{sent_at}");
        assert_eq!(meta.contains(r#"["clock_drift",{"sdk_time""#), timestamp != "1763817006.789");
    }
}

#[test]
fn a_field_that_is_wrong_costs_itself_and_not_the_event() {
    for (event, key, expected, reason) in [
        (r#"{"timestamp":"1763820306"}"#, "timestamp", "1763820306.789", "expected a timestamp"),
        (r#"{"timestamp":-5}"#, "timestamp", "1763820306.789", "a timestamp before 1970"),
        (r#"{"level":"loud"}"#, "level", "\"error\"", "expected a level"),
        (r#"{"release":"a/b"}"#, "release", "null", "expected a release name"),
        (r#"{"environment":"none"}"#, "environment", "null", "expected an environment name"),
        (r#"{"dist":"a b"}"#, "dist", "null", "expected a distribution name"),
        (r#"{"user":"ada"}"#, "user", "null", "expected an object"),
        (r#"{"request":[1]}"#, "request", "null", "expected an object"),
        (r#"{"tags":"x"}"#, "tags", "null", "expected pairs"),
        (r#"{"exception":5}"#, "exception", "null", "expected an object"),
        (r#"{"fingerprint":{}}"#, "fingerprint", "null", "expected a list of strings"),
        (r#"{"event_id":"0"}"#, "event_id", &format!("\"{ID}\""), "expected an event id"),
        (r#"{"extra":5}"#, "extra", "null", "expected an object"),
    ] {
        let (parts, meta) = parts(event, &[key]);
        assert_eq!(parts, expected, "{event}");
        assert!(
            meta.contains(&format!(r#"{{"{key}":{{"":{{"err":[["invalid_data",{{"reason":"{reason}"}}]],"val":"#)),
            "{meta}"
        );
    }
}

#[test]
fn attributes_come_in_the_forms_that_sdks_send() {
    for (event, keys, expected) in [
        (r#"{"level":30}"#, &["level"][..], r#""warning""#),
        (
            r#"{"type":"transaction","timestamp":1763820306,"start_timestamp":1763820305}"#,
            &["level", "type"],
            r#""info" "transaction""#,
        ),
        (r#"{"platform":"cobol"}"#, &["platform"], r#""other""#),
        (r#"{"platform":"python"}"#, &["platform"], r#""python""#),
        (r#"{"release":1.5,"environment":" prod "}"#, &["release", "environment"], r#""1.5" "prod""#),
        (r#"{"fingerprint":"one"}"#, &["fingerprint"], r#"["one"]"#),
        (r#"{"fingerprint":["{{ default }}",7]}"#, &["fingerprint"], r#"["{{ default }}","7"]"#),
        (
            r#"{"message":"hello","level":"info"}"#,
            &["logentry", "message", "type"],
            r#"{"formatted":"hello"} - "default""#,
        ),
        (r#"{"csp":{"effective_directive":"img-src"}}"#, &["type"], r#""csp""#),
        (r#"{"event_id":"00000000000000000000000000000001"}"#, &["event_id"], &format!("\"{ID}\"")),
        (r#"{"extra":[]}"#, &["extra"], "{}"),
    ] {
        assert_eq!(parts(event, keys), (expected.to_owned(), "{}".to_owned()), "{event}");
    }
}

#[test]
fn exceptions_are_taken_apart_dropped_and_given_their_stack() {
    for (event, expected) in [
        (
            r#"{"exception":{"value":"ValueError: no such thing"}}"#,
            r#"{"values":[{"value":"no such thing","type":"ValueError"}]} - "error""#,
        ),
        (
            r#"{"exception":[{"type":"E","value":"ValueError: x"}]}"#,
            r#"{"values":[{"type":"E","value":"ValueError: x"}]} - "error""#,
        ),
        (r#"{"exception":[{"value":"two words: x"}]}"#, r#"{"values":[{"value":"two words: x"}]} - "error""#),
        (r#"{"exception":[{"module":"m"}]}"#, r#"{"values":[null]} - "default""#),
        (
            r#"{"exception":[{"type":"E"}],"stacktrace":{"frames":[{"function":"f"}]}}"#,
            r#"{"values":[{"type":"E","stacktrace":{"frames":[{"function":"f"}]}}]} - "error""#,
        ),
        (
            r#"{"exception":[{"type":"E"},{"type":"F"}],"stacktrace":{"frames":[{"function":"f"}]}}"#,
            r#"{"values":[{"type":"E"},{"type":"F"}]} {"frames":[{"function":"f"}]} "error""#,
        ),
        (
            r#"{"exception":[{"type":"E","value":{"code":5}}]}"#,
            r#"{"values":[{"type":"E","value":"{\"code\":5}"}]} - "error""#,
        ),
    ] {
        assert_eq!(parts(event, &["exception", "stacktrace", "type"]).0, expected);
    }
    let (_, meta) = parts(r#"{"exception":[{"module":"m"}]}"#, &[]);
    assert_eq!(
        meta,
        r#"{"exception":{"values":{"0":{"":{"err":[["missing_attribute",{"attribute":"type or value"}]],"val":{"module":"m"}}}}}}"#
    );
}

#[test]
fn texts_are_cut_at_their_limits_with_their_allowance() {
    let cases: [(&str, usize, usize, &[&str]); 12] = [
        (r#"{"exception":[{"type":"E","value":"@"}]}"#, 8192, 200, &["exception", "values", "0", "value"]),
        (r#"{"exception":[{"type":"@"}]}"#, 256, 20, &["exception", "values", "0", "type"]),
        (r#"{"stacktrace":{"frames":[{"function":"@"}]}}"#, 512, 20, &["stacktrace", "frames", "0", "function"]),
        (
            r#"{"stacktrace":{"frames":[{"filename":"x","abs_path":"@"}]}}"#,
            256,
            40,
            &["stacktrace", "frames", "0", "abs_path"],
        ),
        (r#"{"logentry":{"formatted":"@"}}"#, 8192, 200, &["logentry", "formatted"]),
        (r#"{"breadcrumbs":[{"message":"@"}]}"#, 8192, 200, &["breadcrumbs", "values", "0", "message"]),
        (r#"{"threads":[{"name":"@"}]}"#, 1024, 100, &["threads", "values", "0", "name"]),
        (r#"{"user":{"id":"@"}}"#, 128, 0, &["user", "id"]),
        (r#"{"user":{"email":"@"}}"#, 75, 0, &["user", "email"]),
        (r#"{"request":{"url":"@"}}"#, 256, 40, &["request", "url"]),
        (r#"{"transaction":"@"}"#, 200, 0, &["transaction"]),
        (r#"{"logger":"@"}"#, 64, 0, &["logger"]),
    ];
    for (event, chars, allowance, keys) in cases {
        let whole = event.replace('@', &"é".repeat(chars + allowance));
        assert_eq!(parts(&whole, &[]).1, "{}", "{event}");
        let long = chars + allowance + 1;
        let document = normalised(&event.replace('@', &"é".repeat(long)), &context());
        let said = keys.iter().try_fold(&document.meta, |node, key| node.child(key)).unwrap();
        assert_eq!(said.meta.original_length, Some(long as u64), "{event}");
        assert_eq!(said.meta.remarks[0].range, Some((2 * (chars - 3), 2 * (chars - 3) + 3)), "{event}");
    }
}

#[test]
fn bags_are_cut_at_their_limits() {
    let cases: [(&str, usize, &[&str]); 8] = [
        (r#"{"extra":{"a":["@"]}}"#, 16_384, &["extra", "a", "0"]),
        (r#"{"contexts":{"a":{"b":"@"}}}"#, 8192, &["contexts", "a", "b"]),
        (r#"{"contexts":{"flags":{"b":"@"}}}"#, 131_072, &["contexts", "flags", "b"]),
        (r#"{"request":{"data":{"a":"@"}}}"#, 8192, &["request", "data", "a"]),
        (r#"{"request":{"headers":{"a":"@"}}}"#, 8192, &["request", "headers", "a"]),
        (r#"{"request":{"query_string":{"a":"@"}}}"#, 1024, &["request", "query_string", "0", "1"]),
        (r#"{"stacktrace":{"frames":[{"vars":{"a":"@"}}]}}"#, 2048, &["stacktrace", "frames", "0", "vars", "a"]),
        (r#"{"breadcrumbs":[{"data":{"a":"@"}}]}"#, 2048, &["breadcrumbs", "values", "0", "data", "a"]),
    ];
    for (event, bytes, keys) in cases {
        assert_eq!(parts(&event.replace('@', &"x".repeat(bytes - 40)), &[]).1, "{}", "{event}");
        let document = normalised(&event.replace('@', &"x".repeat(bytes)), &context());
        let said = keys.iter().try_fold(&document.meta, |node, key| node.child(key)).unwrap();
        assert_eq!(said.meta.original_length, Some(bytes as u64), "{event}");
    }
}

#[test]
fn a_breadcrumb_from_before_1970_is_dropped() {
    let (parts, meta) = parts(r#"{"breadcrumbs":[{"timestamp":-1},{"timestamp":"soon"}]}"#, &["breadcrumbs"]);
    assert_eq!(parts, r#"{"values":[null,{"timestamp":null}]}"#);
    assert!(meta.contains("a timestamp before 1970") && meta.contains("expected a timestamp"));
}

#[test]
fn what_is_no_event_is_rejected_with_a_word() {
    for (json, reason) in [
        ("[]", "invalid_json"),
        ("5", "invalid_json"),
        (r#"{"type":"transaction"}"#, "invalid_transaction"),
        (r#"{"type":"transaction","timestamp":5,"start_timestamp":-5}"#, "invalid_transaction"),
        (r#"{"type":"transaction","timestamp":5,"start_timestamp":6}"#, "invalid_transaction"),
        // Its times are moved together, and the start ends before 1970.
        (r#"{"type":"transaction","timestamp":"9000-01-01T00:00:00Z","start_timestamp":1}"#, "invalid_transaction"),
    ] {
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        assert_eq!(normalise_event(&mut document, &context()).unwrap_err().reason, reason, "{json}");
    }
}

#[test]
fn the_sdk_is_the_client_where_the_event_names_none() {
    let context = EventContext { client: Some("raven-python/6.10.0"), ..context() };
    let expected = r#"{"name":"raven-python","version":"6.10.0"}"#;
    assert_eq!(parts_in("{}", &["sdk"], &context).0, expected);
    assert_eq!(parts_in(r#"{"sdk":{"name":"mine"}}"#, &["sdk"], &context).0, r#"{"name":"mine"}"#);
}

// === properties ===

/// Keys that rules look at, among others.
fn key() -> impl Strategy<Value = String> {
    const KEYS: &str = "a b event_id level message logentry formatted params user id email ip_address data username request url \
        method headers cookies Cookie query_string env REMOTE_ADDR tags environment server_name release dist site exception \
        values type value stacktrace frames filename abs_path function vars pre_context context_line in_app lineno mechanism \
        meta signal number threads breadcrumbs timestamp contexts trace trace_id span_id os raw_description name browser \
        reprocessing debug_meta images image_addr uuid extra sdk settings infer_ip platform logger culprit fingerprint spans \
        start_timestamp sentry.interfaces.Http sentry.interfaces.Message User-Agent flags modules code_file";
    let keys: Vec<&'static str> = KEYS.split_ascii_whitespace().collect();
    prop_oneof![12 => proptest::sample::select(keys).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

fn leaf() -> impl Strategy<Value = serde_json::Value> {
    const TEXTS: &[&str] = &[
        "",
        " ",
        "?",
        "E: x",
        "a=1&b=2",
        "a b=1; c",
        "{\"a\":[1]}",
        "[1,2",
        "{{auto}}",
        "192.0.2.1",
        "auto",
        "never",
        "java",
        "javascript",
        "python",
        "http://h/p?q=1#f",
        "file:///a/b.js",
        "apple",
        "macho",
        "2025-11-22T14:05:06.5Z",
        "%s and {}",
        "GET",
        "post",
        "fc6d8c0c43fc4630ad850ee518f1b9d0",
        "feedback",
        "environment",
        "prod",
        "a\nb",
        "macOS 13.2",
        "iOS",
        "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
    ];
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        (-20_i64..4_000_000_000).prop_map(serde_json::Value::from),
        (-1e12..1e12_f64).prop_map(serde_json::Value::from),
        (1_763_820_200.0..1_763_820_400.0_f64).prop_map(serde_json::Value::from),
        proptest::sample::select(TEXTS).prop_map(serde_json::Value::from),
        "\\PC{0,20}".prop_map(serde_json::Value::from),
        ("[a-z é=&%\"{}.:]{1,12}", 1_usize..900).prop_map(|(text, times)| serde_json::Value::from(text.repeat(times))),
    ]
}

fn tree() -> impl Strategy<Value = serde_json::Value> {
    leaf().prop_recursive(9, 120, 8, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
            1 => (key(), inner.clone()).prop_map(|(key, value)| serde_json::json!([[key, value]])),
            4 => proptest::collection::vec((key(), inner), 0..8)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn event() -> impl Strategy<Value = serde_json::Value> {
    let entries = proptest::collection::vec((key(), tree()), 0..12);
    (entries, proptest::option::weighted(0.2, said())).prop_map(|(entries, said)| {
        let mut event: serde_json::Map<_, _> = entries.into_iter().collect();
        event.extend(said.map(|said| ("_meta".to_owned(), said)));
        serde_json::Value::Object(event)
    })
}

/// Annotations that an SDK may send, about anything.
fn said() -> impl Strategy<Value = serde_json::Value> {
    let meta = (0_usize..30, 0_usize..30, any::<bool>(), leaf()).prop_map(|(start, end, is_error, value)| {
        let error = if is_error { "clock_drift" } else { "invalid_data" };
        serde_json::json!({"": {"rem": [["r", "s", start, end]], "err": [error], "len": end, "val": value}})
    });
    meta.prop_recursive(5, 30, 5, |inner| {
        let index = (0_usize..4).prop_map(|index| index.to_string());
        proptest::collection::vec((prop_oneof![4 => key(), 1 => index], inner), 1..5)
            .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect()))
    })
}

/// A likely event, one of whose parts is something else.
fn broken_event() -> impl Strategy<Value = serde_json::Value> {
    let likely = serde_json::json!({
        "timestamp": 1_763_820_300.5, "level": "error", "platform": "javascript", "server_name": "web-1",
        "message": "hello", "logger": "a.b", "release": "a@1", "environment": "prod", "transaction": "/x",
        "exception": {"values": [{"type": "E", "value": "v", "mechanism": {"type": "t", "meta": {"signal": {"number": 11}}},
            "stacktrace": {"frames": [{"function": "f", "filename": "http://h/a.js?x", "vars": {"a": [1]},
                "pre_context": ["a", null]}]}}]},
        "threads": {"values": [{"id": 1, "name": "main", "stacktrace": {"frames": []}}]},
        "breadcrumbs": [{"timestamp": 1_763_820_299, "message": "m", "level": "log", "data": {"url": "u"}}],
        "request": {"url": "http://h/p?a=1#f", "method": "get", "headers": {"Cookie": "a=1", "cookie": "b=2", "User-Agent": "x"},
            "data": "{\"a\":1}", "env": {"REMOTE_ADDR": "192.0.2.1"}},
        "user": {"id": 7, "ip_address": "{{auto}}", "plan": "free"}, "tags": {"a": 1, "b c": "d"},
        "contexts": {"os": {"raw_description": "Linux 5.1"}, "trace": {"trace_id": "x"}, "reprocessing": {}},
        "debug_meta": {"images": [{"type": "apple", "name": "n"}, {"type": "odd"}]}, "extra": {"a": {"b": 1}},
        "fingerprint": ["a"], "sdk": {"name": "n", "settings": {"infer_ip": "auto"}},
    });
    (proptest::collection::vec(any::<proptest::sample::Index>(), 1..5), tree()).prop_map(move |(way, odd)| {
        let mut event = likely.clone();
        let mut at = &mut event;
        for step in way {
            let parts: Vec<&mut serde_json::Value> = match at {
                serde_json::Value::Object(object) => object.values_mut().collect(),
                serde_json::Value::Array(array) => array.iter_mut().collect(),
                leaf => vec![leaf],
            };
            let count = parts.len();
            let Some(part) = parts.into_iter().nth(if count == 0 { 0 } else { step.index(count) }) else {
                return event;
            };
            at = part;
        }
        *at = odd;
        event
    })
}

fn any_context() -> impl Strategy<Value = EventContext<'static>> {
    (any::<bool>(), proptest::option::of(-8_000_000_i64..8_000_000), any::<bool>(), any::<bool>()).prop_map(
        |(has_id, sent_ago, is_allowed, has_client)| EventContext {
            event_id: context().event_id.filter(|_| has_id),
            sent_at: sent_ago.map(|ago| Timestamp::from_i64(RECEIVED_MILLIS.cast_signed() - ago)),
            ip_inference: if is_allowed { IpInference::Allowed } else { IpInference::Forbidden },
            client: has_client.then_some("sentry.javascript/1.0"),
            ..context()
        },
    )
}

fn assert_stable(json: &str, context: &EventContext<'_>) -> Result<(), TestCaseError> {
    let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
    if normalise_event(&mut document, context).is_err() {
        return Ok(());
    }
    let once = text_of(&document);
    normalise_event(&mut document, context).unwrap();
    prop_assert_eq!(text_of(&document), once.clone(), "in memory, of {}", json);
    let mut again = Document::read(once.as_bytes(), PythonFloats::Refuse).unwrap();
    normalise_event(&mut again, context).unwrap();
    prop_assert_eq!(text_of(&again), once, "read again, of {}", json);
    Ok(())
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(event in event(), context in any_context()) {
        assert_stable(&event.to_string(), &context)?;
    }

    #[test]
    fn normalising_broken_events_twice_changes_nothing(event in broken_event(), context in any_context()) {
        assert_stable(&event.to_string(), &context)?;
    }

    #[test]
    fn no_tree_panics_in_any_item(tree in tree(), context in any_context()) {
        let json = tree.to_string();
        for normalise in [
            normalise_event, normalise_feedback, normalise_session, normalise_sessions, normalise_check_in,
            normalise_user_report,
        ] {
            let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
            let _ = normalise(&mut document, &context);
        }
        let _ = ClientReport::read(json.as_bytes(), context.received_at);
    }
}
