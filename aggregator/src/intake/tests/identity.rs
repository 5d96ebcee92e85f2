use picket_common::identity::{Fingerprint, certificates_from_pem};
use picket_common::timestamp::Timestamp;
use picket_common::wire::{CloseCode, FromAggregator, FromRelay};

use super::fixture::{RelaySession, code, soon, spool, start};
use crate::fleet::Retirement;

/// What the relay is told to trust, by fingerprint.
async fn told(relay: &mut RelaySession) -> Vec<Fingerprint> {
    match relay.hear().await {
        FromAggregator::Authorities { certificates_pem } => {
            let certificates = certificates_from_pem(&certificates_pem).unwrap();
            certificates.iter().map(|certificate| Fingerprint::of_certificate(certificate).unwrap()).collect()
        }
        other => panic!("not about authorities: {other:?}"),
    }
}

fn renewal() -> FromRelay {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    FromRelay::Renew { csr_pem: request.pem().unwrap() }
}

#[tokio::test]
async fn a_session_ends_when_the_authority_of_its_certificate_is_retired_by_force() {
    let aggregator = start().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    aggregator.fleet.rotate_authority(Timestamp::now()).await.unwrap();
    let newer = aggregator.session(&aggregator.join().await, spool(2)).await.welcomed().await;
    aggregator.fleet.retire_authority(Retirement::Forced).await.unwrap();
    let (closed, reason) = relay.closed().await;
    assert_eq!(closed, code(CloseCode::NotAllowed), "{reason}");
    let (header, payload) = newer.batch(1, 1);
    soon(newer.send_batch(&header, &payload)).await;
}

#[tokio::test]
async fn a_relay_that_repeats_whom_it_trusts_is_told_once() {
    let aggregator = start().await;
    let mut relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let old = FromRelay::Trusts { authorities: aggregator.fleet.authorities().held().fingerprints() };
    relay.say(&old).await;
    aggregator.fleet.rotate_authority(Timestamp::now()).await.unwrap();
    assert_eq!(told(&mut relay).await, aggregator.fleet.authorities().held().fingerprints());
    for _ in 0..3 {
        relay.say(&old).await;
    }
    // Whatever is heard next was said after those.
    relay.say(&renewal()).await;
    let heard = relay.hear().await;
    assert!(matches!(heard, FromAggregator::Renewed { .. }), "{heard:?}");
}
