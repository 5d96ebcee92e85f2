#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::pii::settings::{PiiConfig, ScrubProfile};

fn settings(config: &Value) -> ScrubSettings {
    let pii_config = PiiConfig {
        rules: serde_json::from_value(config.get("rules").cloned().unwrap_or_else(|| json!({}))).unwrap(),
        applications: serde_json::from_value(config.get("applications").cloned().unwrap_or_else(|| json!({}))).unwrap(),
        vars: Value::Null,
    };
    ScrubSettings { pii_config: Some(pii_config), scrub_profile: ScrubProfile::Compat, ..ScrubSettings::default() }
}

fn compiled(config: &Value) -> Vec<CompiledApplication> {
    compile(&settings(config)).unwrap().advanced
}

fn refused(config: &Value) -> String {
    validate(&settings(config)).unwrap_err().to_string()
}

#[test]
fn every_rule_type_and_redaction_compiles() {
    for kind in [
        "anything",
        "imei",
        "mac",
        "uuid",
        "email",
        "ip",
        "creditcard",
        "iban",
        "userpath",
        "pemkey",
        "url_auth",
        "us_ssn",
        "bearer",
        "password",
        "cookies",
    ] {
        for (method, redaction) in [
            (json!(null), Redaction::Default),
            (json!({"method": "default"}), Redaction::Default),
            (json!({"method": "remove"}), Redaction::Remove),
            (json!({"method": "replace"}), Redaction::Replace("[Filtered]".into())),
            (json!({"method": "replace", "text": "-"}), Redaction::Replace("-".into())),
            (json!({"method": "mask"}), Redaction::Mask),
            (json!({"method": "hash"}), Redaction::Hash),
        ] {
            let config =
                json!({"rules": {"r": {"type": kind, "redaction": method}}, "applications": {"$string": ["r"]}});
            validate(&settings(&config)).unwrap();
            assert_eq!(compiled(&config)[0].rules[0].redaction, redaction, "{kind}");
        }
    }
}

#[test]
fn selectors_are_sorted_and_rules_are_sorted_by_id() {
    let all = compiled(&json!({
        "rules": {"b": {"type": "ip"}, "a": {"type": "email"}},
        "applications": {"$string": ["b", "a", "@iban"], "(a && b)": ["b"], "!c": ["a"], "a.b": ["a"], "(a || b)": ["a"]}
    }));
    let order: Vec<String> = all.iter().map(|application| application.selector.to_string()).collect();
    assert_eq!(order, ["(a && b)", "(a || b)", "!c", "$string", "a.b"]);
    let ids: Vec<&str> = all[3].rules.iter().map(|rule| rule.id.as_ref()).collect();
    assert_eq!(ids, ["@iban:replace", "a", "b"]);
}

#[test]
fn inner_rules_are_shown_or_hidden() {
    let of = |rule: Value| {
        let config = json!({"rules": {"outer": rule, "inner": {"type": "ip", "redaction": {"method": "mask"}}},
            "applications": {"$string": ["outer"]}});
        let rule = compiled(&config)[0].rules[0].clone();
        (rule.id.into_owned(), rule.remark_id.into_owned(), rule.redaction)
    };
    let inner = || "inner".to_owned();
    let outer = || "outer".to_owned();
    assert_eq!(of(json!({"type": "alias", "rule": "inner"})), (inner(), inner(), Redaction::Mask));
    assert_eq!(of(json!({"type": "alias", "rule": "inner", "hideInner": true})), (inner(), outer(), Redaction::Mask));
    assert_eq!(
        of(json!({"type": "multiple", "rules": ["inner"], "hideInner": true, "redaction": {"method": "hash"}})),
        (inner(), outer(), Redaction::Hash)
    );
    assert_eq!(
        of(json!({"type": "multiple", "rules": ["inner"], "redaction": {"method": "hash"}})),
        (inner(), inner(), Redaction::Mask)
    );
}

#[test]
fn what_a_hiding_rule_says_goes_through_rules_that_show_theirs() {
    // As in docs/scrubbing.md: `@email` stands for `@email:replace`, and stands between.
    let of = |rule: Value| {
        let config = json!({"rules": {"ours": rule, "between": {"type": "alias", "rule": "@ip", "redaction": {"method": "hash"}}},
            "applications": {"$string": ["ours"]}});
        let rule = compiled(&config)[0].rules[0].clone();
        (rule.id.into_owned(), rule.remark_id.into_owned(), rule.redaction)
    };
    let ours = || "ours".to_owned();
    assert_eq!(
        of(json!({"type": "multiple", "rules": ["@email"], "hideInner": true})),
        ("@email:replace".to_owned(), ours(), Redaction::Replace("[email]".into()))
    );
    assert_eq!(
        of(json!({"type": "alias", "rule": "@email", "hideInner": true, "redaction": {"method": "mask"}})),
        ("@email:replace".to_owned(), ours(), Redaction::Mask)
    );
    assert_eq!(
        of(json!({"type": "alias", "rule": "between", "hideInner": true})),
        ("@ip:replace".to_owned(), ours(), Redaction::Replace("[ip]".into()))
    );
}

