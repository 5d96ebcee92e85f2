//! Whatever the event: scrubbing ends, changes nothing the second time, and leaves remarks that fit their texts.

use picket_common::tree::{MetaTree, Value as Tree};
use proptest::prelude::*;

use super::*;

/// Keys that rules have something to do with. None is empty: of what is under such a key `_meta` can say nothing.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zé]{1,6}",
        prop::sample::select(vec![
            "password",
            "user",
            "extra",
            "tags",
            "request",
            "headers",
            "values",
            "exception",
            "ip_address",
            "id",
            "data",
            "contexts",
            "message",
            "logentry",
            "formatted",
            "frames",
            "stacktrace",
            "abs_path",
            "value",
            "cookies",
            "sessionid",
        ])
        .prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\PC{0,5}",
        prop::sample::select(vec![
            "password=abc",
            " 127.0.0.1 ",
            "eve@example.org",
            "4111111111111111",
            "[Filtered]",
            "Bearer abc",
            "/home/eve/x",
            "http://a:b@c.example/?token=x",
            "token: 'y'",
            "*",
            "secret",
            "\u{1f512}",
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner.clone()), 0..4)
                .prop_map(|pairs| Value::from_iter(pairs.into_iter().map(|(key, value)| json!([key, value])))),
            prop::collection::btree_map(word(), inner, 0..5).prop_map(Value::from_iter),
        ]
    })
}

fn event() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(word(), value(), 0..6).prop_map(Value::from_iter)
}

/// Checks that each remark on a span lies in the text that it is about.
fn remarks_fit(node: &MetaTree, value: Option<&Tree<'_>>) {
    for remark in &node.meta.remarks {
        let Some((start, end)) = remark.range else { continue };
        let text = value.and_then(Tree::as_str).unwrap();
        assert!(text.get(start..end).is_some(), "{remark:?} in {text:?}");
    }
    for (segment, child) in node.children() {
        let below = match value {
            Some(Tree::Array(elements)) => segment.parse::<usize>().ok().and_then(|index| elements.get(index)),
            other => other.and_then(|value| value.get(segment)),
        };
        remarks_fit(child, below);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn scrubbing_twice_changes_nothing_and_remarks_fit(event in event()) {
        let mut rules = compat();
        rules.pii_config = Some(serde_json::from_value(json!({
            "rules": {"words": {"type": "pattern", "pattern": "e(v)e", "replaceGroups": [1], "redaction": {"method": "hash"}}},
            "applications": {"$string": ["@ip:mask", "words"], "user.ip_address": ["@anything:hash"], "extra.data": ["@anything:remove"]}
        })).unwrap());
        for settings in [strict(), compat(), rules] {
            let event = scrubbed(&settings, &event).to_string();
            let document = Document::read(event.as_bytes(), PythonFloats::Refuse).unwrap();
            remarks_fit(&document.meta, Some(&document.value));
        }
    }

    #[test]
    fn what_was_scrubbed_before_makes_no_difference(events in prop::collection::vec(event(), 3)) {
        for settings in [strict(), compat()] {
            let scrub = |scrubber: &Scrubber, event: &Value| {
                let text = event.to_string();
                let mut document = Document::read(text.as_bytes(), PythonFloats::Refuse).unwrap();
                scrubber.scrub_event(&mut document);
                String::from_utf8(document.to_json()).unwrap()
            };
            let experienced = Scrubber::compile(&settings).unwrap();
            for event in events.iter().cycle().take(12) {
                let fresh = Scrubber::compile(&settings).unwrap();
                prop_assert_eq!(scrub(&experienced, event), scrub(&fresh, event));
            }
        }
    }
}
