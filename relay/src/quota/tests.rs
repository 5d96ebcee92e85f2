//! Requests against quotas, and the table against an aggregator that the test plays.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use picket_common::envelope::Envelope;
use picket_common::ids::{ProjectId, PublicKey};
use picket_common::project_config::{KeyConfig, ProjectConfig};
use picket_common::quota::window::{WindowShare, WindowUse};
use picket_common::timestamp::Timestamp;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::keeper::Ending;
use super::table::{Link, Quotas};
use super::*;
use crate::limit::rates::RatesConfig;
use crate::projects::Project;

/// The beginning of a window of a minute, an hour or a day.
const NOW: Timestamp = Timestamp::from_millis(1_763_769_600_000);

fn key() -> PublicKey {
    PublicKey::from_random([1; 16])
}

fn project(settings: Json) -> Arc<Project> {
    let config = ProjectConfig {
        id: ProjectId::new(7),
        slug: "shop".to_owned(),
        keys: vec![KeyConfig { public_key: key(), enabled: true }],
        settings: serde_json::from_value(settings).unwrap(),
    };
    Arc::new(Project::new(config))
}

fn with_quotas(quotas: Json) -> Arc<Project> {
    project(json!({ "quotas": quotas }))
}

/// What is left of an envelope, what was refused under which reasons, and the header that tells.
fn send(
    quotas: &Quotas,
    project: &Arc<Project>,
    items: &[(&str, &str)],
) -> (Vec<String>, Vec<(String, String, u64)>, String) {
    let mut envelope = Envelope::empty();
    for (name, payload) in items {
        envelope.push(Item::new(ItemType::from_name(name), Bytes::from((*payload).to_owned())));
    }
    let mut submission = crate::submission::Submission::for_tests(Envelope::empty());
    submission.project = Arc::clone(project);
    submission.received_at = NOW;
    let items =
        envelope.take_items().into_iter().map(|item| crate::opened::OpenedItem { item, document: None }).collect();
    let mut admitted =
        admit(Filtered::for_tests(Opened { submission, items }), quotas, &Rates::new(&RatesConfig::default()));
    let mut refused = Vec::new();
    for (outcome, reason, tally) in admitted.take_dropped().iter() {
        assert_eq!(outcome, Outcome::RateLimited);
        refused.extend(tally.iter().map(|(category, quantity)| (reason.to_string(), category.to_string(), quantity)));
    }
    let header = admitted.take_limits().header_value();
    let left = admitted.into_opened().bare_items().map(|item| item.item_type().as_str().to_owned()).collect();
    (left, refused, header)
}

fn errors_admitted(quotas: &Quotas, project: &Arc<Project>, tries: usize) -> usize {
    (0..tries).filter(|_| !send(quotas, project, &[("event", "{}")]).0.is_empty()).count()
}

#[test]
fn a_project_without_quotas_is_not_limited() {
    let (left, refused, header) =
        send(&Quotas::default(), &with_quotas(json!([])), &[("event", "{}"), ("session", "{}")]);
    assert_eq!((left.len(), refused.len(), header.as_str()), (2, 0, ""));
}

#[test]
fn a_refused_event_takes_its_companions_with_it_and_nothing_else() {
    let closed = with_quotas(json!([{"limit": 0, "categories": ["error"], "reasonCode": "closed"}]));
    let items =
        [("event", "{}"), ("attachment", "12345"), ("user_report", "{}"), ("session", "{}"), ("client_report", "{}")];
    let (left, refused, header) = send(&Quotas::default(), &closed, &items);
    assert_eq!(left, ["session", "client_report"]);
    let expected = [("error", 1), ("attachment", 5), ("attachment_item", 1), ("feedback", 1)];
    assert_eq!(refused, expected.map(|(category, quantity)| ("closed".to_owned(), category.to_owned(), quantity)));
    assert_eq!(header, "60:error:organization:closed");
}

#[test]
fn each_feedback_is_charged_and_goes_alone_where_it_is_beside_an_event() {
    let closed = |category| with_quotas(json!([{"limit": 0, "categories": [category], "reasonCode": "closed"}]));
    let items = [("event", "{}"), ("feedback", "{}"), ("attachment", "12345"), ("feedback", "{}")];
    let (left, refused, _) = send(&Quotas::default(), &closed("feedback"), &items);
    assert_eq!(left, ["event", "attachment"]);
    assert_eq!(
        refused,
        [("closed".to_owned(), "feedback".to_owned(), 1), ("closed".to_owned(), "feedback".to_owned(), 1)]
    );
    assert_eq!(send(&Quotas::default(), &closed("error"), &items).0, ["feedback", "feedback"]);
    let two = with_quotas(json!([{"id": "q", "limit": 2, "window": 60, "categories": ["feedback"]}]));
    assert_eq!(send(&Quotas::default(), &two, &[("feedback", "{}"); 3]).0.len(), 2);
    assert_eq!(send(&Quotas::default(), &closed("feedback"), &items[1..]).0, [""; 0], "its screenshot goes with it");
}

