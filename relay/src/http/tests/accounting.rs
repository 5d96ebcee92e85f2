//! The accounting invariant: what is counted here and what is spooled is together what was received, in every category.

use std::collections::BTreeMap;

use picket_common::envelope::MAX_ITEMS;
use picket_common::tally::Tally;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

type Sums = BTreeMap<DataCategory, u64>;

/// Types with and without a store, alone and as companions of an event, ours and nobody's.
const TYPES: [&str; 20] = [
    "event",
    "event",
    "event",
    "transaction",
    "security",
    "feedback",
    "user_report",
    "form_data",
    "attachment",
    "attachment",
    "session",
    "sessions",
    "client_report",
    "check_in",
    "log",
    "span",
    "trace_metric",
    "statsd",
    "sparkle",
    "integration",
];

const PAYLOADS: [&str; 8] = [
    "{}",
    "[]",
    "no JSON at all",
    r#"{"message":"x","release":"unwanted@1"}"#,
    r#"{"message":"\ud800","extra":{"a":NaN}}"#,
    r#"{"discarded_events":[{"reason":"sample_rate","category":"error","quantity":3}]}"#,
    r#"{"exception":{"values":[{"type":"ValueError","value":"bad"}]},"platform":"python"}"#,
    "",
];

fn item() -> impl Strategy<Value = String> {
    let counts = proptest::option::of(0_u64..50);
    (0..TYPES.len(), 0..PAYLOADS.len(), counts).prop_map(|(item_type, payload, count)| {
        let payload = PAYLOADS[payload];
        let count = count.map_or_else(String::new, |count| format!(",\"item_count\":{count}"));
        format!("{{\"type\":\"{}\",\"length\":{}{count}}}\n{payload}\n", TYPES[item_type], payload.len())
    })
}

fn add(sums: &mut Sums, tally: &Tally) {
    for (category, quantity) in tally.iter().filter(|(_, quantity)| *quantity > 0) {
        *sums.entry(category).or_default() += quantity;
    }
}

#[test]
fn what_is_counted_and_what_is_spooled_is_what_was_received() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let relay = runtime.block_on(async { relay() });
    let releases = serde_json::json!({ "filterSettings": { "releases": { "releases": ["unwanted@*"] } } });
    let settings = ProjectSettings::default().changed(&releases).unwrap();
    let shop = ProjectConfig { settings, ..project(7, KEY, true, &["*"]) };
    relay.server.projects.replace(ConfigSnapshot { revision: 9, projects: vec![shop] }).unwrap();
    let spooled = std::cell::Cell::new(0);
    let strategy = (proptest::collection::vec(item(), 1..8), any::<[u8; 16]>());
    let tested = TestRunner::new(Config { cases: 200, ..Config::default() }).run(&strategy, |(items, id)| {
        let id = picket_common::ids::EventId::from_random(id);
        let body = format!("{{\"event_id\":\"{id}\"}}\n{}", items.concat());
        let envelope = Envelope::parse(Bytes::from(body.clone()), MAX_ITEMS).unwrap();
        let mut received = Sums::new();
        add(&mut received, &Tally::of(&envelope));

        let answer = runtime.block_on(relay.post("/api/7/envelope/", body));
        let mut ended = Sums::new();
        for (project, category, outcome, _, quantity) in relay.counted() {
            prop_assert_eq!(project, Some(7));
            // What a client report tells was not received here.
            if outcome != Outcome::ClientDiscard {
                *ended.entry(category).or_default() += quantity;
            }
        }
        let records = relay.spooled();
        for record in &records[spooled.get()..] {
            add(&mut ended, &Tally::of(&Envelope::parse(record.body.clone(), MAX_ITEMS).unwrap()));
        }
        spooled.set(records.len());
        prop_assert_eq!(ended, received, "answered {}", answer.status);
        Ok(())
    });
    tested.unwrap();
    assert!(spooled.get() > 0, "nothing was spooled: the mix is none");
}
