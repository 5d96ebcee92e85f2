//! Connections that were made to do harm: slow ones, idle ones by the thousand, heads without end.
//!
//! Bounds held here: the relay's resident memory never exceeds [`MEMORY_BOUND`] in a whole test, also not with ten thousand
//! connections open, and a client that does nothing wrong is answered 200 within [`BYSTANDER_PATIENCE`] all the while.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use picket_tests::bystander::Bystander;
use picket_tests::ingest::Target;
use picket_tests::installation::{Installation, Project};
use picket_tests::relay::Relay;
use picket_tests::wait::{eventually, holds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most memory that the relay may ever have resident here.
const MEMORY_BOUND: u64 = 200 * 1024 * 1024;
/// Longest that another client may wait, with a debug build on two busy cores.
const BYSTANDER_PATIENCE: Duration = Duration::from_secs(5);
/// What the relay under test gives heads and pauses in bodies.
const SHORT: Duration = Duration::from_secs(2);
/// What it may take longer than it should, on a busy machine.
const GRACE: Duration = Duration::from_secs(10);
/// Connections that the issue asks for.
const IDLE_CONNECTIONS: u64 = 10_000;
/// File descriptors beside those of the connections, at either end.
const OTHER_DESCRIPTORS: u64 = 200;

/// A relay with these lines at the end of its configuration.
fn start_with(configuration: &str) -> (Installation, Project, Relay) {
    let (installation, project) = Installation::start();
    let mut relay = installation.join_relay("relay", installation.directory().join("relay"));
    relay.configure(configuration);
    relay.start();
    (installation, project, relay)
}

fn connect(target: &Target) -> TcpStream {
    let stream = TcpStream::connect(target.relay).expect("a connection");
    stream.set_read_timeout(Some(SHORT + GRACE)).unwrap();
    stream
}

/// A request's head that promises `length` bytes of body.
fn head(target: &Target, length: usize) -> String {
    format!(
        "POST {} HTTP/1.1\r\nhost: relay\r\nx-sentry-auth: {}\r\ncontent-length: {length}\r\n\r\n",
        target.envelope_path(),
        target.auth_header(),
    )
}

/// Reads what the relay still says before it closes the connection.
fn last_words(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end too: the relay closes with something unread.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "not closed in time: {error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn slow_heads_and_bodies_are_cut_off_while_others_are_served() {
    let (_installation, project, relay) =
        start_with("[http]\nheader_timeout = \"2s\"\nbody_idle_timeout = \"2s\"\nbody_timeout = \"4s\"");
    let target = project.at(&relay);
    let bystander = Bystander::start(target);
    let started = Instant::now();
    let mut silent: Vec<_> = (0..100).map(|_| connect(&target)).collect();
    let mut half_heads: Vec<_> = (0..100).map(|_| connect(&target)).collect();
    for stream in &mut half_heads {
        stream.write_all(&head(&target, 10).as_bytes()[..40]).unwrap();
    }
    let mut half_bodies: Vec<_> = (0..100).map(|_| connect(&target)).collect();
    for stream in &mut half_bodies {
        stream.write_all(head(&target, 1000).as_bytes()).unwrap();
        stream.write_all(b"{}\n{\"type\":\"event\"}\n{\"message\":").unwrap();
    }
    // A byte at a time, for ever: never a pause that is too long, but in the end too slow as a whole.
    let mut trickling = connect(&target);
    trickling.write_all(head(&target, 100_000).as_bytes()).unwrap();
    let mut written = 0;
    while trickling.write_all(b"{").is_ok() && written < 200 {
        written += 1;
        // The pace of a slow client, not synchronisation with anything.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(written < 200, "the relay read on for {:?}", started.elapsed());

    for stream in silent.iter_mut().chain(&mut half_heads) {
        let answer = last_words(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    for stream in &mut half_bodies {
        let answer = last_words(stream);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(started.elapsed() < 4 * SHORT + 2 * GRACE, "{:?}", started.elapsed());
    bystander.assert_unharmed(BYSTANDER_PATIENCE);
    assert!(relay.peak_memory() < MEMORY_BOUND, "{}", relay.peak_memory());
}

#[test]
fn floods_of_headers_are_refused_while_others_are_served() {
    let (_installation, project, relay) = Installation::start_with_relay();
    let target = project.at(&relay);
    let bystander = Bystander::start(target);
    let path = target.envelope_path();
    let many = format!("POST {path} HTTP/1.1\r\nhost: relay\r\n{}\r\n", "x-flood: 1\r\n".repeat(1000));
    let long = format!("POST {path} HTTP/1.1\r\nhost: relay\r\nx-flood: {}\r\n\r\n", "a".repeat(1024 * 1024));
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: relay\r\n\r\n", "a".repeat(1024 * 1024));
    for (what, request, statuses) in [
        ("1000 headers", many, ["431", "400"]),
        ("1 MiB header", long, ["431", "400"]),
        ("1 MiB path", long_path, ["414", "431"]),
    ] {
        for _ in 0..20 {
            let mut stream = connect(&target);
            // The relay may close before it has read everything.
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            let answer = last_words(&mut stream);
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(answer.is_empty() || statuses.contains(&status), "{what}: {answer}");
        }
    }
    // Without an end, header after header, until the relay has had enough.
    let mut stream = connect(&target);
    stream.write_all(format!("POST {path} HTTP/1.1\r\nhost: relay\r\n").as_bytes()).unwrap();
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && stream.write_all("x-flood: 1\r\n".repeat(1000).as_bytes()).is_ok() {
        sent += 12_000;
    }
    assert!(sent < 64 * 1024 * 1024, "the relay reads headers for ever");
    bystander.assert_unharmed(BYSTANDER_PATIENCE);
    assert!(relay.peak_memory() < MEMORY_BOUND, "{}", relay.peak_memory());
}

/// How many connections this machine lets one process hold, up to [`IDLE_CONNECTIONS`]; raises the limit of open files.
#[expect(clippy::print_stderr, reason = "who reads the result must know that it was smaller")]
fn idle_connections() -> u64 {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("up to the hard limit");
    let possible = most.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS).min(IDLE_CONNECTIONS);
    if possible < IDLE_CONNECTIONS {
        eprintln!("{possible} idle connections, not {IDLE_CONNECTIONS}: the hard limit of open files is {most:?}");
    }
    possible
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_from_being_served() {
    let count = idle_connections();
    let (_installation, project, relay) = Installation::start_with_relay();
    let target = project.at(&relay);
    let memory_before = relay.peak_memory();
    let bystander = Bystander::start(target);
    // Some say nothing, some have begun to speak, some have been answered.
    let idle: Vec<_> = (0..count)
        .map(|number| {
            let mut stream = connect(&target);
            match number % 3 {
                0 => {}
                1 => stream.write_all(b"POST /api/1/envelope/ HTTP/1.1\r\n").expect("room for a line"),
                _ => {
                    stream
                        .write_all(b"GET /api/relay/healthcheck/live/ HTTP/1.1\r\nhost: relay\r\n\r\n")
                        .expect("room for a request");
                    stream.read_exact(&mut [0; 12]).expect("an answer");
                }
            }
            stream
        })
        .collect();
    eventually("the relay holds or has closed all of them", GRACE, || {
        let status = relay.status()?;
        holds(status["ready"] == true, status.to_string())
    });
    // A newcomer, while all of them are there.
    let newcomer = Bystander::start(target);
    std::thread::sleep(Duration::from_secs(3));
    newcomer.assert_unharmed(BYSTANDER_PATIENCE);
    bystander.assert_unharmed(BYSTANDER_PATIENCE);
    let grown = relay.peak_memory().saturating_sub(memory_before);
    eprintln!(
        "{} connections open at the relay; its memory grew by {} KiB",
        relay.status().unwrap()["connections"],
        grown / 1024
    );
    assert!(relay.peak_memory() < MEMORY_BOUND, "{}", relay.peak_memory());
    drop(idle);
}