#[test]
fn a_quota_admits_its_limit_and_tells_when_the_window_ends() {
    let quotas = Quotas::default();
    let three = with_quotas(json!([{"id": "q", "limit": 3, "window": 120, "scope": "key", "categories": ["error"]}]));
    assert_eq!(errors_admitted(&quotas, &three, 5), 3);
    assert_eq!(send(&quotas, &three, &[("event", "{}")]).2, "120:error:key:quota_exceeded");
    let day = with_quotas(json!([{"id": "d", "limit": 1, "window": 86_400}]));
    assert_eq!(errors_admitted(&quotas, &day, 1), 1);
    assert_eq!(send(&quotas, &day, &[("event", "{}")]).2, "300::organization:quota_exceeded");
}

#[test]
fn attachments_are_counted_in_bytes_and_in_items() {
    let quotas = Quotas::default();
    let bytes = with_quotas(json!([{"id": "b", "limit": 8, "window": 60, "categories": ["attachment"]}]));
    let (left, refused, _) =
        send(&quotas, &bytes, &[("event", "{}"), ("attachment", "12345"), ("attachment", "12345")]);
    assert_eq!(left, ["event", "attachment"]);
    let expected = [("attachment", 5), ("attachment_item", 1)];
    assert_eq!(
        refused,
        expected.map(|(category, quantity)| ("quota_exceeded".to_owned(), category.to_owned(), quantity))
    );
    let items = with_quotas(json!([{"id": "i", "limit": 1, "window": 60, "categories": ["attachment_item"]}]));
    assert_eq!(send(&quotas, &items, &[("attachment", "12345"), ("attachment", "1")]).0, ["attachment"]);
}

#[test]
fn an_item_is_charged_to_all_its_quotas_or_to_none() {
    let quotas = Quotas::default();
    let small = json!({"id": "small", "limit": 2, "window": 60, "categories": ["error"]});
    let large = json!({"id": "large", "limit": 3, "window": 60, "categories": ["error", "session"]});
    let both = with_quotas(json!([large, small]));
    assert_eq!(errors_admitted(&quotas, &both, 10), 2);
    // Had the refused ones been charged to the large quota, nothing would be left of it.
    assert_eq!(send(&quotas, &both, &[("session", "{}"), ("session", "{}")]).0.len(), 1);
}

/// A crash as it is when it comes to the quotas: its event, its dump of four bytes, a log of three.
const CRASH: &str = "{}\n{\"type\":\"attachment\",\"length\":4,\"attachment_type\":\"event.minidump\"}\nMDMP\n\
    {\"type\":\"attachment\",\"length\":3}\nlog\n{\"type\":\"event\",\"length\":2}\n{}\n";

fn admitted_at<'t>(quotas: &Quotas, project: &Arc<Project>, envelope: &str, at: Timestamp) -> Admitted<'t> {
    let mut submission = crate::submission::Submission::for_tests(Envelope::empty());
    submission.project = Arc::clone(project);
    submission.received_at = at;
    let items = Envelope::parse(Bytes::from(envelope.to_owned()), 10).unwrap().take_items();
    let items = items.into_iter().map(|item| crate::opened::OpenedItem { item, document: None }).collect();
    admit(Filtered::for_tests(Opened { submission, items }), quotas, &Rates::new(&RatesConfig::default()))
}

#[test]
fn a_crash_is_charged_as_one_error_and_its_dump_and_files_as_attachments() {
    let quotas = Quotas::default();
    let quota = |id, category| json!({"id": id, "limit": 100, "window": 60, "categories": [category]});
    let project = with_quotas(json!([quota("e", "error"), quota("b", "attachment"), quota("i", "attachment_item")]));
    let admitted = admitted_at(&quotas, &project, CRASH, NOW);
    assert_eq!(admitted.opened.items.len(), 3);
    let mut used: Vec<_> =
        quotas.take_report(Instant::now()).into_iter().map(|told| (told.bucket.quota.to_string(), told.used)).collect();
    used.sort();
    assert_eq!(used, [("b".to_owned(), 7), ("e".to_owned(), 1), ("i".to_owned(), 2)]);
}

