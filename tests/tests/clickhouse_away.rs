//! ClickHouse is away for long: the journal fills to its budget, relays are held back, nothing is lost, and all of it drains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::aggregator::{Aggregator, STOP_PATIENCE};
use picket_tests::clickhouse_server::{ClickHouseServer, USER};
use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::ingest::Target;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::oracle::assert_stored_once;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::wait::{eventually, holds};

const PASSWORD: &str = "for these tests";
const DATABASE: &str = "away";
/// The smallest budget that a journal may have.
const JOURNAL: &str = "[journal]\nmax_bytes = \"512MiB\"";
/// An attachment that does not compress, so that a few dozen fill the journal.
const ATTACHMENT_BYTES: usize = 8 * 1024 * 1024;
/// How long filling and draining half a gigabyte may take on a slow disk.
const LONG: Duration = Duration::from_secs(180);
/// How long a new event may take once the fault has ended and what waited has gone in.
const RECOVERY: Duration = Duration::from_secs(10);

/// An installation with a ClickHouse server beside it. Dropped from the top.
struct Scene {
    relay: Relay,
    project: Project,
    installation: Installation,
    server: ClickHouseServer,
    ledger: Arc<Ledger>,
    _directory: tempfile::TempDir,
}

fn scene(journal: &str) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
    let section = format!(
        "url = \"http://{}\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ndatabase = \"{DATABASE}\"\n\
         insert_timeout = \"2s\"\n{journal}",
        server.address
    );
    let mut installation = Installation::prepare(&section);
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let relay = installation.add_relay("relay");
    Scene { relay, project, installation, server, ledger: Arc::default(), _directory: directory }
}

impl Scene {
    #[track_caller]
    fn assert_fresh_event_passes(&self) {
        let since = Instant::now();
        let fresh = TestEvent::message("fresh");
        assert_eq!(
            Installation::ingest(&self.project, &self.relay).post_noted(&fresh, &self.ledger),
            Outcome::Accepted
        );
        self.installation.aggregator.api().wait_for_event(&self.project.slug, fresh.id, RECOVERY);
        eprintln!("a new event was visible after {:?}", since.elapsed());
    }

    #[track_caller]
    fn check(mut self) {
        self.relay.wait_until_drained(LONG);
        self.installation.aggregator.wait_until_processed(LONG);
        let counted = self.installation.aggregator.api().total_count();
        assert_stored_once(&self.server, DATABASE, counted, &self.ledger);
        self.installation.aggregator.stop();
    }
}

fn post_with_attachment(target: Target, random: &mut Random, ledger: &Ledger) {
    let event = TestEvent::message("with an attachment");
    let mut envelope = event.envelope().to_vec();
    let item = format!("{{\"type\":\"attachment\",\"length\":{ATTACHMENT_BYTES},\"filename\":\"noise\"}}\n");
    envelope.extend_from_slice(item.as_bytes());
    (0..ATTACHMENT_BYTES / 8).for_each(|_| envelope.extend_from_slice(&random.next_u64().to_le_bytes()));
    let auth = target.auth_header();
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
    let answer = HttpClient::new().post(target.relay, &target.envelope_path(), &headers, envelope).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    ledger.note(event.id, Outcome::Accepted);
}

/// Batches that the aggregator has put off since it started.
fn put_off(aggregator: &Aggregator) -> u64 {
    let metrics = HttpClient::new().get(aggregator.admin, "/metrics", &[]).unwrap().text();
    let name = "picket_aggregator_batches_received_total{result=\"retry\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |value| value.parse().unwrap())
}

