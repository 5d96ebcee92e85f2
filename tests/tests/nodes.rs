//! Two aggregators on one PostgreSQL and one ClickHouse server, and three relays that go from one to the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picket_tests::aggregator::Aggregator;
use picket_tests::clickhouse_server::{ClickHouseServer, USER};
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, ORGANISATION, Project};
use picket_tests::ledger::Ledger;
use picket_tests::load::Load;
use picket_tests::postgres_server::PostgresServer;
use picket_tests::program::Finished;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events_at;
use picket_tests::wait::{eventually, holds};

const PASSWORD: &str = "correct-horse-9";
const RELAYS: usize = 3;
/// A relay may have to find out that its aggregator is gone, go to the other, and come back.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// Two nodes and what they share. The first is the installation's own aggregator.
struct Nodes {
    relays: Vec<Relay>,
    project: Project,
    second: Aggregator,
    installation: Installation,
    clickhouse: ClickHouseServer,
    postgres: PostgresServer,
}

impl Nodes {
    fn start() -> Self {
        let postgres = PostgresServer::start(PASSWORD);
        let data = tempfile::tempdir().unwrap().keep();
        let clickhouse = ClickHouseServer::start(&data.join("clickhouse"), PASSWORD);
        let shared = format!(
            "url = \"http://{}\"\nuser = {USER:?}\npassword = {PASSWORD:?}\n{}",
            clickhouse.address,
            postgres.section()
        );
        let mut installation = Installation::prepare(&shared);
        let beside = installation.directory().join("second");
        std::fs::create_dir(&beside).unwrap();
        let mut second = Aggregator::prepare(&beside, ORGANISATION, &shared);
        let addresses = [installation.aggregator.link, second.link];
        installation.aggregator.advertise(&addresses);
        second.advertise(&addresses);
        installation.aggregator.init();
        copy_authority(&installation.aggregator, &second);
        installation.aggregator.start();
        second.start();
        let project = installation.create_project("Shop");
        let relays = (0..RELAYS).map(|number| installation.add_relay(&format!("relay-{number}"))).collect();
        Self { relays, project, second, installation, clickhouse, postgres }
    }

    fn node(&mut self, number: usize) -> &mut Aggregator {
        if number == 0 { &mut self.installation.aggregator } else { &mut self.second }
    }

    fn load(&self, per_second: u32, ledger: &Arc<Ledger>) -> Load {
        let targets: Vec<_> = self.relays.iter().map(|relay| self.project.at(relay)).collect();
        Load::start(&targets, 1, per_second, ledger)
    }

    fn wait_until_drained(&mut self) {
        for relay in &mut self.relays {
            relay.wait_until_drained(DRAIN_PATIENCE);
        }
    }

    /// Each id answered 200 is there once, and the issues' counts say the same, as either node shows them.
    #[track_caller]
    fn check(&mut self, ledger: &Ledger) {
        self.wait_until_drained();
        for number in 0..2 {
            self.node(number).wait_until_processed(DRAIN_PATIENCE);
        }
        ledger.check(&stored_events_at(&self.clickhouse, "picket"));
        let stored = ledger.accepted() as u64;
        for number in 0..2 {
            let api = self.node(number).api();
            assert_eq!(api.total_count(), stored, "node {number}");
            assert_eq!(api.issues().len(), 20, "each group of the load is one issue, whichever node met it first");
        }
    }
}

/// What the operator does before the second node is started.
fn copy_authority(from: &Aggregator, to: &Aggregator) {
    std::fs::create_dir_all(&to.data_dir).unwrap();
    let mut copy = std::process::Command::new("cp");
    let _copied = Finished::of(copy.arg("-a").arg(from.data_dir.join("authority")).arg(&to.data_dir)).successful();
}

