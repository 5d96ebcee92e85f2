//! Every item that was answered ends in exactly one outcome, in the right category, whatever the relay goes through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use picket_tests::aggregator::Start;
use picket_tests::clickhouse_server::ClickHouseServer;
use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::ingest::Target;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::wait::{eventually, holds};
use serde_json::json;

const CONNECTIONS: u64 = 3;
const POSTS: u64 = 400;
const KILLS: u64 = 3;
/// From a kill to the next.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1200));

/// The status of a request of which a quota left nothing.
const LIMITED: u16 = 429;

/// Category and outcome, and how much.
type Counts = BTreeMap<(String, String), u64>;

/// What was posted: with an answer, and without.
#[derive(Debug, Default)]
struct Book {
    answered: Counts,
    unanswered: Counts,
}

/// Category, outcome and quantity of what a request held, by the status of its answer.
type Ends = fn(u16, &Sizes) -> Vec<(&'static str, &'static str, u64)>;

/// A request of the mix: its body, and how its items end if it is answered with `status`.
struct Post {
    body: Bytes,
    ends: Ends,
    sizes: Sizes,
}

struct Sizes {
    attachment: u64,
    reported: u64,
}

fn items(parts: &[(&str, &[u8])], id: &str) -> Vec<u8> {
    let mut envelope = json!({ "event_id": id }).to_string().into_bytes();
    envelope.push(b'\n');
    for (item_type, payload) in parts {
        envelope.extend_from_slice(json!({ "type": item_type, "length": payload.len() }).to_string().as_bytes());
        envelope.push(b'\n');
        envelope.extend_from_slice(payload);
        envelope.push(b'\n');
    }
    envelope
}

fn post(random: &mut Random) -> Post {
    let event = TestEvent::message("accounting");
    let id = event.id.to_string();
    let sizes = Sizes { attachment: 1 + random.below(5000), reported: 1 + random.below(50) };
    let attachment = vec![b'a'; usize::try_from(sizes.attachment).unwrap()];
    let mut filtered = event.clone();
    filtered.content["release"] = json!("unwanted@1");
    let mut oversized = event.clone();
    oversized.content["extra"] = json!({ "filler": "x".repeat(2 * 1024 * 1024) });
    let report =
        json!({ "discarded_events": [{ "reason": "sample_rate", "category": "replay", "quantity": sizes.reported }] });
    let report = report.to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let session = json!({ "started": now, "attrs": { "release": "shop@1" } }).to_string();
    let session = session.as_bytes();
    let (body, ends): (Vec<u8>, Ends) = match random.below(10) {
        0 | 1 => (event.envelope().to_vec(), |status, _| match status {
            200 => vec![("error", "accepted", 1)],
            _ => vec![("error", "refused", 1)],
        }),
        2 => {
            let parts: &[(&str, &[u8])] =
                &[("event", &event.json()), ("sparkle", b"{}"), ("transaction_of_tomorrow", b"?")];
            (items(parts, &id), |_, _| vec![("error", "accepted", 1), ("default", "unsupported", 2)])
        }
        3 => (items(&[("attachment", &attachment)], &id), |status, sizes| {
            let outcome = if status == LIMITED { "rate_limited" } else { "unsupported" };
            vec![("attachment", outcome, sizes.attachment), ("attachment_item", outcome, 1)]
        }),
        4 => (items(&[("event", b"this is no JSON")], &id), |_, _| vec![("error", "invalid", 1)]),
        5 => (items(&[("event", &filtered.json())], &id), |_, _| vec![("error", "filtered", 1)]),
        6 => (items(&[("event", &oversized.json()), ("session", b"{}")], &id), |_, _| {
            vec![("error", "invalid", 1), ("session", "invalid", 1)]
        }),
        7 => {
            let check_in = json!({ "monitor_slug": "nightly", "status": "ok" }).to_string();
            let parts: &[(&str, &[u8])] = &[
                ("session", session),
                ("check_in", check_in.as_bytes()),
                ("user_report", b"{}"),
                ("form_data", b"[]"),
                ("session", b"{}"),
            ];
            (items(parts, &id), |_, _| {
                vec![
                    ("session", "unsupported", 1),
                    ("monitor", "unsupported", 1),
                    ("feedback", "unsupported", 1),
                    ("default", "unsupported", 1),
                    ("session", "invalid", 1),
                ]
            })
        }
        8 => {
            let parts: &[(&str, &[u8])] = &[("transaction", &event.json()), ("session", session)];
            (items(parts, &id), |_, _| vec![("transaction", "rate_limited", 1), ("session", "unsupported", 1)])
        }
        _ => (items(&[("client_report", report.as_bytes()), ("client_report", b"[]")], &id), |_, sizes| {
            let told = ("replay", "client_discard", sizes.reported);
            vec![("client_report", "accepted", 1), ("client_report", "invalid", 1), told]
        }),
    };
    Post { body: body.into(), ends, sizes }
}

