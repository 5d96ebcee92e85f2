//! What got past the rules once.

use super::*;
use crate::scrub::dry_run::dry_run;

/// An object so many levels deep, as a value of a bag is nested.
fn nested(levels: usize, innermost: Value) -> Value {
    (0..levels).fold(innermost, |inner, _| json!({"a": inner}))
}

/// An event after normalisation and scrubbing, as the relay does both.
fn normalised_and_scrubbed(settings: &ScrubSettings, event: &Value) -> String {
    let now = Timestamp::now();
    let run = |event: &str| serde_json::to_string(&dry_run(settings, event.as_bytes(), now).unwrap().event).unwrap();
    let once = run(&event.to_string());
    assert_eq!(once, run(&once), "{:?}: a second run changes something", settings.scrub_profile);
    once
}

#[test]
fn what_is_nested_too_deep_is_scrubbed_as_the_text_that_it_becomes() {
    let secrets = json!({"password": "hunter2", "card": "4111111111111111", "pin": {"token": ["hunter2"]}});
    let deep = nested(12, secrets);
    let event = json!({
        "event_id": "0".repeat(31) + "1",
        "extra": deep, "contexts": {"shop": deep}, "user": {"id": "7", "data": deep},
        "request": {"data": deep}, "breadcrumbs": {"values": [{"data": deep}]},
        "exception": {"values": [{"type": "E", "stacktrace": {"frames": [{"function": "f", "vars": deep}]}}]}
    });
    for settings in [strict(), compat()] {
        let out = normalised_and_scrubbed(&settings, &event);
        assert!(out.contains("!limit"), "{out}");
        assert!(!out.contains("hunter2") && !out.contains("4111111111111111"), "{out}");
    }
}

#[test]
fn a_client_can_not_hide_a_secret_by_saying_that_it_is_redacted() {
    for remark in [
        json!(["!limit", "s", 0, 16]),
        json!(["x", "s", 0, 16]),
        json!(["@password:filter", "m", 0, 16]),
        json!(["@ip:hash", "p", 0, 16]),
        json!(["x", "e", 0, 16]),
        json!(["x", "x", 0, 16]),
    ] {
        let event =
            json!({"extra": {"note": "password=hunter2"}, "_meta": {"extra": {"note": {"": {"rem": [remark]}}}}});
        for settings in [strict(), compat()] {
            let event = scrubbed(&settings, &event);
            assert!(!event.to_string().contains("hunter2"), "{remark}: {event}");
        }
    }
}

