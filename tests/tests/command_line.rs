//! The commands: what operators and their scripts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use serde_json::Value;

/// Keys of an object.
#[track_caller]
fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}")).keys().map(String::as_str).collect()
}

#[track_caller]
fn assert_has(value: &Value, wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|key| !keys(value).contains(*key)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {value}");
}

#[test]
fn init_prints_the_password_once_and_changes_nothing_when_repeated() {
    let mut installation = Installation::prepare("");
    installation.aggregator.init();
    let (email, password) = installation.aggregator.admin_login.clone().unwrap();
    assert!(!email.is_empty() && password.len() >= 16, "{email} {password}");

    let again = installation.aggregator.ask(&["init"]);
    assert_eq!(again["admin_password"], Value::Null);
    let text = installation.aggregator.run(&["init"]).successful();
    assert!(text.contains("prepared already") && !text.contains(&password), "{text}");
    installation.aggregator.start();
    let _still_lets_in = picket_tests::browser::Browser::log_in(installation.aggregator.pages, (&email, &password));
}

#[test]
fn commands_answer_the_same_whether_the_aggregator_runs_or_not() {
    let (mut installation, project, relay) = Installation::start_with_relay();
    let ingest = Installation::ingest(&project, &relay);
    let events =
        [TestEvent::exception("checkout"), TestEvent::exception("checkout"), TestEvent::message("stock is low")];
    for event in &events {
        ingest.post(event);
    }
    let api = installation.aggregator.api();
    api.wait_for_total(3, ARRIVAL_PATIENCE);
    let issue = api.issue_titled("LoadError: failed in checkout").unwrap();
    drop(relay);
    let commands: [&[&str]; 6] = [
        &["project", "list"],
        &["issues", "list"],
        &["issues", "list", "stock"],
        &["issues", "list", "--limit", "1"],
        &["issues", "show", &issue.id],
        &["issues", "show", &issue.short_id, "--explain"],
    ];
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    let running: Vec<_> = commands.iter().map(|command| installation.aggregator.ask(command)).collect();
    installation.aggregator.stop();
    for (command, running) in commands.iter().zip(&running) {
        assert_eq!(&installation.aggregator.ask(command), running, "{command:?}");
    }

    let [projects, issues, found, limited, shown, _] = running.as_slice() else { unreachable!() };
    assert_has(&projects[0], &["id", "name", "slug", "platform", "dsn", "created_at"]);
    let of_issue = [
        "id",
        "short_id",
        "title",
        "culprit",
        "count",
        "users",
        "level",
        "status",
        "project",
        "first_seen",
        "last_seen",
    ];
    assert_eq!((issues.as_array().unwrap().len(), limited.as_array().unwrap().len()), (2, 1));
    assert_has(&issues[0], &of_issue);
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["title"], "stock is low");
    assert_has(shown, &of_issue);
    assert_has(shown, &["latest_event_id", "latest_event", "grouping"]);
    assert_eq!(shown["count"], 2);
    assert_eq!(shown["latest_event"]["exception"]["values"][0]["type"], "LoadError");
    let status = installation.aggregator.ask(&["status"]);
    assert_has(&status, &["version", "serving", "projects", "relays", "relays_connected", "journal"]);
    assert_eq!(status["serving"], false);
}

#[test]
fn what_is_unknown_is_an_error_that_says_so() {
    let (installation, _project, relay) = Installation::start_with_relay();
    let aggregator = &installation.aggregator;
    let cases: [(&[&str], &str); 5] = [
        (&["issues", "show", "SHOP-99"], "SHOP-99"),
        (&["issues", "show", "4242"], "4242"),
        (&["relay", "revoke", "00000000-0000-4000-8000-000000000000"], "00000000-0000-4000-8000-000000000000"),
        (&["project", "create", ""], "name"),
        (&["token", "create", "--scopes", "event:fly"], "event:fly"),
    ];
    for (command, named) in cases {
        let finished = aggregator.run(command);
        assert_eq!(finished.code, Some(1), "{command:?}: {finished:?}");
        assert!(finished.stderr.contains(named) && finished.stdout.is_empty(), "{command:?}: {finished:?}");
    }
    let not_an_id = aggregator.run(&["relay", "revoke", "nonsense"]);
    assert_eq!(not_an_id.code, Some(2), "{not_an_id:?}");
    assert_eq!(relay.run(&["join", "nonsense"]).code, Some(2));
}

#[test]
fn a_join_token_is_good_once_and_a_joined_relay_does_not_join_again_by_mistake() {
    let (installation, _project) = Installation::start();
    let invitation = installation.aggregator.ask(&["relay", "invite", "--name", "first"]);
    assert_has(&invitation, &["token", "expires_at"]);
    let token = invitation["token"].as_str().unwrap();
    let prepare = |name: &str| {
        picket_tests::relay::Relay::prepare(installation.directory(), name, installation.directory().join(name))
    };
    let (first, second) = (prepare("first"), prepare("second"));

    let joined = first.run(&["join", token, "--json"]).json();
    assert_has(&joined, &["relay_id", "name", "aggregators"]);
    assert_eq!(joined["name"], "first");
    let repeated = first.run(&["join", token]);
    assert!(repeated.code == Some(1) && repeated.stderr.contains("--force"), "{repeated:?}");
    let stolen = second.run(&["join", token]);
    assert_eq!(stolen.code, Some(1), "{stolen:?}");
    assert!(stolen.stderr.contains("token"), "{stolen:?}");
    let relays = installation.aggregator.ask(&["relay", "list"]);
    assert_eq!(relays.as_array().unwrap().len(), 1);
    assert_has(
        &relays[0],
        &["id", "name", "hostname", "version", "connected", "created_at", "last_seen_at", "revoked_at"],
    );

    let not_running = first.run(&["status"]);
    assert!(not_running.code == Some(1) && not_running.stderr.contains("no relay answers"), "{not_running:?}");
    let not_joined = second.run(&["run"]);
    assert!(not_joined.code == Some(1) && not_joined.stderr.contains("join"), "{not_joined:?}");
}

#[test]
fn check_config_names_file_line_and_key_and_exits_with_78() {
    let installation = Installation::prepare("");
    let aggregator = &installation.aggregator;
    let relay =
        picket_tests::relay::Relay::prepare(installation.directory(), "relay", installation.directory().join("relay"));
    assert_eq!(aggregator.ask(&["check-config"])["valid"], true);
    let _valid = relay.run(&["check-config"]).successful();

    let cases = [
        ("listen = 5\n", "listen"),
        ("data_dir = \"x\"\nnovelty = 1\n", "novelty"),
        ("[log]\nlevel = \"a=b=c\"\n", "log.level"),
    ];
    for (text, key) in cases {
        let line = text.lines().count();
        for (program, file) in [("aggregator", aggregator.config_file()), ("relay", relay.config_file())] {
            std::fs::write(file, text).unwrap();
            let finished =
                if program == "relay" { relay.run(&["check-config"]) } else { aggregator.run(&["check-config"]) };
            assert_eq!(finished.code, Some(78), "{program} {text:?}: {finished:?}");
            let place = format!("{}:{line}", file.display());
            assert!(
                finished.stderr.contains(&place) && finished.stderr.contains(key),
                "{program} {text:?}: {finished:?}"
            );
        }
    }
}