#[test]
fn a_dump_passes_a_limit_of_attachments_that_other_files_do_not() {
    let closed = with_quotas(json!([{"limit": 0, "categories": ["attachment"], "reasonCode": "no_files"}]));
    let mut admitted = admitted_at(&Quotas::default(), &closed, CRASH, NOW);
    let kept: Vec<_> =
        admitted.opened.bare_items().map(|item| (item.item_type().as_str(), item.payload_len())).collect();
    assert_eq!(kept, [("attachment", 4), ("event", 2)]);
    let refused: Vec<_> =
        admitted.take_dropped().iter().flat_map(|(_, _, tally)| tally.iter().collect::<Vec<_>>()).collect();
    assert_eq!(refused, [(DataCategory::Attachment, 3), (DataCategory::AttachmentItem, 1)]);
    assert_eq!(admitted.take_limits().header_value(), "60:attachment:organization:no_files");
}

#[test]
fn what_is_given_back_is_admitted_again_with_everything_that_was_charged() {
    let quotas = Quotas::default();
    let settings = json!({
        "spikeProtection": {"enabled": true, "floor": 1},
        "quotas": [{"id": "e", "limit": 1, "window": 60, "categories": ["error"]},
            {"id": "i", "limit": 2, "window": 60, "categories": ["attachment_item"]}],
    });
    let project = project(settings);
    for _ in 0..3 {
        let mut admitted = admitted_at(&quotas, &project, CRASH, NOW);
        assert_eq!(admitted.opened.items.len(), 3);
        admitted.take_charge().unwrap().give_back(&quotas);
    }
    assert_eq!(admitted_at(&quotas, &project, CRASH, NOW).opened.items.len(), 3);
    assert_eq!(admitted_at(&quotas, &project, CRASH, NOW).opened.items.len(), 0);
    assert!(admitted_at(&quotas, &with_quotas(json!([])), CRASH, NOW).take_charge().is_none());
}

#[test]
fn a_charge_is_not_given_back_to_a_window_that_has_begun_since() {
    const EVENT: &str = "{}\n{\"type\":\"event\"}\n{}\n";
    let quotas = Quotas::default();
    let one = with_quotas(json!([{"id": "q", "limit": 1, "window": 60, "categories": ["error"]}]));
    let later = Timestamp::from_millis(NOW.as_millis() + 60_000);
    let charge = admitted_at(&quotas, &one, EVENT, NOW).take_charge().unwrap();
    assert_eq!(admitted_at(&quotas, &one, EVENT, later).opened.items.len(), 1);
    charge.give_back(&quotas);
    assert_eq!(admitted_at(&quotas, &one, EVENT, later).opened.items.len(), 0);
}

#[test]
fn a_flood_is_refused_where_a_project_is_protected() {
    let protected = project(json!({"spikeProtection": {"enabled": true, "floor": 10}}));
    let quotas = Quotas::default();
    assert_eq!(errors_admitted(&quotas, &protected, 50), 10);
    let (_, refused, header) = send(&quotas, &protected, &[("event", "{}")]);
    assert_eq!(refused[0].0, "spike_protection");
    assert!(header.ends_with(":project:spike_protection"), "{header}");
    assert_eq!(send(&quotas, &protected, &[("session", "{}")]).0.len(), 1, "sessions are no events");
}

#[test]
fn what_is_not_stored_does_not_use_up_what_protects_errors() {
    let protected = project(json!({"spikeProtection": {"enabled": true, "floor": 10}}));
    let quotas = Quotas::default();
    for _ in 0..50 {
        assert_eq!(send(&quotas, &protected, &[("transaction", "{}"), ("of_tomorrow", "{}")]).0.len(), 2);
    }
    assert_eq!(errors_admitted(&quotas, &protected, 50), 10);
}

fn share(told: &WindowUse, granted: u64) -> WindowShare {
    let (bucket, number) = (told.bucket.clone(), told.number);
    WindowShare { bucket, number, granted, is_exhausted: false, is_recalled: false, base: None }
}

#[test]
fn relays_divide_a_limit_and_use_what_they_are_granted() {
    let quotas = Quotas::default();
    quotas.apply(3, &[]);
    quotas.set_link(Link::Up);
    let hundred = with_quotas(json!([{"id": "q", "limit": 100, "window": 3600}]));
    assert_eq!(errors_admitted(&quotas, &hundred, 100), 34);
    assert_eq!(send(&quotas, &hundred, &[("event", "{}")]).2, "1::organization:quota_exceeded", "more may come soon");
    let told = quotas.take_report(Instant::now());
    assert_eq!((told.len(), told[0].base, told[0].used), (1, 34, 34));
    assert!(told[0].wants > 0 && quotas.take_report(Instant::now()).is_empty());
    quotas.apply(3, &[share(&told[0], 6)]);
    assert_eq!(errors_admitted(&quotas, &hundred, 100), 6);
    quotas.apply(3, &[WindowShare { is_exhausted: true, ..share(&told[0], 6) }]);
    assert_eq!(send(&quotas, &hundred, &[("event", "{}")]).2, "300::organization:quota_exceeded");
}

