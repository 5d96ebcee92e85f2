//! `picket-relay scrub`: rules are tried with nothing but the program and an event.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::process::Command;

use picket_tests::executable::{Build, find};
use picket_tests::program::Finished;
use serde_json::{Value, json};

/// Runs the command in an empty directory, with a home directory and configuration that are not there.
fn scrub(arguments: &[&str], settings: Option<&Value>, event: &str) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    let event_file = directory.path().join("event.json");
    fs::write(&event_file, event).unwrap();
    let mut command = Command::new(find("picket-relay", Build::Normal));
    command.arg("scrub").args(arguments).current_dir(directory.path()).env("HOME", "/nonexistent");
    if let Some(settings) = settings {
        let file = directory.path().join("settings.json");
        fs::write(&file, settings.to_string()).unwrap();
        command.arg("--settings").arg(file);
    }
    let output = command.stdin(File::open(&event_file).unwrap()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let finished = Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1 + usize::from(settings.is_some()), "the command left something behind: {left:?}");
    finished
}

const EVENT: &str = r#"{"message": "login failed, password=hunter2", "extra": {"author": "Eve"}, "user": {"ip_address": "203.0.113.7"}}"#;

#[test]
fn an_event_is_shown_without_what_goes_and_why_it_goes() {
    let run = scrub(&[], None, EVENT);
    assert!(run.stderr.contains("user.ip_address: removed by @anything:remove"), "{}", run.stderr);
    assert!(run.stderr.contains("logentry.formatted: replaced by "), "{}", run.stderr);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let event = run.json();
    assert_eq!(event["logentry"]["formatted"], "login failed, password=[Filtered]");
    assert_eq!(event["extra"]["author"], "Eve");
    assert_eq!(event["user"]["ip_address"], Value::Null);
    assert_eq!(event["_meta"]["user"]["ip_address"][""]["rem"], json!([["@anything:remove", "x"]]));
}

#[test]
fn settings_and_profile_are_heeded() {
    let settings = json!({
        "datascrubbingSettings": {"scrubData": true, "scrubDefaults": true, "scrubIpAddresses": false},
        "piiConfig": {"applications": {"user.ip_address": ["@ip:hash"]}}
    });
    let answer = scrub(&["--profile", "compat", "--json"], Some(&settings), EVENT).json();
    assert_eq!(answer["event"]["extra"]["author"], "[Filtered]");
    assert_eq!(answer["event"]["user"]["id"].as_str().unwrap().len(), 40);
    let remarks = answer["remarks"].as_array().unwrap();
    let of_author = remarks.iter().find(|remark| remark["path"] == "extra.author").unwrap();
    assert_eq!(
        *of_author,
        json!({"path": "extra.author", "rule": "@password:filter", "type": "s", "start": 0, "end": 10})
    );
}

#[test]
fn what_can_not_be_used_is_refused_by_name() {
    let broken = json!({"piiConfig": {"rules": {"order": {"type": "pattern", "pattern": "(["}}}});
    assert!(scrub(&[], Some(&broken), EVENT).failed().contains("rule `order`"));
    let unknown = json!({"piiConfig": {"applications": {"$strnig": ["@ip"]}}});
    assert!(scrub(&[], Some(&unknown), EVENT).failed().contains("`$strnig`: at character 1"));
    let misspelt = json!({"datascrubbingSettings": {"scrubData": false}, "piiconfig": {}});
    let complaint = scrub(&[], Some(&misspelt), EVENT).failed();
    assert!(complaint.contains("settings.json") && complaint.contains("piiconfig: unknown setting"), "{complaint}");
    assert!(scrub(&[], Some(&json!([])), EVENT).failed().contains("expected a JSON object"));
    let complaint = scrub(&[], None, "hunter2").failed();
    assert!(complaint.contains("event") && !complaint.contains("hunter2"), "{complaint}");
    assert!(scrub(&["--profile", "loose"], None, EVENT).failed().contains("`loose`"));
}
