//! All events in ClickHouse with how often each is there, read past the aggregator.
//!
//! The API answers one event at a time and would hide a second row of the same id; this looks at the rows.

use std::collections::HashMap;
use std::path::Path;

use picket_common::ids::EventId;

use crate::clickhouse_server::ClickHouseServer;
use crate::event::verse;

/// How often each event is in the embedded engine's data of a stopped aggregator.
///
/// # Panics
/// If the data can't be opened, or see [`stored_events_at`].
#[must_use]
#[track_caller]
pub fn stored_events(clickhouse: &Path) -> HashMap<EventId, u64> {
    let server = ClickHouseServer::start(clickhouse, "for this test");
    let events = stored_events_at(&server, "picket");
    server.stop();
    events
}

/// How often each event is in the table `events` of a server.
///
/// # Panics
/// If the payloads are not those of the same events, or one has not the text that its sender gave it.
#[must_use]
#[track_caller]
pub fn stored_events_at(server: &ClickHouseServer, database: &str) -> HashMap<EventId, u64> {
    let counts = |table: &str| -> HashMap<EventId, u64> {
        let sql = format!(
            "SELECT replaceAll(toString(event_id), '-', ''), count() FROM {database}.{table} GROUP BY event_id"
        );
        let row = |row: Vec<String>| (row[0].parse().expect("an event id"), row[1].parse().expect("a count"));
        server.query(&sql).into_iter().map(row).collect()
    };
    let (events, payloads) = (counts("events"), counts("event_payloads"));
    let differing: Vec<_> = events.iter().filter(|(id, count)| payloads.get(id) != Some(count)).take(5).collect();
    assert!(
        differing.is_empty() && events.len() == payloads.len(),
        "{} events are in `events` and {} in `event_payloads`; among those that differ: {differing:?}",
        events.len(),
        payloads.len(),
    );
    assert_verses(server, database);
    events
}

/// What is stored of each event has, to the byte, the text that followed from its id when it was posted.
#[track_caller]
fn assert_verses(server: &ClickHouseServer, database: &str) {
    let sql = format!(
        "SELECT replaceAll(toString(event_id), '-', ''), JSONExtractString(json, 'extra', 'verse') \
         FROM {database}.event_payloads"
    );
    for row in server.query(&sql) {
        let id: EventId = row[0].parse().expect("an event id");
        assert_eq!(row[1], verse(id), "the payload of {id} is not what was posted");
    }
}
