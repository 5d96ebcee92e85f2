//! SIGTERM and SIGINT: both programs end within their configured time, whoever does not answer, and at once when told twice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use picket_tests::aggregator::Start;
use picket_tests::clickhouse_server::{ClickHouseServer, USER};
use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::oracle::assert_exactly_once;
use picket_tests::program::Signal;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::wait::{eventually, holds};

/// What the machine may add to a configured time, with two busy cores: a process that exits, a look every 40 ms.
const SLACK: Duration = Duration::from_secs(2);
const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];

/// A request whose body is only begun: the rest is what the test does with it.
fn begin_request(project: &Project, relay: &Relay, event: &TestEvent) -> (TcpStream, Vec<u8>) {
    let target = project.at(relay);
    let body = event.envelope().to_vec();
    let mut stream = TcpStream::connect(relay.listen).unwrap();
    write!(
        stream,
        "POST {} HTTP/1.1\r\nhost: here\r\nx-sentry-auth: {}\r\ncontent-type: application/x-sentry-envelope\r\n\
         content-length: {}\r\n\r\n",
        target.envelope_path(),
        target.auth_header(),
        body.len(),
    )
    .unwrap();
    let (begun, rest) = body.split_at(body.len() / 2);
    stream.write_all(begun).unwrap();
    (stream, rest.to_vec())
}

#[test]
fn a_relay_ends_in_its_time_with_a_client_that_trickles_and_an_aggregator_that_is_gone() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    relay.stop();
    relay.configure("shutdown_timeout = \"1s\"\n[http]\nshutdown_timeout = \"2s\"");
    for signal in SIGNALS {
        relay.start();
        relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
        // It is not gone for the relay, which still waits for answers: worse than a refused connection.
        installation.aggregator.process().pause();
        Installation::ingest(&project, &relay).post(&TestEvent::message("waits for the aggregator"));
        let (_trickling, _rest) = begin_request(&project, &relay, &TestEvent::message("never completed"));
        let (mut honest, rest) = begin_request(&project, &relay, &TestEvent::message("completed in time"));
        relay.wait_until("has both requests", ARRIVAL_PATIENCE, |status| status["connections"].as_i64() >= Some(2));
        relay.process().signal(signal);
        eventually("it stops", ARRIVAL_PATIENCE, || holds(TcpStream::connect(relay.listen).is_err(), "it accepts"));
        honest.write_all(&rest).unwrap();
        let mut answer = String::new();
        honest.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "a request in flight is answered: {answer:?}");
        let (status, took) = relay.wait_for_end(Duration::from_secs(20));
        eprintln!("{signal:?}: the relay ended after {took:?}");
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(took < Duration::from_secs(2 + 1) + SLACK, "{signal:?}: {took:?}");
        installation.aggregator.process().resume();
    }
    // What was answered is there, and nothing twice.
    relay.start();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.api().wait_for_total(4, ARRIVAL_PATIENCE);
    relay.stop();
    installation.aggregator.stop();
}

#[test]
fn a_second_signal_ends_a_relay_at_once() {
    let (_installation, project, mut relay) = Installation::start_with_relay();
    for (first, second) in [(Signal::TERM, Signal::INT), (Signal::INT, Signal::INT)] {
        let (_trickling, _rest) = begin_request(&project, &relay, &TestEvent::message("never completed"));
        relay.wait_until("has the request", ARRIVAL_PATIENCE, |status| status["connections"].as_i64() >= Some(1));
        relay.process().signal(first);
        eventually("it stops", ARRIVAL_PATIENCE, || holds(TcpStream::connect(relay.listen).is_err(), "it accepts"));
        relay.process().signal(second);
        let (status, took) = relay.wait_for_end(Duration::from_secs(20));
        assert_ne!(status.code(), Some(0), "{status}");
        assert!(took < SLACK, "{took:?}, though requests may take 10 s");
        relay.start();
    }
}

