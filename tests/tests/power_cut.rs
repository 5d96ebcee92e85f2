//! The power fails: what a relay answered 200 is on the disk, not in a cache.
//!
//! The relay's data is on a file system in an image file. The image is copied while the relay works, without anything being
//! synced or unmounted before: the copy has what the relay's own fsyncs brought to the device and nothing else, as a disk has
//! after a power cut. (That is why the test goes red without the fsync: the copy is taken within a second of the answers,
//! and neither ext4's commits nor the kernel's write-back, after 30 s, come before it.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use picket_tests::aggregator::Start;
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::loop_disk::LoopDisk;
use picket_tests::oracle::assert_exactly_once;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::soak::sample_or_whole;

const DISK_MEBIBYTES: u64 = 256;
const CONNECTIONS: u64 = 4;
const POSTS_PER_SECOND: u32 = 100;

/// The disk that the relay is on and the relay: the relay is dropped, and so killed, before the disk is unmounted.
struct Machine {
    relay: Relay,
    disk: LoopDisk,
}

#[test]
fn what_was_answered_200_is_there_after_a_power_cut() {
    // Each begins where the one before left the disk.
    let cuts = sample_or_whole(20_u32, 100);
    let mut random = Random::seeded();
    let (mut installation, project) = Installation::start();
    let disk = match LoopDisk::create(installation.directory(), "disk", DISK_MEBIBYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            // Not with a macro: what those print is shown only where a test fails.
            let _ = writeln!(std::io::stderr(), "skipped: what_was_answered_200_is_there_after_a_power_cut: {reason}");
            return;
        }
    };
    let data_dir = disk.path().join("relay");
    let mut machine = Machine { relay: installation.join_relay("relay", data_dir), disk };
    machine.relay.start();
    // From here on nothing is delivered: all that is answered has to be in the spool.
    installation.aggregator.stop();
    let ledger = Arc::new(Ledger::default());

    for cut in 1..=cuts {
        let load = Load::start(&[project.at(&machine.relay)], CONNECTIONS, POSTS_PER_SECOND, &ledger);
        // The sleep is the instant of the fault, which is meant to be anywhere; nothing is waited for.
        std::thread::sleep(random.span(Duration::from_millis(300), Duration::from_millis(1_500)));
        machine.relay.pause();
        // Answers that are on their way count: they were sent. What is answered later is answered by no relay.
        let copy = machine.disk.copy_image(installation.directory(), &format!("after-cut-{cut}")).unwrap();
        machine.relay.kill();
        load.stop();

        let mount_point = installation.directory().join(format!("mounted-{cut}"));
        let disk = LoopDisk::mount(copy, mount_point).expect("ext4 replays its journal");
        let relay = installation.move_relay(&machine.relay, disk.path().join("relay"));
        machine = Machine { relay, disk };
        // Of the first cut there is none before it.
        let _ = std::fs::remove_file(installation.directory().join(format!("after-cut-{}.img", cut - 1)));
        machine.relay.launch(&Start::default());
        let status = machine.relay.wait_until("tells its status", ARRIVAL_PATIENCE, |_| true);
        let spooled = status["spool"]["records"].as_u64().unwrap();
        let accepted = ledger.accepted() as u64;
        eprintln!("cut {cut}: {accepted} answered 200 so far, {spooled} in the spool after it");
        assert!(accepted > u64::from(cut) * 10, "the load was none");
        assert!(spooled >= accepted, "{} events that were answered 200 are gone", accepted - spooled);
        machine.relay.wait_until("still knows its projects", ARRIVAL_PATIENCE, |status| status["ready"] == true);
    }

    installation.aggregator.start();
    let api = installation.aggregator.api();
    let marker = TestEvent::message("marker");
    assert_eq!(Installation::ingest(&project, &machine.relay).post_noted(&marker, &ledger), Outcome::Accepted);
    api.wait_for_event(&project.slug, marker.id, ARRIVAL_PATIENCE);
    assert_exactly_once(&mut installation.aggregator, &mut [&mut machine.relay], &ledger);
}
