//! Answers: the one place where refusals become status codes, headers and bodies.
//!
//! Every error body is `{"detail": "…", "causes": ["…"]}`, on every path and for every status.

use std::panic::AssertUnwindSafe;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, SERVER};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::FutureExt as _;
use serde::Serialize;

use crate::rate_limit::RateLimits;
use picket_common::ids::EventId;

use crate::refusal::Refusal;
use crate::submission::Taken;

/// Which categories are limited for how long, in the protocol's own grammar.
pub(crate) const RATE_LIMITS: HeaderName = HeaderName::from_static("x-sentry-rate-limits");

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A transparent image of one pixel.
const PIXEL: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

#[derive(Serialize)]
struct ErrorBody<'a> {
    detail: &'a str,
    causes: &'a [&'a str],
}

/// 200 with the event's id, or `{}` where nothing made an event; 429 where any limit was met, although the rest is stored: SDKs
/// that do not look for the header on a 200 would never learn of it.
pub(crate) fn stored(taken: &Taken) -> Response<Body> {
    let body = match taken.event_id {
        Some(id) => format!("{{\"id\":\"{id}\"}}"),
        None => "{}".to_owned(),
    };
    unless_limited(&taken.limits, json(StatusCode::OK, body))
}

/// An answer to a request that was taken; 429 instead if it met a limit.
pub(crate) fn unless_limited(limits: &RateLimits, response: Response<Body>) -> Response<Body> {
    Refusal::of_limits(limits).map_or(response, IntoResponse::into_response)
}

/// 200 with the event's id as crash reporters show it: a hyphenated UUID as text.
pub(crate) fn crash(event_id: Option<EventId>) -> Response<Body> {
    let text = event_id.map(|id| id.as_uuid().as_hyphenated().to_string()).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// 200 with an image, for pages that post by loading one; 429 as [`stored`] has it.
pub(crate) fn pixel(taken: &Taken) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(PIXEL)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    unless_limited(&taken.limits, response)
}

/// A JSON text under a status.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An error body under a status.
pub(crate) fn error(status: StatusCode, detail: &str, causes: &[&str]) -> Response<Body> {
    // A struct of strings always serialises.
    json(status, serde_json::to_vec(&ErrorBody { detail, causes }).unwrap_or_default())
}

/// What every response of the server carries: its name, and that pages of other origins may load it.
pub(crate) fn mark(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("picket-relay"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
}

/// Around the handlers: a panic is answered 500.
pub(crate) async fn panics(request: Request, next: Next) -> Response<Body> {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_panic) => {
            // The panic hook has logged where it came from.
            tracing::error!("a request handler panicked");
            error(StatusCode::INTERNAL_SERVER_ERROR, "the relay failed to process the request", &["internal"])
        }
    }
}

impl Refusal {
    /// The status it is answered with.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorised { .. } => StatusCode::UNAUTHORIZED,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedEncoding { .. } | Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited { .. } | Self::SpoolFull => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let (_, reason) = self.outcome();
        let mut response = error(self.status(), &self.to_string(), &[reason.as_ref()]);
        self.tell_when(&mut response);
        response
    }
}

impl Refusal {
    /// Says in headers when the client may come back.
    pub(crate) fn tell_when(&self, response: &mut Response<Body>) {
        let limits = self.rate_limits();
        let seconds = match self {
            Self::Unavailable { retry_after, .. } => retry_after.as_secs(),
            _ => limits.retry_after_seconds(),
        };
        if seconds > 0 {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        tell_limits(response, &limits);
    }
}

/// Says in the protocol's own header what is limited, if anything is.
pub(crate) fn tell_limits(response: &mut Response<Body>, limits: &RateLimits) {
    if limits.is_empty() {
        return;
    }
    // Only printable ASCII is in it, so it always converts.
    if let Ok(value) = HeaderValue::try_from(limits.header_value()) {
        response.headers_mut().insert(RATE_LIMITS, value);
    }
}
