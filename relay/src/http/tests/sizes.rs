//! Items over their limit.

use super::*;

#[tokio::test]
async fn one_item_over_its_limit_refuses_the_whole_envelope_and_counts_every_item() {
    let relay = relay();
    let long = " ".repeat(1024 * 1024);
    let body = format!(
        "{{}}\n{{\"type\":\"session\"}}\n{{}}\n{{\"type\":\"attachment\",\"length\":5}}\n12345\n{{\"type\":\"event\"}}\n{{{long}}}\n"
    );
    let answer = relay.post("/api/7/envelope/", body).await;
    assert_eq!((answer.status, answer.cause().as_str()), (413, "too_large:event"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("event"));
    let mut quantities: Vec<_> =
        relay.counted().into_iter().map(|(_, category, _, _, quantity)| (category, quantity)).collect();
    quantities.sort();
    assert_eq!(
        quantities,
        [
            (DataCategory::Error, 1),
            (DataCategory::Attachment, 5),
            (DataCategory::Session, 1),
            (DataCategory::AttachmentItem, 1)
        ]
    );
    assert!(relay.spooled().is_empty());
}
