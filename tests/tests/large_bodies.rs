//! Bodies of hundreds of mebibytes: what memory they take, and what a kill in their midst leaves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use picket_common::ids::EventId;
use picket_tests::event::TestEvent;
use picket_tests::http::{HttpClient, request};
use picket_tests::ingest::Target;
use picket_tests::observed::{Observed, sum};
use picket_tests::random::Random;

const MIB: usize = 1024 * 1024;
/// The longest dump that is taken.
const DUMP_BYTES: usize = 200 * MIB;
const UPLOADS: usize = 4;
/// What the relay may take at its peak, with four such dumps under way: its idle 40 MiB, for each upload the pieces that are
/// read, sealed, scrubbed and spooled (about 10 MiB), the spool's queue of 32 MiB and what the database buffers. A quarter of
/// one dump more than all of that.
const MEMORY_BOUND: u64 = 192 * MIB as u64;
/// For uploads on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(240);
const KILLS: u32 = 6;
/// Twice as many as fit.
const POSTS_AT_ONCE: usize = 100;

/// Bytes that begin as a dump does and do not compress.
fn dump(length: usize, random: &mut Random) -> Bytes {
    let mut bytes = b"MDMP".to_vec();
    bytes.reserve(length);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

/// Uploads a dump; its event, if the relay answered 200.
fn upload(target: Target, dump: &Bytes) -> Option<EventId> {
    let path = format!("/api/{}/minidump/?sentry_key={}", target.project, target.key);
    let headers = [("content-type", "application/octet-stream")];
    let answer = HttpClient::new().send(request("POST", target.relay, &path, &headers, dump.clone()), PATIENCE).ok()?;
    (answer.status == 200).then(|| answer.text().parse().expect("the id of an event"))
}

#[test]
fn four_dumps_of_the_longest_size_at_once_take_little_memory_and_arrive() {
    let mut observed = Observed::start();
    let target = observed.project.at(&observed.relay);
    let dump = dump(DUMP_BYTES, &mut Random::seeded());
    let started = Instant::now();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..UPLOADS).map(|_| scope.spawn(|| upload(target, &dump))).collect();
        uploads.into_iter().map(|upload| upload.join().unwrap().expect("the dump is taken")).collect()
    });
    let took = started.elapsed();
    observed.relay.wait_until_drained(PATIENCE);
    let peak = observed.relay.peak_memory();
    eprintln!(
        "{UPLOADS} dumps of {} MiB took {took:?}, the relay {} MiB at its peak",
        DUMP_BYTES / MIB,
        peak / MIB as u64
    );
    assert!(peak < MEMORY_BOUND, "{} MiB", peak / MIB as u64);
    for id in ids {
        let event = observed.wait_for_event(id, PATIENCE);
        assert_eq!(event["level"], "fatal");
    }
    let bytes = (UPLOADS * DUMP_BYTES) as u64;
    observed.wait_for_outcomes(&[("error", "accepted", UPLOADS as u64), ("attachment", "unsupported", bytes)]);
}

/// Posts an envelope with an attachment of a mebibyte, but for its last byte.
fn begin_post(target: Target, attachment: &[u8]) -> TcpStream {
    let start = format!("{{}}\n{{\"type\":\"attachment\",\"length\":{}}}\n", attachment.len());
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: relay\r\nx-sentry-auth: {}\r\ncontent-length: {}\r\n\r\n{start}",
        target.envelope_path(),
        target.auth_header(),
        start.len() + attachment.len(),
    );
    let mut stream = TcpStream::connect(target.relay).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).expect("the head is read");
    stream.write_all(&attachment[1..]).expect("the body is read, also if it is refused");
    stream
}

#[test]
fn more_bodies_at_once_than_memory_holds_are_put_off_and_the_others_are_taken() {
    let mut observed = Observed::start();
    let target = observed.project.at(&observed.relay);
    // With its headers just within what is held in memory.
    let attachment = vec![b'a'; MIB - 1024];
    let posts: Vec<_> = (0..POSTS_AT_ONCE).map(|_| begin_post(target, &attachment)).collect();
    let (mut taken, mut put_off) = (0, 0);
    for mut post in posts {
        post.write_all(b"a").expect("the last byte is read");
        let mut answer = [0; 512];
        let length = post.read(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
        match answer.split(' ').nth(1) {
            Some("200") => taken += 1,
            Some("503") if answer.contains("retry-after: ") => put_off += 1,
            _ => panic!("{answer}"),
        }
    }
    let peak = observed.relay.peak_memory();
    eprintln!("{taken} taken, {put_off} put off, the relay {} MiB at its peak", peak / MIB as u64);
    assert!(taken >= 20, "only {taken} were taken");
    assert!(put_off > 0, "all fitted: the test is none");
    assert!(peak < MEMORY_BOUND, "{} MiB", peak / MIB as u64);
    // The memory is free again.
    let answer = HttpClient::new().post(
        target.relay,
        &target.envelope_path(),
        &[("x-sentry-auth", &target.auth_header())],
        TestEvent::message("after the rush").envelope(),
    );
    assert_eq!(answer.unwrap().status, 200);
    observed.relay.wait_until_drained(PATIENCE);
}

#[test]
fn a_kill_amid_uploads_loses_nothing_that_was_answered_and_leaves_no_file_in_staging() {
    let mut observed = Observed::start();
    let target = observed.project.at(&observed.relay);
    let staging = observed.relay.data_dir.join("staging");
    let mut random = Random::seeded();
    let dump = dump(12 * MIB, &mut random);
    let is_over = AtomicBool::new(false);
    let ids: Vec<EventId> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        ids.extend(upload(target, &dump));
                    }
                    ids
                })
            })
            .collect();
        for _ in 0..KILLS {
            // The instant of a fault, which is meant to be anywhere within an upload; nothing is waited for.
            std::thread::sleep(random.span(Duration::from_millis(200), Duration::from_millis(2_500)));
            observed.relay.kill();
            assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0, "a file is left in staging");
            observed.relay.start();
        }
        // Some that are not disturbed.
        std::thread::sleep(Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert!(!ids.is_empty(), "no upload was answered: the load was none");
    observed.relay.wait_until_drained(PATIENCE);
    for id in &ids {
        observed.wait_for_event(*id, PATIENCE);
    }
    observed.installation.aggregator.wait_until_processed(PATIENCE);
    // Each event came with its dump, whole: bytes of requests that were cut off are in no count.
    let outcomes = observed.outcomes();
    let (events, bytes) = (sum(&outcomes, "error", "accepted"), sum(&outcomes, "attachment", "unsupported"));
    eprintln!("{} uploads were answered, {events} are stored", ids.len());
    assert!(events >= ids.len() as u64);
    assert_eq!(bytes, events * dump.len() as u64, "{outcomes:?}");
}