fn connected_to(relay: &Relay) -> Result<String, String> {
    let status = relay.status()?;
    Ok(status["uplink"]["connected_to"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn nothing_is_lost_or_doubled_while_nodes_and_database_are_killed_one_after_the_other() {
    const ROUNDS: usize = 4;
    let mut random = Random::seeded();
    let mut nodes = Nodes::start();
    let ledger = Arc::new(Ledger::default());

    let load = nodes.load(60, &ledger);
    for round in 0..ROUNDS {
        // The instants of the faults, which are meant to be anywhere; nothing is waited for.
        std::thread::sleep(random.span(Duration::from_millis(300), Duration::from_millis(1500)));
        nodes.node(round % 2).kill();
        std::thread::sleep(random.span(Duration::from_millis(0), Duration::from_millis(800)));
        nodes.node(round % 2).start();
        std::thread::sleep(random.span(Duration::from_millis(0), Duration::from_millis(800)));
        nodes.postgres.kill_and_restart();
    }
    load.stop();

    assert_eq!(ledger.unknown(), 0, "the relays answered all the while");
    nodes.check(&ledger);
}

#[test]
fn a_lost_node_costs_what_its_journal_held_until_its_disk_is_back() {
    let mut nodes = Nodes::start();
    let ledger = Arc::new(Ledger::default());
    // What a node has acknowledged stays in its journal.
    nodes.clickhouse.pause();
    let load = nodes.load(40, &ledger);
    eventually("both journals hold something", ARRIVAL_PATIENCE, || {
        let held = [nodes.installation.aggregator.journal_batches(), nodes.second.journal_batches()];
        let connected: Vec<_> = nodes.relays.iter().map(connected_to).collect();
        holds(held.iter().any(|&batches| batches > 0), (held, connected))
    });
    let lost = usize::from(nodes.second.journal_batches() > 0);
    let other = nodes.node(1 - lost).link.to_string();
    nodes.node(lost).kill();
    nodes.clickhouse.resume();
    for relay in &mut nodes.relays {
        relay.wait_until("goes on with the other node", DRAIN_PATIENCE, |status| {
            status["uplink"]["connected_to"].as_str() == Some(other.as_str())
        });
    }
    load.stop();

    nodes.wait_until_drained();
    nodes.node(1 - lost).wait_until_processed(DRAIN_PATIENCE);
    let without = stored_events_at(&nodes.clickhouse, "picket");
    assert!(without.values().all(|&count| count == 1), "nothing is doubled");
    assert!(!without.is_empty() && without.len() < ledger.accepted(), "{} of {}", without.len(), ledger.accepted());

    nodes.node(lost).start();
    nodes.check(&ledger);
}

#[test]
fn what_is_changed_at_one_node_holds_at_the_other() {
    let mut nodes = Nodes::start();
    // All relays at the second node, wherever they chose to go first.
    let second = nodes.second.link.to_string();
    nodes.node(0).kill();
    for relay in &mut nodes.relays {
        relay.wait_until("is at the second node", DRAIN_PATIENCE, |status| {
            status["uplink"]["connected_to"].as_str() == Some(second.as_str())
        });
    }
    nodes.node(0).start();

    // A project that the first node makes is known to relays of the second.
    let made = nodes.installation.create_project("Other");
    let ingest = Installation::ingest(&made, &nodes.relays[0]);
    eventually("the relay knows the new project", Duration::from_secs(10), || {
        let event = picket_tests::event::TestEvent::exception("other");
        let answer = ingest.post_within(&event, Duration::from_secs(5)).map_err(|error| format!("{error:?}"))?;
        holds(answer.status == 200, answer.status)
    });

    // A relay that is revoked at the first is cut off by the second.
    let listed = nodes.node(0).ask(&["relay", "list"]);
    let relays = listed.as_array().unwrap();
    let relay = relays.iter().find(|relay| relay["name"] == "relay-1").unwrap();
    let _revoked = nodes.node(0).run(&["relay", "revoke", relay["id"].as_str().unwrap()]).successful();
    eventually("the revoked relay is cut off", Duration::from_secs(5), || {
        let at = connected_to(&nodes.relays[1])?;
        holds(at.is_empty(), at)
    });
}

#[test]
fn a_node_of_another_authority_or_with_an_engine_of_its_own_does_not_start() {
    let postgres = PostgresServer::start(PASSWORD);
    let mut installation = Installation::prepare(&postgres.section());
    let beside = installation.directory().join("second");
    std::fs::create_dir(&beside).unwrap();
    let second = Aggregator::prepare(&beside, ORGANISATION, &postgres.section());
    installation.aggregator.init();
    installation.aggregator.start();

    let finished = second.run(&["init"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("authority") && finished.stderr.contains("copy"), "{finished:?}");
    assert!(!has_key(&second.data_dir), "no other authority was made");

    copy_authority(&installation.aggregator, &second);
    let finished = second.run(&["serve"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("clickhouse.url"), "{finished:?}");
    installation.aggregator.stop();
}

fn has_key(data_dir: &Path) -> bool {
    data_dir.join("authority/key.pem").exists()
}
