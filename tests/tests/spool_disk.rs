//! The relay's disk fails: it is full, by a foreign file or by the spool itself, its fsync says EIO or takes long. No 200 is false, the
//! refusals are counted, and the relay takes events again by itself within seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::aggregator::Start;
use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::ingest::Target;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::loop_disk::LoopDisk;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events;
use picket_tests::troubled_syncs::{Trouble, TroubledSyncs};
use picket_tests::wait::{eventually, holds};

const DISK_MEBIBYTES: u64 = 128;
/// What the guard keeps free where it is on.
const KEPT_FREE_MEBIBYTES: u64 = 24;
/// An attachment that does not compress.
const ATTACHMENT_BYTES: usize = 900 * 1024;
/// How long the relay may take to take events again.
const RECOVERY: Duration = Duration::from_secs(5);
/// How long the load may take to meet the fault.
const FAULT_PATIENCE: Duration = Duration::from_secs(60);
const COMMIT_THREAD: &str = "spool-commit";

const FAILED: &str = "picket_relay_spool_failed_writes_total";
const REOPENED: &str = "picket_relay_spool_reopened_total";

/// Says on stderr why a test did nothing; not with a macro: what those print is shown only where a test fails.
fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// A relay whose data is on a disk of its own. Take it apart into disk and relay, in this order: where a test fails, what was bound last
/// is dropped first, and the relay must be killed before the disk is unmounted.
struct Machine {
    relay: Relay,
    disk: LoopDisk,
}

fn machine(installation: &Installation) -> Result<Machine, String> {
    let disk = LoopDisk::create(installation.directory(), "disk", DISK_MEBIBYTES)?;
    let relay = installation.join_relay("relay", disk.path().join("relay"));
    Ok(Machine { relay, disk })
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![7; 64 * 1024];
    while file.write_all(&block).is_ok() {}
    let _ = file.sync_all();
}

/// Posts an event with an attachment; the status.
fn post_with_attachment(target: Target, random: &mut Random, ledger: &Ledger) -> u16 {
    let event = TestEvent::message("with an attachment");
    let mut envelope = event.envelope().to_vec();
    let item = format!("{{\"type\":\"attachment\",\"length\":{ATTACHMENT_BYTES},\"filename\":\"noise\"}}\n");
    envelope.extend_from_slice(item.as_bytes());
    (0..ATTACHMENT_BYTES / 8).for_each(|_| envelope.extend_from_slice(&random.next_u64().to_le_bytes()));
    let auth = target.auth_header();
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
    let answer = HttpClient::new().post(target.relay, &target.envelope_path(), &headers, envelope).unwrap();
    if answer.status != 200 {
        eprintln!("{} {}", answer.status, answer.text());
    }
    ledger.note(event.id, if answer.status == 200 { Outcome::Accepted } else { Outcome::Unknown });
    answer.status
}

/// Posts until something else than 200 is answered; that.
fn post_until_refused(target: Target, ledger: &Ledger) -> u16 {
    let mut random = Random::seeded();
    eventually("an event is refused", FAULT_PATIENCE, || {
        let status = post_with_attachment(target, &mut random, ledger);
        if status == 200 { Err("200".to_owned()) } else { Ok(status) }
    })
}

/// Events are taken again in time, the refusals are in the metrics, and every event that was answered 200 is there once.
fn assert_recovers(installation: &mut Installation, project: &Project, mut relay: Relay, load: Load, ledger: &Ledger) {
    let (target, began) = (project.at(&relay), Instant::now());
    let mut random = Random::seeded();
    eventually("events are taken again", RECOVERY, || {
        let status = post_with_attachment(target, &mut random, ledger);
        holds(status == 200, status)
    });
    eprintln!("events were taken again after {:?}", began.elapsed());
    load.stop();
    let answers = relay.answers_by_status();
    let refused: u64 = answers.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    assert!(refused > 0 && answers.keys().all(|status| [200, 429, 503].contains(status)), "{answers:?}");
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}

