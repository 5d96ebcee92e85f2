#![allow(clippy::unwrap_used)]

use picket_common::pii::{PiiConfig, ScrubProfile, ScrubSettings, compile};
use serde_json::json;

use super::*;

/// A way: keys, `#n` for an index, `$type` for a further type of the value reached so far.
fn selects(selector: &str, way: &str, sensitivity: Sensitivity) -> bool {
    let pii_config: PiiConfig = serde_json::from_value(json!({"applications": {selector: ["@ip"]}})).unwrap();
    let settings =
        ScrubSettings { pii_config: Some(pii_config), scrub_profile: ScrubProfile::Compat, ..ScrubSettings::default() };
    let plan = Plan::new(&compile(&settings).unwrap());
    let mut frames = vec![Frame { key: KeyId::OTHER, index: None, types: TypeSet::of(ValueType::Event) }];
    for word in way.split('.').filter(|word| !word.is_empty()) {
        if let Some(kind) = word.strip_prefix('$') {
            let last = frames.last_mut().unwrap();
            last.types = last.types.with(ValueType::of_name(kind).unwrap());
            continue;
        }
        let index = word.strip_prefix('#').map(|index| index.parse().unwrap());
        frames.push(Frame { key: plan.key(word), index, types: TypeSet::EMPTY });
    }
    let mut found = Vec::new();
    plan.match_paths(&frames, sensitivity, &mut found);
    !plan.applying(&found).rules.is_empty()
}

#[test]
fn paths_match_from_the_end() {
    for (selector, way, expected) in [
        ("foo", "foo", true),
        ("foo", "bar.FOO", true),
        ("foo", "foo.bar", false),
        ("bar.foo", "x.bar.foo", true),
        ("bar.foo", "bar.x.foo", false),
        ("**", "a", true),
        ("**", "", true),
        ("foo.**", "foo", false),
        ("foo.**", "foo.a", true),
        ("foo.**", "x.foo.a.b", true),
        ("x.foo.**", "x.y.foo.a", false),
        ("**.foo", "a.b.foo", true),
        ("foo.**.bar", "foo.a.b.bar", true),
        ("foo.**.bar", "a.b.bar", false),
        ("foo.*", "foo.a", true),
        ("foo.*", "foo.a.b", false),
        ("foo.*.b", "foo.a.b", true),
        ("*.foo", "foo", true),
        ("list.1", "list.#1", true),
        ("list.1", "list.#2", false),
        ("$string", "a.$string", true),
        ("$string", "a.$number", false),
        ("$user.email", "user.$user.email.$string", true),
        ("$user.email", "other.email.$string", false),
        ("$frame.vars.**", "frames.#0.$frame.vars.a.b", true),
        ("$string && !foo.**", "bar.$string", true),
        ("$string && !foo.**", "foo.a.$string", false),
        ("!foo", "bar", true),
        ("a || b", "b", true),
    ] {
        assert_eq!(selects(selector, way, Sensitivity::True), expected, "{selector} on {way}");
    }
}

#[test]
fn only_specific_selectors_reach_fields_that_may_be_sensitive() {
    for (selector, way, expected) in [
        ("$string", "tags.a.$string", false),
        ("**", "tags.a.$string", false),
        ("tags.**", "tags.a.$string", false),
        ("tags.a", "tags.a.$string", true),
        ("tags.*", "tags.a.$string", true),
        ("$http.url", "request.$http.url.$string", true),
        ("request.$string", "request.url.$string", false),
        ("$string || url", "request.url.$string", true),
    ] {
        assert_eq!(selects(selector, way, Sensitivity::Maybe), expected, "{selector} on {way}");
    }
}

#[test]
fn rules_come_in_their_order_and_once() {
    let pii_config: PiiConfig = serde_json::from_value(json!({
        "rules": {"z": {"type": "ip"}, "b": {"type": "email"}},
        "applications": {"$string": ["z"], "!x": ["b", "z"]}
    }))
    .unwrap();
    let settings = ScrubSettings { pii_config: Some(pii_config), ..ScrubSettings::of_new_project() };
    let plan = Plan::new(&compile(&settings).unwrap());
    let frames = [Frame { key: KeyId::OTHER, index: None, types: TypeSet::of(ValueType::String) }];
    let mut found = Vec::new();
    plan.match_paths(&frames, Sensitivity::True, &mut found);
    let applying = plan.applying(&found);
    let ids: Vec<&str> = applying.rules.iter().map(|planned| planned.rule.id.as_ref()).collect();
    assert_eq!(ids[..2], ["b", "z"]);
    assert_eq!(applying.advanced, 2);
    assert!(ids[2..].contains(&"@secretname:filter"));
    assert_ne!(applying.key_bits, 0);
}