#[test]
fn with_a_full_journal_relays_keep_what_comes_over_restarts_too_and_all_of_it_drains() {
    let mut scene = scene(JOURNAL);
    let target = scene.project.at(&scene.relay);
    scene.assert_fresh_event_passes();
    scene.server.pause();
    let went = Instant::now();
    let load = Load::start(&[target], 1, 20, &scene.ledger);
    let mut random = Random::seeded();
    eventually("the journal is full", LONG, || {
        post_with_attachment(target, &mut random, &scene.ledger);
        let refused = put_off(&scene.installation.aggregator);
        holds(refused > 0, refused)
    });
    let journal = scene.installation.aggregator.metric("picket_aggregator_journal_size_bytes");
    eprintln!("the journal was full after {:?}, with {journal} bytes", went.elapsed());
    assert!(journal <= 512 * 1024 * 1024, "{journal}: over its budget");

    // Restarts while it is full: one in order, which waits for nobody, and one by a kill.
    let took = scene.installation.aggregator.stop();
    assert!(took < STOP_PATIENCE, "{took:?}");
    for is_killed in [true, false] {
        // It opens its ClickHouse when it starts, and goes on only when that answers.
        scene.server.resume();
        scene.installation.aggregator.launch(&picket_tests::aggregator::Start::default());
        scene.installation.aggregator.wait_until_serving();
        scene.server.pause();
        if is_killed {
            scene.installation.aggregator.kill();
        }
    }
    let accepted = scene.ledger.accepted();
    eventually("the relay still takes events", ARRIVAL_PATIENCE, || {
        let now = scene.ledger.accepted();
        holds(now > accepted + 20, now)
    });
    let keeps = |status: &serde_json::Value| status["spool"]["records"].as_u64() > Some(0);
    scene.relay.wait_until("keeps what the journal does not take", ARRIVAL_PATIENCE, keeps);

    scene.server.resume();
    let back = Instant::now();
    scene.relay.wait_until_drained(LONG);
    scene.installation.aggregator.wait_until_processed(LONG);
    eprintln!("all of it had gone in {:?} after ClickHouse was back", back.elapsed());
    scene.assert_fresh_event_passes();
    load.stop();
    assert_eq!(scene.ledger.unknown(), 0, "the relay answered all the while");
    scene.check();
}

/// The relay's batches were inserted, their acknowledgements never came; then others insert more blocks than the tables remember.
/// What the relay sends again is known by its sequences, not by ClickHouse. Goes red without the journal's look at them.
#[test]
fn what_a_relay_sends_again_after_more_inserts_than_clickhouse_remembers_is_counted_once() {
    const WINDOW: u32 = 2;
    let mut scene = scene("");
    for table in ["event_payloads", "events", "issue_hourly", "outcomes"] {
        let setting =
            format!("ALTER TABLE {DATABASE}.{table} MODIFY SETTING non_replicated_deduplication_window = {WINDOW}");
        let _done = scene.server.query(&setting);
    }
    scene.installation.aggregator.stop();
    let unanswered = [("FAILPOINTS", "journal::after_commit_before_ack=pause")];
    scene.installation.aggregator.start_as(&picket_tests::aggregator::Start::with_failpoint(&unanswered));
    let ingest = Installation::ingest(&scene.project, &scene.relay);
    let events: Vec<_> = (0..20).map(|_| TestEvent::message("inserted, and never acknowledged")).collect();
    for event in &events {
        assert_eq!(ingest.post_noted(event, &scene.ledger), Outcome::Accepted);
    }
    let api = scene.installation.aggregator.api();
    api.wait_for_event(&scene.project.slug, events[0].id, ARRIVAL_PATIENCE);
    scene.installation.aggregator.kill();
    let keeps = |status: &serde_json::Value| status["spool"]["records"].as_u64() > Some(0);
    scene.relay.wait_until("has something to send again", ARRIVAL_PATIENCE, keeps);
    // Away, with what it was told nothing about.
    scene.relay.kill();

    scene.installation.aggregator.start();
    let mut other = scene.installation.add_relay("other");
    for _ in 0..10 * WINDOW {
        // One plan each, and so one block in each table.
        let event = TestEvent::message("of another relay");
        assert_eq!(Installation::ingest(&scene.project, &other).post_noted(&event, &scene.ledger), Outcome::Accepted);
        other.wait_until_drained(ARRIVAL_PATIENCE);
        scene.installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    }

    scene.relay.start();
    scene.relay.wait_until_drained(ARRIVAL_PATIENCE);
    scene.assert_fresh_event_passes();
    scene.check();
    drop(other);
}
