use picket_common::identity::{self, Fingerprint};
use picket_common::transport::ConnectionLost;
use picket_common::wire::ALPN_LINK;
use picket_common::wire::join::{JoinReply, JoinToken};

use super::fixture::{closed, code, start};
use picket_common::wire::CloseCode;

fn key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().unwrap()
}

#[tokio::test]
async fn a_relay_joins_with_a_token_once() {
    let aggregator = start().await;
    let token = aggregator.token().await;
    let key = key();
    let joined = aggregator.try_join(&token, &key).await.unwrap();
    let JoinReply::Joined { relay_id, name, certificate_pem, authority_pem, aggregators } = joined else {
        panic!("refused: {joined:?}")
    };
    let certificate = identity::certificate_from_pem(&certificate_pem).unwrap();
    assert_eq!(identity::relay_id_of(&certificate).unwrap(), relay_id);
    let authority = identity::certificate_from_pem(&authority_pem).unwrap();
    assert_eq!(Fingerprint::of_certificate(&authority).unwrap(), token.authority);
    assert_eq!((name.as_str(), aggregators.as_slice()), ("test-host", &["aggregator.test:7443".to_owned()][..]));

    let again = aggregator.try_join(&token, &key).await.unwrap();
    assert!(matches!(&again, JoinReply::Refused { detail } if detail.contains("has been used")), "{again:?}");
}

#[tokio::test]
async fn a_token_of_another_aggregator_is_refused() {
    let aggregator = start().await;
    let forged = JoinToken { secret: "00".repeat(16), ..aggregator.token().await };
    let reply = aggregator.try_join(&forged, &key()).await.unwrap();
    assert!(matches!(&reply, JoinReply::Refused { detail } if detail.contains("not known")), "{reply:?}");
    assert!(!format!("{reply:?}").contains(&forged.secret));
}

#[tokio::test]
async fn a_relay_does_not_talk_to_a_server_whose_authority_is_not_the_tokens() {
    let aggregator = start().await;
    let token = JoinToken { authority: Fingerprint::from_bytes([9; 32]), ..aggregator.token().await };
    let joined = aggregator.try_join(&token, &key()).await;
    assert!(matches!(joined, Err(ConnectionLost::Untrusted(_))), "{joined:?}");
    assert!(aggregator.fleet.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn guessing_secrets_is_slowed_down() {
    let aggregator = start().await;
    let forged = JoinToken { secret: "00".repeat(16), ..aggregator.token().await };
    let key = key();
    let mut refused = 0;
    let stopped = loop {
        match aggregator.try_join(&forged, &key).await {
            Ok(_) => refused += 1,
            Err(error) => break error,
        }
        assert!(refused < 100, "nothing limits it");
    };
    assert!(matches!(stopped, ConnectionLost::Closed { code: found, .. } if found == code(CloseCode::Overloaded)));
}

#[tokio::test]
async fn nobody_gets_on_the_link_without_a_certificate() {
    let aggregator = start().await;
    let mut tls = identity::join_client_config(aggregator.token().await.authority).unwrap();
    tls.alpn_protocols = vec![ALPN_LINK.to_vec()];
    let connection = aggregator.connect_as(tls).await.unwrap();
    let (closed_with, reason) = closed(&connection).await;
    assert_eq!(closed_with, code(CloseCode::NoIdentity), "{reason}");
}
