//! Inserts whose fate is not known: ClickHouse that commits and drops the reply, refuses, hangs, or is cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::aggregator::{Aggregator, STOP_PATIENCE};
use picket_tests::clickhouse_server::{ClickHouseServer, USER};
use picket_tests::event::TestEvent;
use picket_tests::faulty_clickhouse::{Fault, FaultyClickHouse};
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::oracle::assert_stored_once;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::soak::sample_or_whole;
use picket_tests::wait::{eventually, holds};

const PASSWORD: &str = "for these tests";
const DATABASE: &str = "doubted";
/// How long the aggregator waits for an insert here.
const INSERT_TIMEOUT: Duration = Duration::from_secs(1);

/// An installation behind a proxy. Dropped from the top.
struct Doubted {
    relay: Relay,
    project: Project,
    installation: Installation,
    proxy: FaultyClickHouse,
    server: ClickHouseServer,
    _directory: tempfile::TempDir,
}

fn start() -> Doubted {
    let directory = tempfile::tempdir().unwrap();
    let server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
    let proxy = FaultyClickHouse::start(server.address, INSERT_TIMEOUT + Duration::from_millis(500));
    let section = format!(
        "url = \"http://{}\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ndatabase = \"{DATABASE}\"\n\
         insert_timeout = \"{}s\"",
        proxy.address,
        INSERT_TIMEOUT.as_secs()
    );
    let mut installation = Installation::prepare(&section);
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let relay = installation.add_relay("relay");
    Doubted { relay, project, installation, proxy, server, _directory: directory }
}

fn post_all(project: &Project, relay: &Relay, count: u32, ledger: &Ledger) {
    let ingest = Installation::ingest(project, relay);
    for number in 0..count {
        let event = TestEvent::exception(&format!("group{}", number % 3));
        assert_eq!(ingest.post_noted(&event, ledger), Outcome::Accepted);
    }
}

/// Every event is stored once, counted once in its issue, and accepted once in the books.
fn assert_exactly_once(aggregator: &Aggregator, server: &ClickHouseServer, ledger: &Ledger) {
    assert_stored_once(server, DATABASE, aggregator.api().total_count(), ledger);
}

#[test]
fn inserts_in_doubt_lose_no_event_and_repeat_none() {
    let (wanted, patience) = sample_or_whole((50, Duration::from_secs(150)), (500, Duration::from_secs(1_800)));
    let mut test = start();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[test.project.at(&test.relay)], 1, 50, &ledger);
    let began = Instant::now();
    test.proxy.be_faulty(4, Random::seeded());
    eventually("so many inserts met a fault", patience, || {
        let faults = test.proxy.faults();
        holds(faults >= wanted, faults)
    });
    test.proxy.be_sound();
    load.stop();
    eprintln!("{} inserts in doubt in {:?}", test.proxy.faults(), began.elapsed());

    post_all(&test.project, &test.relay, 1, &ledger);
    test.relay.wait_until_drained(ARRIVAL_PATIENCE);
    test.installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_exactly_once(&test.installation.aggregator, &test.server, &ledger);
    test.installation.aggregator.stop();
}

/// A token that ClickHouse has forgotten would let the rows in a second time.
#[test]
fn a_plan_in_doubt_is_resolved_by_asking_when_its_tokens_are_forgotten() {
    let mut test = start();
    let ledger = Ledger::default();
    test.proxy.always(Fault::DropReply);
    post_all(&test.project, &test.relay, 20, &ledger);
    test.relay.wait_until_drained(ARRIVAL_PATIENCE);
    eventually("the payloads are stored, and nobody was told", ARRIVAL_PATIENCE, || {
        let rows = test.server.query(&format!("SELECT count() FROM {DATABASE}.event_payloads"));
        holds(rows != [["0"]], rows)
    });
    test.installation.aggregator.kill();

    // Others insert more blocks than a table remembers.
    for table in ["event_payloads", "events", "issue_hourly", "outcomes"] {
        let setting = format!("ALTER TABLE {DATABASE}.{table} MODIFY SETTING non_replicated_deduplication_window = 2");
        let _done = test.server.query(&setting);
    }
    for block in 0..4 {
        for table in ["event_payloads", "events", "outcomes"] {
            let row =
                format!("INSERT INTO {DATABASE}.{table} (project_id) SETTINGS async_insert = 0 VALUES (77{block})");
            let _done = test.server.query(&row);
        }
    }
    test.proxy.be_sound();
    test.installation.aggregator.start();
    test.installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    for table in ["event_payloads", "events", "issue_hourly"] {
        let delete =
            format!("ALTER TABLE {DATABASE}.{table} DELETE WHERE project_id >= 770 SETTINGS mutations_sync = 2");
        let _done = test.server.query(&delete);
    }
    assert_exactly_once(&test.installation.aggregator, &test.server, &ledger);
    test.installation.aggregator.stop();
}

#[test]
fn an_aggregator_stops_in_time_while_clickhouse_hangs() {
    let mut test = start();
    let ledger = Ledger::default();
    test.installation.aggregator.stop();
    // The usual time for an insert, which is more than it may take to stop.
    let usual = [("PICKET_AGGREGATOR__CLICKHOUSE__INSERT_TIMEOUT", "120s")];
    test.installation.aggregator.start_as(&picket_tests::aggregator::Start {
        environment: &usual,
        ..picket_tests::aggregator::Start::default()
    });
    test.proxy.always(Fault::Hang);
    let before = test.proxy.faults();
    post_all(&test.project, &test.relay, 5, &ledger);
    eventually("an insert hangs", ARRIVAL_PATIENCE, || holds(test.proxy.faults() > before, before));
    let took = test.installation.aggregator.stop();
    assert!(took < STOP_PATIENCE, "{took:?}");
    test.proxy.be_sound();
    test.installation.aggregator.start();
    test.relay.wait_until_drained(ARRIVAL_PATIENCE);
    test.installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_exactly_once(&test.installation.aggregator, &test.server, &ledger);
    test.installation.aggregator.stop();
}
