//! `picket-relay spool`: what operators see of what waits, beside a relay that runs and of one that does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use picket_tests::aggregator::Start;
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events;
use serde_json::Value;

const EVENTS: usize = 20;
/// What `spool verify` exits with where something is damaged.
const DAMAGED: i32 = 65;

fn spool(relay: &Relay, arguments: &[&str]) -> Value {
    relay.run(&[&["spool", "--json"], arguments].concat()).json()
}

/// What both a running and a stopped relay must tell alike.
fn lasting(status: &Value) -> Value {
    let mut status = status.clone();
    for passing in ["relay_pid", "free_disk_bytes"] {
        status.as_object_mut().unwrap().remove(passing).expect("it is told");
    }
    status
}

/// Flips a bit in the largest blob file: those hold nothing but payloads.
fn flip_a_bit_of_a_payload(relay: &Relay) {
    let files = std::fs::read_dir(relay.data_dir.join("spool")).unwrap().map(|file| file.unwrap().path());
    let blobs = files.filter(|path| path.extension().is_some_and(|extension| extension == "blob"));
    let path = blobs.max_by_key(|path| path.metadata().unwrap().len()).expect("the log was flushed to files");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

/// An event that is in a blob file, and not in a table, however well its texts compress.
fn large_event(random: &mut Random) -> TestEvent {
    let mut event = TestEvent::exception("checkout");
    let noise: String = (0..200).map(|_| format!("{:016x}", random.next_u64())).collect();
    event.content["extra"]["noise"] = noise.into();
    event
}

#[test]
fn a_spool_is_told_and_verified_whether_its_relay_runs_or_not_and_damage_costs_one_batch() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    installation.aggregator.stop();
    relay.stop();
    let each_commit_is_a_batch = Start { environment: &[("PICKET_RELAY__SPOOL__LINGER", "0s")], ..Start::default() };
    relay.start_as(&each_commit_is_a_batch);
    let (ledger, mut random) = (Ledger::default(), Random::seeded());
    let ingest = Installation::ingest(&project, &relay);
    let events: Vec<_> = (0..EVENTS).map(|_| large_event(&mut random)).collect();
    for event in &events {
        assert_eq!(ingest.post_noted(event, &ledger), Outcome::Accepted);
    }

    let running = spool(&relay, &["status"]);
    assert_eq!(running["relay_pid"], relay.process().pid());
    assert_eq!((&running["records"], &running["batches"]), (&EVENTS.into(), &EVENTS.into()));
    assert_eq!((&running["format_version"], &running["lanes"][0]["batches"]), (&2.into(), &EVENTS.into()));
    assert!(running["free_disk_bytes"].as_u64().unwrap() > 0);
    let batches = spool(&relay, &["inspect"]);
    assert_eq!(batches.as_array().unwrap().len(), EVENTS);
    let of_event = spool(&relay, &["inspect", "--event", &events[2].id.to_string()]);
    let record = &of_event[0]["record"];
    assert_eq!((&record["event_id"], &record["items"][0]["type"]), (&events[2].id.to_string().into(), &"event".into()));
    let sequence = record["sequence"].to_string();
    let batch = spool(&relay, &["inspect", "--batch", &sequence]);
    assert_eq!(batch["records"][0], *record);
    let texts = [vec!["spool", "inspect"], vec!["spool", "inspect", "--batch", &sequence], vec!["spool", "status"]];
    for arguments in &texts {
        let text = relay.run(arguments).successful();
        assert!(text.lines().count() > 1 && !text.contains("checkout"), "{text}");
    }
    assert_eq!(spool(&relay, &["verify"])["clean"], true);

    relay.stop();
    let stopped = spool(&relay, &["status"]);
    assert_eq!((&stopped["relay_pid"], lasting(&stopped)), (&Value::Null, lasting(&running)));
    assert_eq!(spool(&relay, &["inspect"]), batches);
    let absent = relay.run(&["spool", "inspect", "--batch", "999999"]).failed();
    assert!(absent.contains("no batch has sequence 999999"), "{absent}");

    // An opening brings what is in the log to files.
    relay.start();
    relay.stop();
    flip_a_bit_of_a_payload(&relay);
    let verified = relay.run(&["spool", "verify", "--json"]);
    assert_eq!(verified.code, Some(DAMAGED), "{verified:?}");
    let verified: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!((&verified["clean"], &verified["checked"]["findings"]), (&false.into(), &1.into()), "{verified}");
    let finding = &verified["findings"][0];
    assert_eq!(finding["damage"], "batch", "{finding}");
    let damaged = finding["first"].as_u64().unwrap();
    let text = relay.run(&["spool", "verify"]);
    assert!(
        text.stdout.contains(&format!("batch {damaged}: ")) && text.stdout.contains("spool_quarantined"),
        "{text:?}"
    );

    installation.aggregator.start();
    relay.start();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    let after = spool(&relay, &["status"]);
    assert_eq!((&after["quarantined_batches"], &after["records"]), (&1.into(), &0.into()));
    let aside = spool(&relay, &["inspect", "--batch", &damaged.to_string()]);
    assert_eq!((&aside["batch"]["state"], &aside["batch"]["reason"]), (&"quarantined".into(), &"damaged".into()));
    installation.aggregator.stop();
    let stored = stored_events(&installation.aggregator.clickhouse_data());
    let missing = events.iter().filter(|event| stored.get(&event.id) != Some(&1)).count();
    assert_eq!((stored.len(), missing), (EVENTS - 1, 1), "the damage cost its batch and nothing else");
}

#[test]
fn where_there_is_no_spool_the_commands_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::prepare(directory.path(), "relay", directory.path().join("data"));
    for command in ["status", "inspect", "verify"] {
        let finished = relay.run(&["spool", command]);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
        assert!(finished.stderr.contains("there is no spool"), "{finished:?}");
    }
}
