//! The power of the aggregator's machine fails: what a relay was told is in the journal is on the disk, not in a cache.
//!
//! Journal and events are on a file system in an image file, copied while the aggregator works (see `power_cut.rs` for why the
//! copy is what a disk has after a power cut). The relay is elsewhere and goes on: what it deleted, because it was acknowledged
//! before the cut, it can't send again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::loop_disk::LoopDisk;
use picket_tests::oracle::assert_exactly_once;
use picket_tests::random::Random;
use picket_tests::soak::sample_or_whole;

/// The embedded engine and the journal, with what they take beforehand.
const DISK_MEBIBYTES: u64 = 1024;
const CONNECTIONS: u64 = 2;
const POSTS_PER_SECOND: u32 = 100;

#[test]
fn what_was_acknowledged_is_there_after_the_aggregators_power_was_cut() {
    let cuts = sample_or_whole(20, 100);
    let mut random = Random::seeded();
    let directory = tempfile::tempdir().unwrap();
    let mut disk = match LoopDisk::create(directory.path(), "disk", DISK_MEBIBYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            // Not with a macro: what those print is shown only where a test fails.
            let name = "what_was_acknowledged_is_there_after_the_aggregators_power_was_cut";
            let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
            return;
        }
    };
    // All of the aggregator is on it, at a path that leads to the disk of the moment.
    let mut installation = Installation::prepare("");
    let data_dir = installation.aggregator.data_dir.clone();
    let lead_to = |disk: &LoopDisk| {
        let _ = std::fs::remove_file(&data_dir);
        std::os::unix::fs::symlink(disk.path().join("aggregator"), &data_dir).unwrap();
    };
    std::fs::create_dir(disk.path().join("aggregator")).unwrap();
    lead_to(&disk);
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let mut relay = installation.add_relay("relay");
    // The registry is not what this is about: it is on the device before the first cut.
    assert!(std::process::Command::new("sync").status().unwrap().success());
    let ledger = Arc::new(Ledger::default());

    for cut in 1..=cuts {
        let load = Load::start(&[project.at(&relay)], CONNECTIONS, POSTS_PER_SECOND, &ledger);
        // The sleep is the instant of the fault, which is meant to be anywhere; nothing is waited for.
        std::thread::sleep(random.span(Duration::from_millis(500), Duration::from_millis(2_000)));
        installation.aggregator.pause();
        let copy = disk.copy_image(directory.path(), &format!("after-cut-{cut}")).unwrap();
        installation.aggregator.kill();
        load.stop();
        let mounted = LoopDisk::mount(copy, directory.path().join(format!("mounted-{cut}"))).unwrap();
        lead_to(&mounted);
        drop(std::mem::replace(&mut disk, mounted));
        // Of the first cut there is none before it.
        let _ = std::fs::remove_file(directory.path().join(format!("after-cut-{}.img", cut - 1)));
        installation.aggregator.start();
        relay.wait_until_drained(ARRIVAL_PATIENCE);
        installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
        let (stored, accepted) = (installation.aggregator.api().total_count(), ledger.accepted() as u64);
        eprintln!("cut {cut}: {accepted} answered 200 so far, {stored} stored after it");
        assert_eq!(stored, accepted, "cut {cut}");
    }

    let marker = TestEvent::message("marker");
    assert_eq!(Installation::ingest(&project, &relay).post_noted(&marker, &ledger), Outcome::Accepted);
    installation.aggregator.api().wait_for_event(&project.slug, marker.id, ARRIVAL_PATIENCE);
    assert_exactly_once(&mut installation.aggregator, &mut [&mut relay], &ledger);
    drop(installation);
    drop(disk);
}
