//! What answers have in common: names, compression, limits, panics.

use super::*;

#[tokio::test]
async fn every_answer_names_its_server() {
    let relay = relay();
    for path in ["/api/7/envelope/", "/nowhere", "/api/relay/healthcheck/live/", "/api/relay/novelty/"] {
        let answer = relay.send(Method::GET, path, &[], "").await;
        assert_eq!(answer.header("server"), "picket-relay", "{path}");
    }
    let live = relay.send(Method::GET, "/api/0/relays/live/", &[], "").await;
    assert_eq!((live.status, &live.body[..]), (200, &br#"{"is_healthy":true}"#[..]));
}

#[tokio::test]
async fn long_answers_are_compressed_where_the_client_asks_and_short_ones_never() {
    let relay = relay();
    let good = format!("Sentry sentry_key={KEY}");
    for (auth, length, encodings) in [
        // The answer to an event: 41 bytes.
        (good.as_str(), 41, ["", ""]),
        // Missing credentials: more than 128.
        ("Bearer x", 149, ["", "gzip"]),
    ] {
        for (accept, expected) in ["identity", "gzip, deflate, br"].into_iter().zip(encodings) {
            let headers = [("authorization", auth), ("accept-encoding", accept)];
            let answer = relay.send(Method::POST, "/api/7/store/", &headers, "{}").await;
            assert_eq!(answer.header("content-encoding"), expected, "{auth} {accept}");
            let mut plain = Vec::new();
            match expected {
                "gzip" => std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut plain),
                _ => std::io::Read::read_to_end(&mut &answer.body[..], &mut plain),
            }
            .unwrap();
            assert_eq!(plain.len(), length, "{}", String::from_utf8_lossy(&plain));
        }
    }
}

#[tokio::test]
async fn a_panic_is_answered_500_and_pages_can_read_it() {
    let mut relay = relay();
    Arc::get_mut(&mut relay.server).unwrap().clock = || panic!("on purpose");
    let answer = relay.post("/api/7/store/", "{}").await;
    assert_eq!((answer.status, answer.cause().as_str()), (500, "internal"));
    assert_eq!((answer.header("server"), answer.header("access-control-allow-origin")), ("picket-relay", "*"));
}

#[tokio::test]
async fn an_origin_in_the_envelope_must_be_the_requests() {
    let relay = relay();
    let auth = format!("Sentry sentry_key={KEY}");
    let body = "{\"origin\":\"https://shop.example.org\"}\n{\"type\":\"session\"}\n{}\n";
    for (origin, status) in [(None, 200), (Some("https://shop.example.org"), 200), (Some("https://evil.net"), 400)] {
        let mut headers = vec![("x-sentry-auth", auth.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let answer = relay.send(Method::POST, "/api/7/envelope/", &headers, body).await;
        assert_eq!(answer.status, status, "{origin:?}");
    }
}