#[test]
fn rules_that_include_very_many_others_are_refused_and_those_that_include_many_cost_what_they_list() {
    let wide = |count: usize| {
        let ids: Vec<String> = (0..count).map(|number| format!("r{number}")).collect();
        let rules = ids.iter().map(|id| (id.clone(), json!({"type": "multiple", "rules": ids})));
        let mut rules = serde_json::Map::from_iter(rules);
        rules.insert("leaf".to_owned(), json!({"type": "multiple", "rules": ["@ip"]}));
        rules.insert("r0".to_owned(), json!({"type": "alias", "rule": "leaf"}));
        json!({"rules": rules, "applications": {"$string": ids}})
    };
    assert!(refused(&wide(80)).contains("included rules; at most 5000"));
    assert_eq!(compiled(&wide(70))[0].rules.len(), 1);
    let ids = vec!["@ip"; 5001];
    assert!(refused(&json!({"applications": {"$string": ids}})).contains("5001 applied rules"));
}

#[test]
fn too_many_sensitive_names_are_not_blamed_on_a_rule_that_nobody_wrote() {
    let mut settings = settings(&json!({}));
    settings.datascrubbing_settings.scrub_data = Some(true);
    settings.datascrubbing_settings.sensitive_fields =
        (0..20_000).map(|number| format!("field_number_{number}")).collect();
    let error = validate(&settings).unwrap_err().to_string();
    assert!(error.contains("20000 `sensitiveFields`") && !error.contains("strip-fields"), "{error}");
}

#[test]
fn rules_may_include_each_other_in_a_circle() {
    let all = compiled(&json!({
        "rules": {"a": {"type": "multiple", "rules": ["b", "@ip"]}, "b": {"type": "alias", "rule": "a"}},
        "applications": {"$string": ["a"]}
    }));
    assert_eq!(all[0].rules.len(), 1);
}

#[test]
fn inclusion_is_bounded() {
    let mut rules = serde_json::Map::new();
    for depth in 0..300 {
        rules.insert(format!("r{depth}"), json!({"type": "alias", "rule": format!("r{}", depth + 1)}));
    }
    rules.insert("r300".to_owned(), json!({"type": "ip"}));
    let error = compile(&settings(&json!({"rules": rules}))).unwrap_err().to_string();
    assert!(error.contains("200 deep"), "{error}");
}

#[test]
fn errors_name_the_rule_or_the_selector() {
    for (config, words) in [
        (json!({"rules": {"order": {"type": "pattern", "pattern": "("}}}), vec!["`order`", "unclosed"]),
        (json!({"rules": {"order": {"type": "pattern", "pattern": "(?:a{1000}){1000}"}}}), vec!["`order`", "bytes"]),
        (
            json!({"rules": {"order": {"type": "pattern", "pattern": "a", "replaceGroups": [2]}}}),
            vec!["`order`", "group 2"],
        ),
        (json!({"rules": {"order": {"type": "pattern"}}}), vec!["`order`", "needs `pattern`"]),
        (json!({"rules": {"order": {"type": "redact_pair"}}}), vec!["`order`", "keyPattern"]),
        (json!({"rules": {"order": {"type": "redact_pair", "keyPattern": "["}}}), vec!["`order`", "unclosed"]),
        (json!({"rules": {"order": {"type": "emial"}}}), vec!["`order`", "`emial`"]),
        (json!({"rules": {"order": {"pattern": "a"}}}), vec!["`order`", "`type`"]),
        (
            json!({"rules": {"order": {"type": "ip", "redaction": {"method": "blur"}}}}),
            vec!["`order`", "redaction method"],
        ),
        (json!({"rules": {"order": {"type": "alias", "rule": "nope"}}}), vec!["`order`", "`nope`"]),
        (json!({"rules": {"order": "email"}}), vec!["`order`", "object such as"]),
        (json!({"rules": {"order": {"type": "ip", "redaction": "mask"}}}), vec!["`order`", "object such as", "method"]),
        (
            json!({"rules": {"order": {"type": "ip", "redaction": {"method": "replace", "txt": "-"}}}}),
            vec!["`order`", "`txt`", "method, text"],
        ),
        (
            json!({"rules": {"order": {"type": "pattern", "pattern": "(a)b", "replace_groups": [1]}}}),
            vec!["`order`", "`replace_groups`", "replaceGroups"],
        ),
        (json!({"applications": {"a &&": ["@ip"]}}), vec!["`a &&`", "character 5"]),
        (json!({"applications": {"$string": ["@ipp"]}}), vec!["`$string`", "`@ipp`"]),
        (json!({"applications": {"$string": "@ip"}}), vec!["`$string`", "list"]),
    ] {
        let error = refused(&config);
        for word in words {
            assert!(error.contains(word), "{config}: {error}");
        }
    }
}

#[test]
fn a_relay_passes_over_what_it_does_not_know() {
    let all = compiled(&json!({
        "rules": {"new": {"type": "novelty"}, "odd": {"type": "ip", "redaction": {"method": "blur"}}},
        "applications": {"$string": ["new", "nowhere", "odd"]}
    }));
    assert_eq!(all[0].rules.len(), 1);
    assert_eq!(all[0].rules[0].redaction, Redaction::Unknown);
}

#[test]
fn the_number_of_rules_is_bounded() {
    let rules: serde_json::Map<String, Value> =
        (0..501).map(|number| (format!("r{number}"), json!({"type": "ip"}))).collect();
    assert!(refused(&json!({"rules": rules})).contains("501 rules"));
}

#[test]
fn built_in_rules_carry_their_own_ids() {
    let all = compiled(&json!({"applications": {"$string": ["@common"]}}));
    let ids: Vec<&str> = all[0].rules.iter().map(|rule| rule.remark_id.as_ref()).collect();
    assert_eq!(
        ids,
        [
            "@bearer:filter",
            "@creditcard:filter",
            "@iban:filter",
            "@password:filter",
            "@pemkey:filter",
            "@urlauth:legacy",
            "@usssn:filter",
        ]
    );
}
