//! The style sheet and the icon, compiled into the binary.
//!
//! Pages name the style sheet with a digest of its contents in the query, so a browser may keep it for ever; asked for
//! without that digest it is revalidated by ETag.

use std::sync::LazyLock;

use axum::extract::RawQuery;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Where the style sheet is.
pub(crate) const STYLE_PATH: &str = "/static/picket.css";
/// Where the icon is.
pub(crate) const ICON_PATH: &str = "/static/picket.svg";

const STYLE: &str = include_str!("../../templates/picket.css");
const ICON: &str = include_str!("../../templates/picket.svg");

static STYLE_DIGEST: LazyLock<String> = LazyLock::new(|| digest(STYLE));
static ICON_DIGEST: LazyLock<String> = LazyLock::new(|| digest(ICON));

/// The address that pages name the style sheet by.
pub(crate) fn style_address() -> String {
    format!("{STYLE_PATH}?v={}", *STYLE_DIGEST)
}

/// Serves the style sheet.
pub(crate) async fn style(query: RawQuery, headers: HeaderMap) -> Response {
    serve(STYLE, "text/css; charset=utf-8", &STYLE_DIGEST, query, &headers)
}

/// Serves the icon.
pub(crate) async fn icon(query: RawQuery, headers: HeaderMap) -> Response {
    serve(ICON, "image/svg+xml", &ICON_DIGEST, query, &headers)
}

fn serve(
    content: &'static str,
    content_type: &'static str,
    digest: &str,
    RawQuery(query): RawQuery,
    headers: &HeaderMap,
) -> Response {
    let is_pinned = query.as_deref().and_then(|query| query.strip_prefix("v=")) == Some(digest);
    let cache_control = if is_pinned { "public, max-age=31536000, immutable" } else { "no-cache" };
    let etag = format!("\"{digest}\"");
    let is_known = headers
        .get(IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let caching = [(ETAG, etag), (CACHE_CONTROL, cache_control.to_owned())];
    if is_known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(CONTENT_TYPE, content_type)], content).into_response()
}

/// Half of a SHA-256 is more than enough to tell two versions of a file apart.
fn digest(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
