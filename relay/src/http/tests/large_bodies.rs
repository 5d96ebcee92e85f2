//! Bodies that memory does not hold.

use super::*;

/// A spooled request: its record, and the items that are blobs with their content.
pub(super) type Spooled = (Record, Vec<(u32, Vec<u8>)>);

/// What is in the spool, with the chunks before each record put together.
pub(super) fn requests(relay: &Relay) -> Vec<Spooled> {
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut requests = Vec::new();
    for record in relay.spooled() {
        let Some(chunk) = record.header.chunk else {
            let items: Vec<_> = record.header.blobs.iter().map(|blob| blob.item).zip(blobs.drain(..)).collect();
            let lengths: Vec<_> = items.iter().map(|(_, content)| content.len() as u64).collect();
            let announced: Vec<_> = record.header.blobs.iter().map(|blob| blob.bytes).collect();
            assert_eq!(lengths, announced);
            requests.push((record, items));
            continue;
        };
        if chunk.offset == 0 {
            blobs.push(Vec::new());
        }
        let blob = blobs.last_mut().unwrap();
        assert_eq!(chunk.offset, blob.len() as u64, "chunks are in order");
        blob.extend_from_slice(&record.body);
    }
    requests
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 253).unwrap()).collect()
}

fn envelope_with(attachments: &[&[u8]]) -> Vec<u8> {
    let mut body = envelope_of(r#"{"message":"x"}"#).into_bytes();
    for attachment in attachments {
        body.extend_from_slice(
            format!("{{\"type\":\"attachment\",\"filename\":\"f\",\"length\":{}}}\n", attachment.len()).as_bytes(),
        );
        body.extend_from_slice(attachment);
        body.push(b'\n');
    }
    body
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn large_attachments_are_spooled_in_pieces_that_their_envelope_names() {
    let relay = relay();
    let (large, small, larger) = (pattern(1_500_000), pattern(1_000), pattern(2_500_000));
    let body = envelope_with(&[&large, &small, &larger]);
    let auth = format!("Sentry sentry_key={KEY}");
    for (encoding, body) in [("identity", body.clone()), ("gzip", gzip(&body))] {
        let before = requests(&relay).len();
        let headers = [("x-sentry-auth", auth.as_str()), ("content-encoding", encoding)];
        let answer = relay.send(Method::POST, "/api/7/envelope/", &headers, body).await;
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!({ "id": ID })));
        let mut requests = requests(&relay);
        assert_eq!(requests.len(), before + 1);
        let (record, blobs) = requests.pop().unwrap();
        assert!(blobs == [(1, large.clone()), (3, larger.clone())]);
        let envelope = Envelope::parse(record.body.clone(), 500).unwrap();
        assert_eq!(event_of(&record)["logentry"]["formatted"], "x");
        assert_eq!(envelope.items()[2].payload(), &small);
        assert!(envelope.items()[1].payload().is_empty());
        assert_eq!(envelope.items()[1].header_text("filename").unwrap(), "f");
    }
    assert_eq!((relay.server.budget.used(), relay.server.staging.used()), (0, 0));
    assert_eq!(relay.counted(), []);
}

#[tokio::test]
async fn a_large_item_over_its_limit_is_refused_by_name_and_counted_with_all_others() {
    let limits = LimitsConfig { max_attachment_bytes: ByteSize::mib(2), ..LimitsConfig::default() };
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() };
    let relay = relay_with(limits, &config);
    relay.configure();
    let long = pattern(2 * 1024 * 1024 + 1);
    let answer = relay.post("/api/7/envelope/", envelope_with(&[&long])).await;
    assert_eq!((answer.status, answer.cause().as_str()), (413, "too_large:attachment"));
    let event = format!("{{\"message\":\"{}\"}}", "x".repeat(1_100_000));
    let answer = relay.post("/api/7/envelope/", envelope_of(&event)).await;
    assert_eq!((answer.status, answer.cause().as_str()), (413, "too_large:event"));
    let quantities: Vec<_> =
        relay.counted().into_iter().map(|(_, category, _, reason, quantity)| (category, reason, quantity)).collect();
    let expected = [
        (DataCategory::Error, "too_large:attachment".to_owned(), 1),
        (DataCategory::Error, "too_large:event".to_owned(), 1),
        (DataCategory::Attachment, "too_large:attachment".to_owned(), long.len() as u64),
        (DataCategory::AttachmentItem, "too_large:attachment".to_owned(), 1),
    ];
    assert_eq!(quantities, expected);
    assert!(relay.spooled().is_empty());
    assert_eq!((relay.server.budget.used(), relay.server.staging.used()), (0, 0));
}

#[tokio::test]
async fn a_few_compressed_bytes_that_stand_for_very_many_are_not_held_whole_either() {
    let limits = LimitsConfig { max_in_flight_bytes: ByteSize::mib(4), ..LimitsConfig::default() };
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() };
    let relay = relay_with(limits, &config);
    relay.configure();
    let attachment = vec![0; 20_000_000];
    let body = gzip(&envelope_with(&[&attachment]));
    assert!(body.len() < 200_000);
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-encoding", "gzip")];
    let answer = relay.send(Method::POST, "/api/7/envelope/", &headers, body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert!(requests(&relay)[0].1 == [(1, attachment)]);
}

#[tokio::test]
async fn when_staging_is_full_large_bodies_wait_and_small_ones_pass() {
    let mut relay = relay();
    let directory = tempfile::tempdir().unwrap();
    let server = Arc::get_mut(&mut relay.server).unwrap();
    server.staging = Staging::open(directory.path(), 2_000_000, random).unwrap();
    let answer = relay.post("/api/7/envelope/", envelope_with(&[&pattern(3_000_000)])).await;
    assert_eq!((answer.status, answer.cause().as_str()), (503, "staging_full"));
    assert_eq!(answer.header("retry-after"), "10");
    assert_eq!(relay.post("/api/7/envelope/", envelope_with(&[&pattern(1_000)])).await.status, 200);
    assert_eq!(relay.server.staging.used(), 0);
}

#[tokio::test]
async fn a_blob_that_the_spool_has_no_room_for_is_refused_before_its_first_piece() {
    let config =
        SpoolConfig { min_free_bytes: ByteSize::bytes(0), max_bytes: ByteSize::mib(2), ..SpoolConfig::default() };
    let relay = relay_with(LimitsConfig::default(), &config);
    relay.configure();
    let answer = relay.post("/api/7/envelope/", envelope_with(&[&pattern(3_000_000)])).await;
    assert_eq!((answer.status, answer.cause().as_str()), (429, "spool_full"));
    assert!(relay.spooled().is_empty());
}

#[tokio::test]
async fn broken_large_envelopes_are_refused_as_small_ones_are() {
    let relay = relay();
    let mut cut = envelope_with(&[&pattern(3_000_000)]);
    cut.truncate(2_000_000);
    let answer = relay.post("/api/7/envelope/", cut).await;
    assert_eq!((answer.status, answer.cause().as_str()), (400, "invalid_envelope"));
    let answer = relay.post("/api/7/envelope/", " ".repeat(2_000_000)).await;
    assert_eq!((answer.status, answer.cause().as_str()), (400, "empty_body"));
    let gzipped = gzip(&envelope_with(&[&pattern(3_000_000)]));
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-encoding", "gzip")];
    let answer = relay.send(Method::POST, "/api/7/envelope/", &headers, gzipped[..gzipped.len() - 9].to_vec()).await;
    assert_eq!((answer.status, answer.cause().as_str()), (400, "invalid_compression"));
    assert_eq!(relay.server.staging.used(), 0);
}
