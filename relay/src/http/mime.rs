//! Content types, without their parameters.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use crate::refusal::Refusal;

/// The content type of a request; empty if it says none.
pub(crate) fn of_request(headers: &HeaderMap) -> &str {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether a content type is one of these.
pub(crate) fn is_one_of(mime: &str, known: &[&str]) -> bool {
    known.iter().any(|known| mime.eq_ignore_ascii_case(known))
}

/// Refuses a request whose content type is none of these.
///
/// # Errors
/// 415, naming those that are taken.
pub(crate) fn expect(headers: &HeaderMap, known: &[&str]) -> Result<(), Refusal> {
    if is_one_of(of_request(headers), known) {
        return Ok(());
    }
    let detail = format!("unsupported content type: this endpoint takes {}", known.join(", "));
    Err(Refusal::UnsupportedMediaType { detail })
}
