//! Advanced rules: what they reach, what they do, what is said of it.

use super::*;

#[test]
fn a_span_of_a_text_is_replaced_with_its_exact_range() {
    let rules = with_rules(json!({"applications": {"$string": ["@ip"]}}));
    let event = scrubbed(&rules, &json!({"extra": {"é": "é 127.0.0.1 ü"}}));
    assert_eq!(event["extra"]["é"], "é [ip] ü");
    assert_eq!(*meta(&event, "extra/é"), json!({"rem": [["@ip:replace", "s", 3, 7]], "len": 13}));
}

#[test]
fn every_redaction_leaves_its_remark() {
    for (method, text, letter) in [
        (json!({"method": "replace", "text": "-"}), json!("-"), "s"),
        (json!({"method": "mask"}), json!("****"), "m"),
        (json!({"method": "hash"}), json!(null), "p"),
        (json!({"method": "remove"}), json!(null), "x"),
        (json!(null), json!(null), "x"),
    ] {
        let rules = with_rules(json!({
            "rules": {"all": {"type": "anything", "redaction": method}},
            "applications": {"extra.a": ["all"]}
        }));
        let event = scrubbed(&rules, &json!({"extra": {"a": "four", "b": "four"}}));
        if letter == "p" {
            assert_eq!(event["extra"]["a"].as_str().unwrap().len(), 40);
        } else {
            assert_eq!(event["extra"]["a"], text, "{method}");
        }
        assert_eq!(event["extra"]["b"], "four");
        let remark = &meta(&event, "extra/a")["rem"][0];
        assert_eq!((remark[0].as_str().unwrap(), remark[1].as_str().unwrap()), ("all", letter));
    }
}

#[test]
fn containers_and_numbers_can_only_be_removed() {
    let rules = with_rules(json!({
        "rules": {"fill": {"type": "anything", "redaction": {"method": "replace", "text": "-"}}},
        "applications": {"extra.*": ["fill"]}
    }));
    let event = scrubbed(&rules, &json!({"extra": {"o": {"a": 1}, "l": [1], "n": 5, "b": true, "s": "x", "z": null}}));
    assert_eq!(event["extra"], json!({"o": null, "l": null, "n": null, "b": null, "s": "-", "z": null}));
    assert_eq!(*meta(&event, "extra/o"), json!({"rem": [["fill", "x"]]}));
    assert_eq!(*meta(&event, "extra/z"), json!(null));
}

#[test]
fn pair_lists_are_objects_of_their_first_elements() {
    let rules = with_rules(
        json!({"applications": {"request.headers.Cookie || extra.list.secret || tags.mail": ["@anything:filter"]}}),
    );
    let event = scrubbed(
        &rules,
        &json!({
            "request": {"headers": [["Cookie", "a=b"], ["Host", "x"]]},
            "extra": {"list": [["secret", "v"], ["open", "v"]]},
            "tags": [["mail", "a@example.org"], ["other", "x"]]
        }),
    );
    assert_eq!(event["request"]["headers"], json!([["Cookie", "[Filtered]"], ["Host", "x"]]));
    assert_eq!(event["extra"]["list"], json!([["secret", "[Filtered]"], ["open", "v"]]));
    assert_eq!(event["tags"], json!([["mail", "[Filtered]"], ["other", "x"]]));
    assert_eq!(*meta(&event, "request/headers/0/1"), json!({"rem": [["@anything:filter", "s", 0, 10]], "len": 3}));
}

#[test]
fn a_pair_rule_goes_by_key_and_by_value() {
    let rules = with_rules(json!({
        "rules": {"pair": {"type": "redact_pair", "keyPattern": "token|pin", "redaction": {"method": "replace", "text": "#"}}},
        "applications": {"$string || $number || $array || $object": ["pair"]}
    }));
    let event = scrubbed(
        &rules,
        &json!({"extra": {"PIN": "1234", "n": {"pin": 5}, "box": {"tokens": ["a"]}, "t": "the token here", "b": {"pin": true},
            "none": {"pin": ""}, "other": "x"}}),
    );
    assert_eq!(
        event["extra"],
        json!({"PIN": "#", "n": {"pin": null}, "box": {"tokens": null}, "t": "#", "b": {"pin": true}, "none": {"pin": ""},
            "other": "x"})
    );
}