#[test]
fn a_window_that_was_never_touched_is_given_back_when_it_is_recalled() {
    let quotas = Quotas::default();
    let hundred = with_quotas(json!([{"id": "q", "limit": 100, "window": 3600}]));
    let bucket = hundred.quotas().buckets().next().unwrap();
    let recall = WindowShare {
        bucket: picket_common::quota::window::QuotaBucket::clone(bucket),
        number: bucket.window_at(NOW),
        granted: 0,
        is_exhausted: false,
        is_recalled: true,
        base: Some(50),
    };
    quotas.apply(2, &[recall]);
    let told = quotas.take_report(Instant::now());
    assert_eq!((told[0].base, told[0].released), (50, 38));
    assert_eq!(errors_admitted(&quotas, &hundred, 100), 12);
}

#[tokio::test(start_paused = true)]
async fn what_runs_low_is_told_soon_and_the_rest_in_time() {
    let quotas = Quotas::default();
    let hundred = with_quotas(json!([{"id": "q", "limit": 100, "window": 3600}]));
    let begun = Instant::now();
    assert_eq!(errors_admitted(&quotas, &hundred, 1), 1);
    quotas.due().await;
    assert!((990..=1010).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let _ = quotas.take_report(Instant::now());
    let begun = Instant::now();
    assert_eq!(errors_admitted(&quotas, &hundred, 200), 99);
    quotas.due().await;
    assert!((90..=110).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let _ = quotas.take_report(Instant::now());
    assert!(tokio::time::timeout(Duration::from_secs(60), quotas.due()).await.is_err(), "nothing changed");
}

#[test]
fn a_restart_does_not_double_a_share() {
    let hundred = with_quotas(json!([{"id": "q", "limit": 100, "window": 3600}]));
    let quotas = Quotas::default();
    assert_eq!(errors_admitted(&quotas, &hundred, 40), 40);
    let killed = quotas.take_stored(NOW, Ending::Running).unwrap();
    let stopped = quotas.take_stored(NOW, Ending::Clean).unwrap();
    assert_eq!(errors_admitted(&Quotas::new(stopped, Instant::now()), &hundred, 100), 60);
    // What was admitted in the first interval may have been admitted twice more before the kill.
    assert_eq!(errors_admitted(&Quotas::new(killed, Instant::now()), &hundred, 100), 0);
    // Once it is quiet, nothing is held back.
    let _ = quotas.take_stored(NOW, Ending::Running);
    assert!(quotas.take_stored(NOW, Ending::Running).is_none());
}

/// What a report asks for, by quota.
fn wanted(quotas: &Quotas) -> Vec<(String, u64)> {
    let mut wanted: Vec<_> = quotas
        .take_report(Instant::now())
        .into_iter()
        .filter(|told| told.wants > 0)
        .map(|told| (told.bucket.quota.to_string(), told.wants))
        .collect();
    wanted.sort();
    wanted
}

#[tokio::test]
async fn a_noisy_key_asks_for_no_share_of_the_quotas_that_did_not_stop_it() {
    let noisy = |own: Json| {
        let organization = json!({"id": "organization", "scope": "organization", "limit": 1000, "window": 3600});
        (Quotas::default(), with_quotas(json!([own, organization])))
    };
    let key = json!({"id": "key", "scope": "key", "limit": 10, "window": 3600});
    let (quotas, project) = noisy(key);
    quotas.set_link(Link::Up);
    quotas.apply(2, &[]);
    assert_eq!(errors_admitted(&quotas, &project, 5), 5);
    let _ = quotas.take_report(Instant::now());
    assert_eq!(errors_admitted(&quotas, &project, 100), 0);
    assert_eq!(wanted(&quotas), [("key".to_owned(), 10)], "never more than the limit either");

    let (quotas, project) = noisy(json!({"id": "closed", "scope": "key", "limit": 0}));
    quotas.set_link(Link::Up);
    quotas.apply(1000, &[]);
    assert_eq!(errors_admitted(&quotas, &project, 100), 0);
    assert_eq!(wanted(&quotas), []);
}

#[tokio::test]
async fn what_is_larger_than_the_whole_limit_is_never_asked_for() {
    let bytes = json!({"id": "bytes", "limit": 10, "window": 3600, "categories": ["attachment"]});
    let (quotas, project) = (Quotas::default(), with_quotas(json!([bytes])));
    quotas.set_link(Link::Up);
    let (left, _, header) = send(&quotas, &project, &[("attachment", "eleven char")]);
    assert!(left.is_empty() && header.starts_with("300:"), "{header}");
    assert_eq!(wanted(&quotas), []);
}
