//! Who sends: what a request's connection and headers tell of its client, for normalisation and filters.
//!
//! Bounds: as many headers as `[http] max_headers` lets through, in the bytes of `max_head_bytes`.

use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use super::serve::Peer;
use crate::submission::Sender;

/// What the names of all client hints about the user agent start with.
const CLIENT_HINTS: &str = "sec-ch-ua";

/// The sender of a request.
pub(crate) fn of_request(head: &Parts) -> Sender {
    let text = |value: &axum::http::HeaderValue| Some(value.to_str().ok()?.into());
    let client_hints = head
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(CLIENT_HINTS))
        .filter_map(|(name, value)| Some((name.as_str().into(), text(value)?)))
        .collect();
    Sender {
        address: head.extensions.get::<Peer>().map(|peer| peer.0.ip().to_canonical()),
        user_agent: head.headers.get(USER_AGENT).and_then(text),
        client_hints,
    }
}