#[test]
fn image_paths_keep_their_last_component() {
    let rules = with_rules(json!({"applications": {"debug_meta.images.*.code_file": ["@anything:hash"],
        "$frame.abs_path": ["@userpath"], "$frame.filename": ["@anything:remove"]}}));
    let event = scrubbed(
        &rules,
        &json!({
            "debug_meta": {"images": [{"type": "elf", "code_file": "/home/eve/lib/libx.so"}]},
            "exception": {"values": [{"stacktrace": {"frames": [
                {"abs_path": "C:\\Users\\eve\\x.exe", "filename": "secret/dir/main.c"}
            ]}}]}
        }),
    );
    let code_file = event["debug_meta"]["images"][0]["code_file"].as_str().unwrap();
    assert!(code_file.ends_with("/libx.so") && code_file.len() == 40 + 8, "{code_file}");
    let frame = &event["exception"]["values"][0]["stacktrace"]["frames"][0];
    assert_eq!(frame["abs_path"], "C:\\Users\\[user]\\x.exe");
    assert_eq!(frame["filename"], "main.c");
}

#[test]
fn fields_that_may_be_sensitive_need_a_selector_that_names_them() {
    let event = json!({"tags": {"a": "1.2.3.4"}, "culprit": "1.2.3.4", "request": {"url": "http://1.2.3.4/"},
        "release": "1.2.3.4", "unknown": {"x": "1.2.3.4"}});
    let generic = scrubbed(&with_rules(json!({"applications": {"** || $string || tags.**": ["@ip"]}})), &event);
    assert_eq!(generic["tags"]["a"], "1.2.3.4");
    assert_eq!(generic["culprit"], "1.2.3.4");
    assert_eq!(generic["request"]["url"], "http://1.2.3.4/");
    assert_eq!(generic["unknown"]["x"], "[ip]");
    let named =
        scrubbed(&with_rules(json!({"applications": {"tags.* || culprit || $http.url || release": ["@ip"]}})), &event);
    assert_eq!(named["tags"]["a"], "[ip]");
    assert_eq!(named["culprit"], "[ip]");
    assert_eq!(named["request"]["url"], "http://[ip]/");
    assert_eq!(named["release"], "1.2.3.4");
}

#[test]
fn types_of_the_schema_select_their_values() {
    let event = json!({
        "user": {"email": "a@example.org", "data": {"x": "a@example.org"}},
        "logentry": {"formatted": "a@example.org"},
        "breadcrumbs": {"values": [{"message": "a@example.org"}]},
        "exception": {"values": [{"type": "E", "value": "a@example.org",
            "stacktrace": {"frames": [{"vars": {"x": "a@example.org"}}]}}]},
        "threads": {"values": [{"stacktrace": {"frames": [{"vars": {"x": "a@example.org"}}]}}]}
    });
    for (selector, path) in [
        ("$user.email", "user/email"),
        ("$user.data.x", "user/data/x"),
        ("$logentry.formatted", "logentry/formatted"),
        ("$logentry.$message", "logentry/formatted"),
        ("$breadcrumb.message", "breadcrumbs/values/0/message"),
        ("$error.value", "exception/values/0/value"),
        ("exception.values.0.value", "exception/values/0/value"),
        ("$error.**.vars.x", "exception/values/0/stacktrace/frames/0/vars/x"),
        ("$thread.**.$frame.vars.x", "threads/values/0/stacktrace/frames/0/vars/x"),
        ("$event.**.formatted", "logentry/formatted"),
    ] {
        let event = scrubbed(&with_rules(json!({"applications": {selector: ["@email"]}})), &event);
        assert_eq!(at(&event, path), "[email]", "{selector}");
        assert_eq!(event.to_string().matches("[email]").count(), 1, "{selector}");
    }
}