#[test]
fn a_disk_that_others_filled_is_refused_with_503_and_recovered_from() {
    const NAME: &str = "a_disk_that_others_filled_is_refused_with_503_and_recovered_from";
    let (mut installation, project) = Installation::start();
    let Machine { disk, mut relay } = match machine(&installation) {
        Ok(machine) => machine,
        Err(reason) => return skipped(NAME, &reason),
    };
    // Without the guard (as the tests have it) the spool meets the end of the disk.
    relay.start();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 2, 50, &ledger);
    let filler = disk.path().join("foreign");
    fill(&filler);
    assert_eq!(post_until_refused(project.at(&relay), &ledger), 503);
    eventually("a write failed", FAULT_PATIENCE, || holds(relay.metric(FAILED) > 0, "none"));
    assert!(relay.logged().contains("the spool can't write"));
    std::fs::remove_file(&filler).unwrap();
    assert_recovers(&mut installation, &project, relay, load, &ledger);
}

#[test]
fn a_disk_that_the_spool_filled_is_refused_with_429_until_an_aggregator_comes() {
    const NAME: &str = "a_disk_that_the_spool_filled_is_refused_with_429_until_an_aggregator_comes";
    let (mut installation, project) = Installation::start();
    let Machine { disk: _disk, mut relay } = match machine(&installation) {
        Ok(machine) => machine,
        Err(reason) => return skipped(NAME, &reason),
    };
    let kept_free = format!("{KEPT_FREE_MEBIBYTES}MiB");
    relay.start_as(&Start { environment: &[("PICKET_RELAY__SPOOL__MIN_FREE_BYTES", &kept_free)], ..Start::default() });
    installation.aggregator.stop();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 1, 20, &ledger);
    assert_eq!(post_until_refused(project.at(&relay), &ledger), 429);
    assert_eq!(relay.metric(FAILED), 0, "the guard came before the end of the disk");
    installation.aggregator.start();
    relay.wait_until("has delivered most", ARRIVAL_PATIENCE, |status| {
        status["spool"]["bytes"].as_u64().unwrap() < DISK_MEBIBYTES * 1024 * 1024 / 8
    });
    assert_recovers(&mut installation, &project, relay, load, &ledger);
}

#[test]
fn a_failing_fsync_is_never_answered_200_and_recovered_from_without_a_restart() {
    const NAME: &str = "a_failing_fsync_is_never_answered_200_and_recovered_from_without_a_restart";
    let (mut installation, project, relay) = Installation::start_with_relay();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 2, 50, &ledger);
    eventually("the load is there", ARRIVAL_PATIENCE, || holds(ledger.accepted() > 20, ledger.accepted()));
    let troubled = match TroubledSyncs::begin(relay.process().pid(), COMMIT_THREAD, Trouble::Fail) {
        Ok(troubled) => troubled,
        Err(reason) => return skipped(NAME, &reason),
    };
    eventually("a write failed", FAULT_PATIENCE, || holds(relay.metric(FAILED) > 0, "none"));
    let accepted = ledger.accepted();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ledger.accepted(), accepted, "an event was answered 200 without a sync");
    assert_eq!(relay.metric(REOPENED), 0);
    drop(troubled);
    let (pid, target) = (relay.process().pid(), project.at(&relay));
    let ingest = picket_tests::ingest::Ingest::new(target);
    eventually("events are taken again", RECOVERY, || {
        holds(ingest.post_noted(&TestEvent::message("after"), &ledger) == Outcome::Accepted, "refused")
    });
    assert_eq!((relay.process().pid(), relay.metric(REOPENED)), (pid, 1));
    assert_recovers(&mut installation, &project, relay, load, &ledger);
}

#[test]
fn an_fsync_that_takes_two_seconds_makes_answers_slow_and_loses_nothing() {
    const NAME: &str = "an_fsync_that_takes_two_seconds_makes_answers_slow_and_loses_nothing";
    const SYNC: Duration = Duration::from_secs(2);
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let ledger = Arc::new(Ledger::default());
    let troubled = match TroubledSyncs::begin(relay.process().pid(), COMMIT_THREAD, Trouble::Take(SYNC)) {
        Ok(troubled) => troubled,
        Err(reason) => return skipped(NAME, &reason),
    };
    let load = Load::start(&[project.at(&relay)], 8, 50, &ledger);
    let ingest = Installation::ingest(&project, &relay);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(ingest.post_noted(&TestEvent::message("slow"), &ledger), Outcome::Accepted);
        assert!(began.elapsed() >= SYNC, "answered after {:?}, before the sync", began.elapsed());
    }
    load.stop();
    drop(troubled);
    assert_eq!((ledger.unknown(), relay.metric(FAILED)), (0, 0));
    assert!(ledger.accepted() > 8, "many share a sync");
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}
