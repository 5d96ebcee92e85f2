//! The journal's disk fails: it is full, or its fsync says EIO. Nothing is acknowledged that is not on disk, and the aggregator goes
//! on by itself once the disk does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::aggregator::Aggregator;
use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::ingest::Target;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::loop_disk::LoopDisk;
use picket_tests::random::Random;
use picket_tests::stored_events::stored_events;
use picket_tests::wait::{eventually, holds};

/// Room for what RocksDB takes beforehand for its log, and for a filler.
const DISK_MEBIBYTES: u64 = 160;
/// An attachment that does not compress: a few hundred of them are more than the log has taken beforehand.
const ATTACHMENT_BYTES: usize = 900 * 1024;
/// How long the journal may take to notice that the disk works again.
const RECOVERY: Duration = Duration::from_secs(5);
/// How long the load may take to fill what the filler has left.
const FAULT_PATIENCE: Duration = Duration::from_secs(60);

/// Says on stderr why a test did nothing; not with a macro: what those print is shown only where a test fails.
fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// The value of a counter.
fn counter(aggregator: &Aggregator, name: &str) -> u64 {
    let metrics = HttpClient::new().get(aggregator.admin, "/metrics", &[]).unwrap().text();
    let line = metrics.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse().unwrap())
}

const STORED: &str = "picket_aggregator_batches_received_total{result=\"stored\"}";
const FAILED: &str = "picket_aggregator_journal_commit_failures_total";
const REOPENED: &str = "picket_aggregator_journal_reopened_total";

/// After the fault: the journal takes batches again in time, and every event is there once.
fn assert_recovers(
    installation: &mut Installation,
    mut relay: picket_tests::relay::Relay,
    load: Load,
    ledger: &Ledger,
) {
    let stored = counter(&installation.aggregator, STORED);
    let began = Instant::now();
    eventually("batches are taken again", RECOVERY, || {
        let now = counter(&installation.aggregator, STORED);
        holds(now > stored, now)
    });
    eprintln!("batches were taken again after {:?}", began.elapsed());
    assert!(counter(&installation.aggregator, REOPENED) > 0);
    load.stop();
    assert_eq!(ledger.unknown(), 0, "the relay answered all the while");
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_eq!(installation.aggregator.api().total_count(), ledger.accepted() as u64);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
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

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![7; 64 * 1024];
    while file.write_all(&block).is_ok() {}
    let _ = file.sync_all();
}

#[test]
fn a_full_disk_is_refused_and_recovered_from_without_a_restart() {
    const NAME: &str = "a_full_disk_is_refused_and_recovered_from_without_a_restart";
    // Dropped last: the aggregator is on it.
    let directory = tempfile::tempdir().unwrap();
    let disk = match LoopDisk::create(directory.path(), "disk", DISK_MEBIBYTES) {
        Ok(disk) => disk,
        Err(reason) => return skipped(NAME, &reason),
    };
    let mut installation = Installation::prepare("");
    installation.aggregator.init();
    // The journal alone is on it.
    let journal = installation.aggregator.data_dir.join("journal");
    if journal.exists() {
        std::fs::remove_dir_all(&journal).unwrap();
    }
    std::fs::create_dir(disk.path().join("journal")).unwrap();
    std::os::unix::fs::symlink(disk.path().join("journal"), &journal).unwrap();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let relay = installation.add_relay("relay");
    let ledger = Arc::new(Ledger::default());
    let first = TestEvent::message("before");
    assert_eq!(Installation::ingest(&project, &relay).post_noted(&first, &ledger), Outcome::Accepted);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);

    let filler = disk.path().join("foreign");
    fill(&filler);
    let load = Load::start(&[project.at(&relay)], 1, 50, &ledger);
    let mut random = Random::seeded();
    eventually("a commit fails", FAULT_PATIENCE, || {
        for _ in 0..5 {
            post_with_attachment(project.at(&relay), &mut random, &ledger);
        }
        let failed = counter(&installation.aggregator, FAILED);
        holds(failed > 0, failed)
    });
    std::fs::remove_file(&filler).unwrap();
    assert_recovers(&mut installation, relay, load, &ledger);
}

/// strace at work on one thread. Ended when dropped.
struct Strace(Child);

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM, so that it lets go of the thread.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Lets the syncs of the journal's thread fail; an error says why this machine does not let us.
fn fail_syncs(aggregator: &Aggregator) -> Result<Strace, String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", aggregator.pid())).map_err(|error| error.to_string())?;
    let is_journal = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "journal-commit")
    };
    let thread = tasks.flatten().find(is_journal).ok_or("the journal's thread is not found")?;
    let mut strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "inject=fdatasync,fsync:error=EIO", "-e", "trace=fdatasync,fsync", "-p"])
        .arg(thread.file_name())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("no strace: {error}"))?;
    let traced = || std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
    let has_attached = eventually("strace attaches or ends", ARRIVAL_PATIENCE, || {
        let is_traced = !traced().lines().any(|line| line == "TracerPid:\t0");
        let has_ended = strace.try_wait().ok().flatten().is_some();
        if is_traced || has_ended { Ok(is_traced && !has_ended) } else { Err("neither yet".to_owned()) }
    });
    if has_attached { Ok(Strace(strace)) } else { Err("strace may not attach".to_owned()) }
}

#[test]
fn a_failing_fsync_is_never_acknowledged_and_recovered_from_without_a_restart() {
    const NAME: &str = "a_failing_fsync_is_never_acknowledged_and_recovered_from_without_a_restart";
    let (mut installation, project, relay) = Installation::start_with_relay();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 2, 50, &ledger);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    let strace = match fail_syncs(&installation.aggregator) {
        Ok(strace) => strace,
        Err(reason) => return skipped(NAME, &reason),
    };
    eventually("commits fail", FAULT_PATIENCE, || {
        let failed = counter(&installation.aggregator, FAILED);
        holds(failed > 2, failed)
    });
    // Several more tries of the relay, none of which may be acknowledged.
    let (stored, failed) = (counter(&installation.aggregator, STORED), counter(&installation.aggregator, FAILED));
    eventually("more commits fail", FAULT_PATIENCE, || {
        let now = counter(&installation.aggregator, FAILED);
        holds(now > failed + 5, now)
    });
    assert_eq!(counter(&installation.aggregator, STORED), stored, "a batch was acknowledged without a sync");
    drop(strace);
    assert_recovers(&mut installation, relay, load, &ledger);
}
