use picket_common::wire::FromAggregator;
use picket_common::wire::control::Window;

use super::fixture::{TestAggregator, spool, start};
use crate::intake::LinkConfig;

fn set(aggregator: &TestAggregator, window_batches: u32) {
    aggregator.settings.send_replace(LinkConfig { window_batches, ..LinkConfig::default() });
}

#[tokio::test]
async fn a_reloaded_window_narrows_at_once_and_widens_to_what_the_connection_was_made_for() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let mut relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    let widest = LinkConfig::default().window_batches;
    for (set_to, told) in [(3, 3), (2 * widest, widest)] {
        set(&aggregator, set_to);
        let window = loop {
            if let FromAggregator::Window(window) = relay.hear().await {
                break window;
            }
        };
        assert_eq!(window.batches, told, "set to {set_to}");
    }

    // The next connection has the streams that it is told of.
    let mut next = aggregator.session(&joined, spool(1)).await;
    let FromAggregator::Welcome { window: Window { batches, .. }, .. } = next.hear().await else {
        panic!("not welcome")
    };
    assert_eq!(batches, 2 * widest);
    let mut open = Vec::new();
    for _ in 0..batches {
        open.push(super::fixture::soon(next.connection.open()).await.unwrap());
    }
}
