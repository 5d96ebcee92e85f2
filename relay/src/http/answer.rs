//! Answers: the one place where refusals become status codes, headers and bodies.
//!
//! Every error body is `{"detail": "…", "causes": ["…"]}`, on every path and for every status.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use picket_common::ids::EventId;
use serde::Serialize;

use crate::refusal::Refusal;

/// Which categories are limited for how long, in the protocol's own grammar.
pub(crate) const RATE_LIMITS: HeaderName = HeaderName::from_static("x-sentry-rate-limits");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A transparent image of one pixel.
const PIXEL: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

#[derive(Serialize)]
struct ErrorBody<'a> {
    detail: &'a str,
    causes: &'a [&'a str],
}

/// 200 with the event's id, or `{}` where nothing made an event.
pub(crate) fn taken(id: Option<EventId>) -> Response<Body> {
    let body = match id {
        Some(id) => format!("{{\"id\":\"{id}\"}}"),
        None => "{}".to_owned(),
    };
    json(StatusCode::OK, body)
}

/// 200 with an image, for pages that post by loading one.
pub(crate) fn pixel() -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(PIXEL)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    response
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

impl Refusal {
    /// The status it is answered with.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorised { .. } => StatusCode::UNAUTHORIZED,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let (_, reason) = self.outcome();
        let mut response = error(self.status(), &self.to_string(), &[reason.as_ref()]);
        let headers = response.headers_mut();
        match self {
            Self::RateLimited { reason, retry_after, .. } => {
                let seconds = retry_after.as_secs();
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
                // No category: all of them.
                if let Ok(value) = HeaderValue::try_from(format!("{seconds}::organization:{reason}")) {
                    headers.insert(RATE_LIMITS, value);
                }
            }
            Self::Unavailable { retry_after, .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs()));
            }
            _ => {}
        }
        response
    }
}