#[test]
fn an_aggregator_ends_in_its_time_with_a_clickhouse_that_hangs_and_at_once_when_told_twice() {
    const PASSWORD: &str = "for this test";
    let directory = tempfile::tempdir().unwrap();
    let server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
    let section = format!("url = \"http://{}\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"", server.address);
    let mut installation = Installation::prepare(&section);
    installation.aggregator.init();
    let within = |timeout| [("PICKET_AGGREGATOR__SHUTDOWN_TIMEOUT", timeout)];
    let serve = |installation: &mut Installation, timeout| {
        let environment = within(timeout);
        installation.aggregator.start_as(&Start { environment: &environment, ..Start::default() });
    };
    serve(&mut installation, "4s");
    let project = installation.create_project("Shop");
    let mut relay = installation.add_relay("relay");
    let mut posted = 0;
    for (signal, timeout, again) in
        [(Signal::TERM, "4s", None), (Signal::INT, "4s", None), (Signal::TERM, "60s", Some(Signal::TERM))]
    {
        if !installation.aggregator.is_running() {
            serve(&mut installation, timeout);
        }
        relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
        server.pause();
        Installation::ingest(&project, &relay).post(&TestEvent::message("waits for ClickHouse"));
        posted += 1;
        relay.wait_until_drained(ARRIVAL_PATIENCE);
        // A browser that waits for a page, which waits for ClickHouse.
        let mut page = TcpStream::connect(installation.aggregator.pages).unwrap();
        page.write_all(b"GET /issues/ HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
        installation.aggregator.process().signal(signal);
        if let Some(again) = again {
            eventually("it stops", ARRIVAL_PATIENCE, || {
                holds(TcpStream::connect(installation.aggregator.pages).is_err(), "it accepts")
            });
            installation.aggregator.process().signal(again);
        }
        let (status, took) = installation.aggregator.wait_for_end(Duration::from_secs(70));
        eprintln!("{signal:?}, shutdown_timeout {timeout}, {again:?}: the aggregator ended after {took:?}");
        match again {
            None => {
                assert_eq!(status.code(), Some(0), "{signal:?}");
                assert!(took < Duration::from_secs(4) + SLACK, "{signal:?}: {took:?}");
            }
            Some(_) => {
                assert_ne!(status.code(), Some(0), "{status}");
                assert!(took < SLACK, "{took:?}");
            }
        }
        server.resume();
    }
    serve(&mut installation, "20s");
    installation.aggregator.api().wait_for_total(posted, ARRIVAL_PATIENCE);
    relay.stop();
    installation.aggregator.stop();
    server.stop();
}

#[test]
fn an_aggregator_ends_in_its_time_with_a_client_that_trickles_and_a_link_that_is_full() {
    const POSTS: usize = 40;
    const ATTACHMENT_BYTES: usize = 4 * 1024 * 1024;
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    installation.aggregator.stop();
    let (target, ledger, mut random) = (project.at(&relay), Ledger::default(), Random::seeded());
    // Noise, which does not compress: more than a link carries in the time that stopping takes.
    for _ in 0..POSTS {
        let event = TestEvent::message("with an attachment");
        let mut envelope = event.envelope().to_vec();
        writeln!(envelope, "{{\"type\":\"attachment\",\"length\":{ATTACHMENT_BYTES},\"filename\":\"noise\"}}").unwrap();
        (0..ATTACHMENT_BYTES / 8).for_each(|_| envelope.extend_from_slice(&random.next_u64().to_le_bytes()));
        let auth = target.auth_header();
        let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
        let answer = HttpClient::new().post(target.relay, &target.envelope_path(), &headers, envelope).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        ledger.note(event.id, Outcome::Accepted);
    }

    let within = [("PICKET_AGGREGATOR__SHUTDOWN_TIMEOUT", "4s")];
    installation.aggregator.start_as(&Start { environment: &within, ..Start::default() });
    let mut page = TcpStream::connect(installation.aggregator.pages).unwrap();
    page.write_all(b"POST /login/ HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\nusername=").unwrap();
    let is_full = |status: &serde_json::Value| status["uplink"]["in_flight_bytes"].as_u64() > Some(1024 * 1024);
    relay.wait_until("has filled the link", ARRIVAL_PATIENCE, is_full);
    installation.aggregator.process().signal(Signal::TERM);
    let (status, took) = installation.aggregator.wait_for_end(Duration::from_secs(20));
    eprintln!("with a full link the aggregator ended after {took:?}");
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(4) + SLACK, "{took:?}");
    let kept = relay.status().unwrap()["spool"]["records"].as_u64();
    assert!(kept > Some(0), "all had been delivered: the link was not full");

    installation.aggregator.start();
    assert_exactly_once(&mut installation.aggregator, &mut [&mut relay], &ledger);
}
