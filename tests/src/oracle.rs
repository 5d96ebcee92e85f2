//! The judgement at the end of a fault test: lost = 0, doubled = 0, bytes equal, books balanced.
//!
//! ```text
//! every id answered 200 ─┬─ rows of `events` and of `event_payloads`: one each, with the text that was posted
//!                        ├─ counts of all issues together            : as many as there are rows
//!                        └─ outcomes `accepted` of the category error: as many as there are rows
//! ```
//!
//! An id that was answered otherwise, or not at all, may be there once; then it is counted like the others.

use crate::aggregator::Aggregator;
use crate::clickhouse_server::ClickHouseServer;
use crate::installation::ARRIVAL_PATIENCE;
use crate::ledger::Ledger;
use crate::relay::Relay;
use crate::stored_events::stored_events_at;

/// Waits until the relays and the journal are empty, stops the aggregator, and judges what its embedded engine has.
///
/// # Panics
/// If something is lost, doubled, other than it was posted, or not in the books; or if it does not arrive.
#[track_caller]
pub fn assert_exactly_once(aggregator: &mut Aggregator, relays: &mut [&mut Relay], ledger: &Ledger) {
    for relay in relays {
        relay.wait_until_drained(ARRIVAL_PATIENCE);
    }
    aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    let counted = aggregator.api().total_count();
    aggregator.stop();
    let server = ClickHouseServer::start(&aggregator.clickhouse_data(), "for this test");
    assert_stored_once(&server, "picket", counted, ledger);
    server.stop();
}

/// Holds the rows of a server against the ledger and against `counted`, the events in all issues together.
///
/// # Panics
/// As [`assert_exactly_once`].
#[track_caller]
pub fn assert_stored_once(server: &ClickHouseServer, database: &str, counted: u64, ledger: &Ledger) {
    let stored = stored_events_at(server, database);
    ledger.check(&stored);
    let rows = stored.len() as u64;
    assert_eq!(counted, rows, "the issues' counts together are the stored events");
    let sql =
        format!("SELECT sum(quantity) FROM {database}.outcomes WHERE outcome = 'accepted' AND category = 'error'");
    let accepted: u64 = server.query(&sql)[0][0].parse().expect("a sum");
    assert_eq!(accepted, rows, "the accepted outcomes are the stored events");
}