#[test]
fn a_redacted_address_becomes_the_id_of_a_user_who_has_nothing_else() {
    let rules = with_rules(json!({"applications": {"user.ip_address": ["@ip:hash"]}}));
    let event = scrubbed(&rules, &json!({"user": {"ip_address": "127.0.0.1"}}));
    assert_eq!(event["user"]["id"].as_str().unwrap().len(), 40);
    assert!(is_null_or_missing(&event["user"]["ip_address"]));
    assert_eq!(*meta(&event, "user/ip_address"), json!({"rem": [["pii:ip_address", "x"]]}));
    assert_eq!(meta(&event, "user/id")["rem"], json!([["@ip:hash", "p", 0, 40]]));
    let event = scrubbed(&rules, &json!({"user": {"ip_address": "127.0.0.1", "username": "eve"}}));
    assert_eq!(event["user"]["ip_address"].as_str().unwrap().len(), 40);
    assert!(is_null_or_missing(&event["user"]["id"]));
}

#[test]
fn the_address_moves_before_the_switches_would_remove_it() {
    let mut settings = compat();
    settings.pii_config =
        Some(serde_json::from_value(json!({"applications": {"user.ip_address": ["@ip:hash"]}})).unwrap());
    let event = scrubbed(&settings, &json!({"user": {"ip_address": "127.0.0.1"}}));
    assert_eq!(event["user"]["id"].as_str().unwrap().len(), 40);
}

#[test]
fn original_values_in_annotations_are_scrubbed() {
    let rules = with_rules(json!({"applications": {"$string": ["@email"]}}));
    let event = scrubbed(
        &rules,
        &json!({
            "extra": {"x": null, "list": [["k", null]]},
            "_meta": {"extra": {
                "x": {"": {"err": [["invalid_data", {"reason": "not a@example.org"}]], "val": {"deep": ["a@example.org"]}}},
                "list": {"0": {"1": {"": {"err": ["invalid_data"], "val": "a@example.org"}}}}
            }}
        }),
    );
    assert!(!event.to_string().contains("a@example.org"), "{event}");
    assert_eq!(meta(&event, "extra/x")["val"]["deep"][0], "[email]");
}

#[test]
fn graphql_variables_and_what_comes_back_under_their_names_go() {
    let event = json!({
        "request": {"api_target": "graphql", "data": {"query": "q", "variables": {"city": "Ulm", "n": 5}}},
        "contexts": {"response": {"data": {"data": {"user": {"city": "Ulm", "age": 3}}}}}
    });
    let scrubbed_event = scrubbed(&compat(), &event);
    assert_eq!(scrubbed_event["request"]["data"]["variables"], json!({"city": "[Filtered]", "n": "[Filtered]"}));
    assert_eq!(scrubbed_event["contexts"]["response"]["data"]["data"]["user"], json!({"city": "[Filtered]", "age": 3}));
    let without = json!({
        "request": {"api_target": "graphql", "data": {"query": "q"}},
        "contexts": {"response": {"data": {"data": {"user": 1}}}}
    });
    assert!(is_null_or_missing(&scrubbed(&compat(), &without)["contexts"]["response"]["data"]));
}

#[test]
fn remarks_of_others_stay_and_rules_do_not_touch_what_they_cover() {
    let rules = with_rules(json!({"applications": {"$string": ["@ip"]}}));
    let event = scrubbed(
        &rules,
        &json!({"extra": {"x": "ab 1.2.3.4..."}, "_meta": {"extra": {"x": {"": {"rem": [["!limit", "s", 10, 13]], "len": 400}}}}}),
    );
    assert_eq!(event["extra"]["x"], "ab [ip]...");
    assert_eq!(
        *meta(&event, "extra/x"),
        json!({"rem": [["@ip:replace", "s", 3, 7], ["!limit", "s", 7, 10]], "len": 400})
    );
}
