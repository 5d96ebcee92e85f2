//! Runs against servers that behave in stated ways: the floor, one that stalls, one that refuses, one that hangs up.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::num::NonZeroU32;

use time::macros::datetime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::floor::Floor;
use crate::payload::{Generator, Recipe};

fn pool(count: u64) -> Arc<Pool> {
    let recipe = Recipe {
        seed: 1,
        problems: NonZeroU32::new(10).unwrap(),
        gzip_level: 1,
        newest: datetime!(2026-11-22 12:00:00 UTC),
    };
    Arc::new(Generator::new(recipe).unwrap().pool(0..count).unwrap())
}

fn plan(pace: Pace, connections: usize) -> Plan {
    Plan { pace, connections, duration_max: Duration::from_secs(20), request_timeout: Duration::from_secs(10) }
}

fn target(address: std::net::SocketAddr) -> Target {
    Target::from_dsn(&format!("http://key@{address}/1")).unwrap()
}

async fn floor() -> Target {
    let floor = Floor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let target = target(floor.address());
    tokio::spawn(floor.serve());
    target
}

/// Reads one request; the bodies here have a content-length.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length: usize =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
            let start = read.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            if read.len() >= start + length {
                return Some(());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// A server that answers each request with `answer(number of the request)` after the returned delay.
async fn scripted(answer: impl Fn(usize) -> (Duration, &'static str) + Send + Sync + 'static) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let answer = Arc::new(answer);
        let served = Arc::new(AtomicUsize::new(0));
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, served) = (Arc::clone(&answer), Arc::clone(&served));
            tokio::spawn(async move {
                while read_request(&mut stream).await.is_some() {
                    let (delay, text) = answer(served.fetch_add(1, Ordering::SeqCst));
                    tokio::time::sleep(delay).await;
                    if text.is_empty() || stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    target
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const STALL: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_sends_every_body_once_and_the_floor_takes_them() {
    let target = floor().await;
    let report = run(&target, pool(200), &plan(Pace::Closed, 4)).await.unwrap();
    assert_eq!((report.accepted, report.refused, report.unanswered, report.unsent), (200, 0, 0, 0));
    assert_eq!(report.latency_us.len(), 200);
    assert_eq!(report.reconnects, 0);
    assert!(!report.problems.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_keeps_to_its_rate() {
    let target = floor().await;
    let report = run(&target, pool(50), &plan(Pace::Open { rate: 200.0 }, 8)).await.unwrap();
    assert_eq!(report.accepted, 50);
    // The last of 50 is due after 245 ms, and none may leave before its time.
    assert!(report.elapsed >= Duration::from_millis(245), "took {:?}", report.elapsed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_every_request_it_delayed() {
    let stalling = |number| if number == 0 { (STALL, OK) } else { (Duration::ZERO, OK) };
    let target = scripted(stalling).await;
    let report = run(&target, pool(40), &plan(Pace::Open { rate: 100.0 }, 1)).await.unwrap();
    assert_eq!(report.accepted, 40);
    // Due every 10 ms behind a stall of 300 ms: the requests of the first 200 ms waited 100 ms or more.
    let late = report.latency_us.count_between(100_000, u64::MAX);
    assert!(late >= 20, "only {late} of 40 requests show the stall");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_stall_shows_once_in_a_closed_loop() {
    let stalling = |number| if number == 0 { (STALL, OK) } else { (Duration::ZERO, OK) };
    let target = scripted(stalling).await;
    let report = run(&target, pool(40), &plan(Pace::Closed, 1)).await.unwrap();
    assert_eq!(report.accepted, 40);
    assert!(report.latency_us.max() >= 300_000);
    assert!(report.latency_us.value_at_quantile(0.5) < 300_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_by_status_and_quoted() {
    let refusing = |number| {
        if number % 2 == 0 {
            (Duration::ZERO, OK)
        } else {
            (Duration::ZERO, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 12\r\n\r\n{\"detail\":1}")
        }
    };
    let target = scripted(refusing).await;
    let report = run(&target, pool(20), &plan(Pace::Closed, 1)).await.unwrap();
    assert_eq!((report.accepted, report.refused), (10, 10));
    assert_eq!(report.statuses.get(&429), Some(&10));
    assert_eq!(report.complaints.first().map(String::as_str), Some("429: {\"detail\":1}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_connection_broke_is_not_repeated() {
    let hanging_up = |number| if number == 2 { (Duration::ZERO, "") } else { (Duration::ZERO, OK) };
    let target = scripted(hanging_up).await;
    let report = run(&target, pool(10), &plan(Pace::Closed, 1)).await.unwrap();
    assert_eq!((report.accepted, report.unanswered, report.reconnects), (9, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_when_its_time_is_up_and_says_what_never_left() {
    let target = scripted(|_| (Duration::from_millis(50), OK)).await;
    let short = Plan { duration_max: Duration::from_millis(200), ..plan(Pace::Open { rate: 1000.0 }, 1) };
    let report = run(&target, pool(100), &short).await.unwrap();
    assert!(report.accepted >= 1 && report.unsent >= 50, "{report:?}");
    assert_eq!(report.accepted + report.unsent, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_does_not_hold_the_run() {
    let target = scripted(|_| (Duration::from_secs(3600), OK)).await;
    let impatient = Plan { request_timeout: Duration::from_millis(50), ..plan(Pace::Closed, 2) };
    let report = run(&target, pool(4), &impatient).await.unwrap();
    assert_eq!(report.unanswered, 4);
    assert!(report.complaints.iter().all(|complaint| complaint.contains("request timeout")));
}
