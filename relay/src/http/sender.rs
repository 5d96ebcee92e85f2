//! Who sends: what a request's connection and headers tell of its client, for normalisation and filters.
//!
//! Bounds: as many headers as `[http] max_headers` lets through, in the bytes of `max_head_bytes`.

use std::net::IpAddr;

use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use super::client_address::{self, Network};
use super::serve::Peer;
use crate::submission::Sender;

/// What the names of all client hints about the user agent start with.
const CLIENT_HINTS: &str = "sec-ch-ua";

/// The sender of a request.
pub(crate) fn of_request(head: &Parts, trusted_proxies: &[Network]) -> Sender {
    let text = |value: &axum::http::HeaderValue| Some(value.to_str().ok()?.into());
    let client_hints = head
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(CLIENT_HINTS))
        .filter_map(|(name, value)| Some((name.as_str().into(), text(value)?)))
        .collect();
    Sender {
        address: address_of(head, trusted_proxies),
        user_agent: head.headers.get(USER_AGENT).and_then(text),
        client_hints,
    }
}

/// The client's address: the peer's, or what a trusted proxy says.
pub(crate) fn address_of(head: &Parts, trusted_proxies: &[Network]) -> Option<IpAddr> {
    let peer = head.extensions.get::<Peer>()?;
    Some(client_address::of_request(peer.0.ip(), &head.headers, trusted_proxies))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sender_is_known_by_its_connection_and_headers() {
        let mut request = axum::http::Request::builder()
            .header("user-agent", "Browser/1")
            .header("sec-ch-ua", "\"Browser\";v=\"1\"")
            .header("sec-ch-ua-platform", "\"Plan 9\"")
            .header("x-forwarded-for", "203.0.113.9")
            .body(())
            .unwrap();
        request.extensions_mut().insert(Peer("[::ffff:10.0.0.8]:4711".parse().unwrap()));
        let (head, ()) = request.into_parts();
        let direct = of_request(&head, &[]);
        assert_eq!(direct.address.unwrap().to_string(), "10.0.0.8");
        assert_eq!(direct.user_agent.as_deref(), Some("Browser/1"));
        let hints: Vec<_> = direct.client_hints.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(hints, ["sec-ch-ua=\"Browser\";v=\"1\"", "sec-ch-ua-platform=\"Plan 9\""]);
        let proxied = of_request(&head, &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(proxied.address.unwrap().to_string(), "203.0.113.9");
    }
}
