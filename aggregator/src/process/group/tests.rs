use super::*;
use serde_json::json;

fn names(event: &Value) -> Vec<&'static str> {
    group(event).variants.iter().map(|variant| variant.name).collect()
}

fn same(one: &Value, other: &Value) -> bool {
    let other = group(other).hashes();
    group(one).hashes().iter().any(|hash| other.contains(hash))
}

fn error(frames: Value) -> Value {
    json!({"exception": {"values": [{"type": "KeyError", "value": "'total'", "stacktrace": {"frames": frames}}]}})
}

#[test]
fn the_hash_is_md5_over_the_values_without_separator() {
    let event = json!({"fingerprint": ["ab", "c"]});
    assert_eq!(group(&event).variants[0].hash.to_string(), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(group(&json!({})).variants[0].hash.to_string(), "d41d8cd98f00b204e9800998ecf8427e");
}

#[test]
fn line_numbers_values_and_library_frames_do_not_split_an_issue() {
    let one = error(json!([{"module": "lib", "function": "call", "in_app": false, "lineno": 1},
                           {"module": "shop", "function": "add", "in_app": true, "lineno": 10}]));
    let mut other = error(json!([{"module": "lib.v2", "function": "call", "in_app": false},
                                 {"module": "shop", "function": "add", "in_app": true, "lineno": 99}]));
    other["exception"]["values"][0]["value"] = json!("'sum'");
    assert!(same(&one, &other));
    assert_eq!(names(&one), ["app", "system"]);
}

#[test]
fn another_function_type_or_file_is_another_issue() {
    let one = error(json!([{"filename": "/srv/v1/Cart.py", "function": "add", "in_app": true}]));
    assert!(same(&one, &error(json!([{"filename": "C:\\app\\cart.py", "function": "add", "in_app": true}]))));
    assert!(!same(&one, &error(json!([{"filename": "/srv/v1/cart.py", "function": "remove", "in_app": true}]))));
    assert!(!same(&one, &error(json!([{"filename": "/srv/v1/order.py", "function": "add", "in_app": true}]))));
    let mut renamed = one.clone();
    renamed["exception"]["values"][0]["type"] = json!("ValueError");
    assert!(!same(&one, &renamed));
}

#[test]
fn without_in_app_frames_all_frames_count() {
    let event = error(json!([{"module": "lib", "function": "call"}]));
    assert_eq!(names(&event), ["system"]);
    assert!(!same(&event, &error(json!([{"module": "lib", "function": "other"}]))));
}

#[test]
fn an_exception_without_frames_goes_by_type_and_value() {
    let event = |value: &str| json!({"exception": [{"type": "Timeout", "value": value}]});
    assert_eq!(names(&event("a")), ["app"]);
    assert!(same(&event("a"), &event("a")));
    assert!(!same(&event("a"), &event("b")));
}

#[test]
fn every_exception_of_a_chain_counts() {
    let chain = |cause: &str| json!({"exception": {"values": [{"type": cause, "value": "x"}, {"type": "Wrapper", "value": "y"}]}});
    assert!(!same(&chain("IoError"), &chain("KeyError")));
}

#[test]
fn messages_go_by_their_template() {
    let event = |user: &str| json!({"logentry": {"message": "hello %s", "params": [user], "formatted": format!("hello {user}")}});
    assert!(same(&event("ada"), &event("grace")));
    assert_eq!(names(&event("ada")), ["default"]);
    assert!(same(&json!({"message": "plain"}), &json!({"logentry": {"formatted": "plain"}})));
}

#[test]
fn a_fingerprint_replaces_or_refines_the_default() {
    let frames = json!([{"module": "shop", "function": "add", "in_app": true}]);
    let with = |fingerprint: Value| {
        let mut event = error(frames.clone());
        event["fingerprint"] = fingerprint;
        event
    };
    assert_eq!(names(&with(json!(["checkout", 7]))), ["custom_client_fingerprint"]);
    assert!(same(&with(json!(["checkout"])), &json!({"message": "x", "fingerprint": ["checkout"]})));
    assert!(same(&with(json!(["{{ default }}"])), &error(frames.clone())));
    assert!(!same(&with(json!(["{{default}}", "eu"])), &error(frames.clone())));
    assert!(same(&with(json!(["{{default}}", "eu"])), &with(json!(["{{ default }}", "eu"]))));
    assert!(same(&with(json!([])), &error(frames)));
}

#[test]
fn fields_of_the_wrong_type_never_panic() {
    for event in [
        json!(null),
        json!({"exception": 1}),
        json!({"exception": {"values": [1, null, {"type": {}, "stacktrace": {"frames": [[], 1]}}]}}),
        json!({"fingerprint": "x", "message": []}),
    ] {
        assert!(!group(&event).hashes().is_empty());
    }
}