fn add(counts: &mut Counts, ends: Vec<(&str, &str, u64)>) {
    for (category, outcome, quantity) in ends {
        *counts.entry((category.to_owned(), outcome.to_owned())).or_default() += quantity;
    }
}

/// Posts the mix; after a post that got no answer, when the relay is ready again.
fn post_all(target: Target, mut random: Random, book: &Mutex<Book>) {
    let http = HttpClient::new();
    let auth = target.auth_header();
    let headers = [("x-sentry-auth", auth.as_str())];
    for _ in 0..POSTS {
        let post = post(&mut random);
        let answer = http.post(target.relay, &target.envelope_path(), &headers, post.body);
        let mut guard = book.lock().unwrap();
        let Book { answered, unanswered } = &mut *guard;
        match &answer {
            Ok(answer) => add(answered, (post.ends)(answer.status, &post.sizes)),
            // Either may have come of it.
            Err(_) => [200, LIMITED].iter().for_each(|&status| add(unanswered, (post.ends)(status, &post.sizes))),
        }
        drop(guard);
        if answer.is_err() {
            eventually("the relay is ready again", ARRIVAL_PATIENCE, || {
                let answer = http.get(target.relay, "/api/relay/healthcheck/ready/", &[]).map_err(|error| error.0)?;
                holds(answer.status == 200, answer.status)
            });
        }
    }
}

/// What ClickHouse has of a project.
fn stored(installation: &Installation, project: u64) -> Counts {
    let server = ClickHouseServer::start(&installation.aggregator.clickhouse_data(), "for this test");
    let sql = format!(
        "SELECT category, outcome, sum(quantity) FROM picket.outcomes WHERE project_id = {project} GROUP BY category, outcome"
    );
    let row = |row: Vec<String>| ((row[0].clone(), row[1].clone()), row[2].parse().expect("a count"));
    let counts = server.query(&sql).into_iter().map(row).collect();
    server.stop();
    counts
}

fn kill_now_and_then(relay: &mut Relay, random: &mut Random) {
    for _ in 0..KILLS {
        // The instant of a fault, which is meant to be anywhere; nothing is waited for.
        thread::sleep(random.span(INTERVAL.0, INTERVAL.1));
        relay.kill();
        relay.launch(&Start::default());
    }
}

#[test]
fn everything_that_was_answered_is_in_the_outcomes_exactly_once_even_if_the_relay_is_killed() {
    let mut random = Random::seeded();
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let settings = installation.directory().join("settings.json");
    let change = json!({
        "filterSettings": { "releases": { "releases": ["unwanted@*"] } },
        "quotas": [
            { "id": "few", "limit": 40, "window": 86_400, "scope": "project", "categories": ["attachment_item"] },
            { "limit": 0, "categories": ["transaction"] },
        ],
    });
    std::fs::write(&settings, change.to_string()).unwrap();
    let _changed = installation.aggregator.ask(&["project", "config", "set", "shop", settings.to_str().unwrap()]);
    let revision = |status: &serde_json::Value| status["config_revision"].as_u64() >= Some(2);
    relay.wait_until("has the settings", ARRIVAL_PATIENCE, revision);

    let target = project.at(&relay);
    let book = Arc::new(Mutex::new(Book::default()));
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (book, seed) = (Arc::clone(&book), random.clone());
            random.next_u64();
            thread::spawn(move || post_all(target, seed, &book))
        })
        .collect();
    kill_now_and_then(&mut relay, &mut random);
    threads.into_iter().for_each(|thread| thread.join().expect("a posting thread"));

    // The last kill may have been a moment ago: a process that is still starting has no hand for SIGTERM yet.
    relay.wait_until("answers again", ARRIVAL_PATIENCE, |status| status["spool"].is_object());
    // SIGTERM writes the last counts; the next start seals and sends them.
    relay.stop();
    relay.start();
    let all_sent = |status: &serde_json::Value| status["spool"]["records"] == 0 && status["outcomes_waiting"] == 0;
    relay.wait_until("has sent everything", ARRIVAL_PATIENCE, all_sent);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    drop(relay);
    installation.aggregator.stop();

    let stored = stored(&installation, project.dsn.project_id().get());
    let book = book.lock().unwrap();
    eprintln!("{stored:#?}");
    for (key, &counted) in &stored {
        let answered = book.answered.get(key).copied().unwrap_or(0);
        let perhaps = book.unanswered.get(key).copied().unwrap_or(0);
        assert!(
            (answered..=answered + perhaps).contains(&counted),
            "{key:?}: {counted} are counted, {answered} were answered and {perhaps} posted without an answer"
        );
    }
    let missing: Vec<_> = book.answered.keys().filter(|key| !stored.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{missing:?} were answered and are in no outcome");
    assert!(book.answered.keys().any(|(_, outcome)| outcome == "rate_limited"), "no quota was used up");
    assert!(book.answered.len() >= 15, "the mix has too little in it: {:?}", book.answered);
    assert!(!book.unanswered.is_empty(), "no kill hit a request");
}
