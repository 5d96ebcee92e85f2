//! The switches under the compatible profile: what the reference does with them, holes included.

use super::*;

#[test]
fn default_rules_do_what_existing_projects_expect() {
    let event = json!({
        "extra": {"password": "hunter2", "author": "Eve", "note": "my password is x", "n": {"api_key": 5}, "flag": {"secret": true},
            "card": "paid with 4111-1111-1111-1112 today", "mail": "a@example.org", "url": "http://eve:pw@example.org/",
            "auth": "true", "total_tokens": 7},
        "user": {"ip_address": "1.2.3.4", "email": "a@example.org"},
        "request": {"env": {"REMOTE_ADDR": "1.2.3.4", "X": "1.2.3.4"}, "headers": [["User-Agent", "secret 1.2.3.4"]],
            "cookies": [["sessionid", "abc"], ["theme", "dark"]]},
        "logentry": {"formatted": "password=x a@example.org 1.2.3.4 4111111111111111"},
        "exception": {"values": [{"type": "E", "value": "password=x a@example.org"}]},
        "tags": [["password", "hunter2"]]
    });
    let scrubbed = scrubbed(&compat(), &event);
    let extra = &scrubbed["extra"];
    for (key, expected) in [
        ("password", json!("[Filtered]")),
        ("author", json!("[Filtered]")),
        ("note", json!("[Filtered]")),
        ("n", json!({"api_key": null})),
        ("flag", json!({"secret": true})),
        ("card", json!("paid with [Filtered] today")),
        ("mail", json!("a@example.org")),
        ("url", json!("http://eve:[Filtered]@example.org/")),
        ("auth", json!("true")),
        ("total_tokens", json!(7)),
    ] {
        assert_eq!(extra[key], expected, "{key}");
    }
    assert!(is_null_or_missing(&scrubbed["user"]["ip_address"]));
    assert_eq!(*meta(&scrubbed, "user/ip_address"), json!({"rem": [["@anything:remove", "x"]], "len": 7}));
    assert_eq!(scrubbed["user"]["email"], "a@example.org");
    assert_eq!(scrubbed["request"]["env"], json!({"REMOTE_ADDR": null, "X": "[ip]"}));
    assert_eq!(scrubbed["request"]["headers"][0][1], "secret 1.2.3.4");
    assert_eq!(scrubbed["request"]["cookies"], json!([["sessionid", "[Filtered]"], ["theme", "dark"]]));
    assert_eq!(scrubbed["logentry"]["formatted"], "password=x [email] 1.2.3.4 [creditcard]");
    assert_eq!(scrubbed["exception"]["values"][0]["value"], "password=x a@example.org");
    assert_eq!(scrubbed["tags"], json!([["password", "hunter2"]]));
}

#[test]
fn sensitive_and_excluded_fields_are_heeded() {
    let mut settings = compat();
    settings.datascrubbing_settings.sensitive_fields = vec!["badge".to_owned()];
    settings.datascrubbing_settings.exclude_fields = vec!["author".to_owned(), "extra.box.**".to_owned()];
    let event = scrubbed(
        &settings,
        &json!({"extra": {"Badge_No": "7", "say": "the badge of Eve", "author": "Eve", "box": {"password": "x"}, "password": "x"}}),
    );
    assert_eq!(
        event["extra"],
        json!({"Badge_No": "[Filtered]", "say": "[Filtered]", "author": "Eve", "box": {"password": "x"}, "password": "[Filtered]"})
    );
}

#[test]
fn with_all_switches_off_nothing_changes() {
    let mut settings = compat();
    let switches = &mut settings.datascrubbing_settings;
    (switches.scrub_data, switches.scrub_defaults, switches.scrub_ip_addresses) =
        (Some(false), Some(false), Some(false));
    let event = json!({"extra": {"password": "x"}, "user": {"ip_address": "1.2.3.4"}});
    assert_eq!(scrubbed(&settings, &event), event);
}
