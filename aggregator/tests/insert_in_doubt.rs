//! Inserts in doubt, against the real engine: whatever an interrupted insert left behind, carrying the plan out again ends in
//! each event stored once and counted once.
//!
//! One test, because a process can open one engine at a time.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use picket_aggregator::events::EventsStore;
use picket_aggregator::events::config::ClickHouseConfig;
use picket_aggregator::events::in_doubt::insert_in_doubt;
use picket_aggregator::events::insert::{Block, insert};
use picket_aggregator::events::row::{EventRow, OutcomeRow};
use picket_common::timestamp::Timestamp;
use uuid::Uuid;

const HOUR: i64 = 3_600_000;
const MADE_IN_HOUR: u32 = 1_795_000_000 / 3600 * 3600;
const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// Six events of two issues over three hours, five users.
fn block() -> Block {
    let events: Vec<_> = (0..6)
        .map(|number: i64| EventRow {
            project_id: 1,
            issue_id: 1 + number.unsigned_abs() % 2,
            timestamp: 1_795_000_000_000 + number / 2 * HOUR,
            event_id: Uuid::from_u128(100 + number.unsigned_abs() as u128),
            received_at: 1_795_000_000_000 + number / 2 * HOUR,
            retention_days: 90,
            user: if number == 0 { String::new() } else { format!("id:{number}") },
            ..EventRow::default()
        })
        .collect();
    let payloads = events.iter().map(|event| Bytes::from(format!("{{\"n\":\"{}\"}}", event.event_id))).collect();
    let outcomes = vec![OutcomeRow {
        project_id: 1,
        hour: MADE_IN_HOUR,
        category: "error".to_owned(),
        outcome: "accepted".to_owned(),
        reason: String::new(),
        quantity: 6,
    }];
    let records = (0..).take(events.len()).collect();
    Block { events, payloads, records, outcomes, made_in_hour: MADE_IN_HOUR }
}

async fn count(store: &EventsStore, query: &str) -> u64 {
    store.client().query(query).fetch_one().await.unwrap()
}

async fn assert_stored_once(store: &EventsStore, what: &str) {
    for query in [
        "SELECT count() FROM events",
        "SELECT count() FROM event_payloads",
        "SELECT uniqExact(event_id) FROM events",
        "SELECT sum(count) FROM issue_hourly",
        "SELECT sum(quantity) FROM outcomes",
    ] {
        assert_eq!(count(store, query).await, 6, "{what}: {query}");
    }
    assert_eq!(count(store, "SELECT uniqMerge(users) FROM issue_hourly").await, 5, "{what}: users");
}

async fn delete_all(store: &EventsStore, table: &str) {
    let statement = format!("ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2");
    store.client().query(&statement).execute().await.unwrap();
}

#[tokio::test]
async fn a_plan_in_doubt_ends_in_each_event_stored_and_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = EventsStore::open(&ClickHouseConfig::default(), directory.path()).await.unwrap();
    let (plan, block) = (Uuid::from_u128(7), block());

    insert(&store, plan, &block).await.unwrap();
    insert(&store, plan, &block).await.unwrap();
    assert_stored_once(&store, "repeated under the same token").await;

    insert_in_doubt(&store, plan, &block, NOW).await.unwrap();
    assert_stored_once(&store, "in doubt, but nothing was missing").await;

    // What a kill between the token and the part leaves: the token is known, the rows are not there.
    for table in ["events", "event_payloads"] {
        delete_all(&store, table).await;
        insert(&store, plan, &block).await.unwrap();
        assert_eq!(count(&store, &format!("SELECT count() FROM {table}")).await, 0, "the token alone keeps rows out");
        insert_in_doubt(&store, plan, &block, NOW).await.unwrap();
        assert_stored_once(&store, &format!("{table} lost its rows")).await;
    }

    delete_all(&store, "outcomes").await;
    insert_in_doubt(&store, plan, &block, NOW).await.unwrap();
    assert_stored_once(&store, "the outcomes were lost").await;
    insert_in_doubt(&store, plan, &block, NOW).await.unwrap();
    assert_stored_once(&store, "the outcomes were added before").await;

    // What a kill between a part and the view's part leaves.
    delete_all(&store, "issue_hourly").await;
    insert_in_doubt(&store, plan, &block, NOW).await.unwrap();
    assert_stored_once(&store, "the counts were lost").await;

    // After the retention rows are meant to be gone, and counts of all time stay as they are.
    let later = NOW.plus(std::time::Duration::from_secs(91 * 24 * 3600));
    delete_all(&store, "events").await;
    insert_in_doubt(&store, plan, &block, later).await.unwrap();
    assert_eq!(count(&store, "SELECT count() FROM events").await, 0);
    assert_eq!(count(&store, "SELECT sum(count) FROM issue_hourly").await, 6);

    store.close().await.unwrap();
}