#[test]
fn errors_and_rules_in_annotations_hold_no_secrets() {
    let event = json!({
        "extra": {"x": null, "password": null},
        "_meta": {"extra": {
            "x": {"": {"err": ["jane@example.com password=hunter2", ["invalid_data", {"password": "hunter2", "reason": "card 4111111111111111"}]],
                "rem": [["jane.doe@example.com", "x"], ["@email:replace", "x"], ["!config", "s"], ["own-rule.2", "x"]]}},
            "password": {"": {"err": [["invalid_data", {"reason": "not hunter2"}]]}}
        }}
    });
    for settings in [strict(), compat()] {
        let event = scrubbed(&settings, &event);
        let text = event.to_string();
        for secret in ["hunter2", "jane", "4111111111111111"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(
            meta(&event, "extra/x")["rem"],
            json!([["@email:replace", "x"], ["!config", "s"], ["own-rule.2", "x"]])
        );
        assert_eq!(meta(&event, "extra/x")["err"][0], "unknown_error");
        assert_eq!(meta(&event, "extra/x")["err"][1][0], "invalid_data");
    }
}

#[test]
fn the_query_of_a_page_that_a_frame_names_is_scrubbed() {
    let frame = |path: &str| json!({"exception": {"values": [{"stacktrace": {"frames": [{"abs_path": path, "filename": path}]}}]}});
    for (path, expected) in [
        (
            "https://shop.example/reset?email=jane@example.com&token=s3cr3t&page=2",
            "https://shop.example/reset?email=[Filtered]&token=[Filtered]&page=2",
        ),
        ("https://shop.example/a?next=/x/jane@example.com", "https://shop.example/a?next=/x/[email]"),
        ("https://shop.example/app.js#access_token=s3cr3t", "https://shop.example/app.js#access_token=[Filtered]"),
        ("reset?token=s3cr3t", "reset?token=[Filtered]"),
        ("webpack:///./src/app.vue?a1b2", "webpack:///./src/app.vue?a1b2"),
        ("https://shop.example/app@2.0.beta/main.js", "https://shop.example/app@2.0.beta/main.js"),
        ("/home/jane/C#/main.cs", "/home/[user]/C#/main.cs"),
        (r"\Device\HarddiskVolume3\Users\Jane Doe\app.exe", r"\Device\HarddiskVolume3\Users\[user]\app.exe"),
        (r"\\?\C:\Users\Jane Doe\app.exe", r"\\?\C:\Users\[user]\app.exe"),
    ] {
        let event = scrubbed(&strict(), &frame(path));
        let frame = at(&event, "exception/values/0/stacktrace/frames/0");
        assert_eq!((&frame["abs_path"], &frame["filename"]), (&json!(expected), &json!(expected)));
    }
    let excluded = || {
        let mut settings = strict();
        settings.datascrubbing_settings.exclude_fields = vec!["abs_path".to_owned()];
        settings
    };
    let event = scrubbed(&excluded(), &frame("https://h.example/x?email=jane@example.com"));
    assert_eq!(
        at(&event, "exception/values/0/stacktrace/frames/0/abs_path"),
        "https://h.example/x?email=jane@example.com"
    );
}

#[test]
fn parameters_of_a_message_are_secret_by_their_places() {
    for (template, params, expected) in [
        ("login %s password=%s", json!(["joe", "hunter2"]), json!(["joe", "[Filtered]"])),
        ("login {} with token={} of {}", json!(["joe", "hunter2", 7]), json!(["joe", "[Filtered]", 7])),
        ("a={1} password={0}", json!(["hunter2", "x"]), json!(["[Filtered]", "x"])),
        ("asked https://%s:%s@h.example/", json!(["hunter2", "hunter2"]), json!(["[auth]", "[auth]"])),
        ("password=%s, auth=%s", json!([5, null]), json!([null, null])),
        ("%s: %s", json!(["password", "joe"]), json!(["password", "joe"])),
    ] {
        let event = scrubbed(&strict(), &json!({"logentry": {"message": template, "params": params}}));
        assert_eq!(event["logentry"]["params"], expected, "{template}");
        assert!(!event.to_string().contains("hunter2"), "{event}");
    }
    let entry = json!({"logentry": {"message": "the password=%s", "params": ["hunter2"]}});
    let event = scrubbed(&strict(), &entry);
    assert_eq!(*meta(&event, "logentry/params/0"), json!({"rem": [["@secretpair:filter", "s", 0, 10]], "len": 7}));
    let mut excluding = strict();
    excluding.datascrubbing_settings.exclude_fields = vec!["params.*".to_owned()];
    assert_eq!(scrubbed(&excluding, &entry)["logentry"]["params"], json!(["hunter2"]));
    assert_eq!(scrubbed(&compat(), &entry)["logentry"]["params"], json!(["hunter2"]));
}

#[test]
fn names_with_spaces_go_from_paths_as_a_whole() {
    let path = r"C:\Users\Jane Doe\app.exe";
    let event = json!({
        "exception": {"values": [{"stacktrace": {"frames": [{"abs_path": path, "filename": path, "package": path}]}}]},
        "debug_meta": {"images": [{"type": "pe", "code_file": path, "debug_file": path}]}
    });
    let event = scrubbed(&strict(), &event);
    assert_eq!(event.to_string().matches(r"C:\\Users\\[user]\\app.exe").count(), 5, "{event}");
    let remark = &meta(&event, "debug_meta/images/0/code_file");
    assert_eq!(**remark, json!({"rem": [["@homepath:replace", "s", 9, 15]], "len": 25}));
}
