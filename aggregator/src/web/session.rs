//! Who is looking at a page.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use picket_common::timestamp::Timestamp;

use super::page::error::PageError;
use super::{Pages, cookie};

/// A logged-in user; asking for one sends everybody else to the login form.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) email: String,
}

impl FromRequestParts<Arc<Pages>> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Arc<Pages>) -> Result<Self, Response> {
        let address = parts.uri.path_and_query().map_or("/", |address| address.as_str());
        let Some(token) = cookie::session_token(&parts.headers, pages.is_https()) else {
            return Err(without_cookie(parts, address));
        };
        let user = pages.state.accounts.session_user(token, Timestamp::now()).await;
        match user.map_err(|error| PageError::failed("reading the session", &error).into_response())? {
            Some(user) => Ok(Self { email: user.email }),
            None => Err(to_login(address)),
        }
    }
}

/// A browser that follows a link from elsewhere (a mail, a chat) leaves out a `SameSite=Strict` cookie. It is asked to come
/// again by itself, now from this site; only then is a missing cookie a missing session.
fn without_cookie(parts: &Parts, address: &str) -> Response {
    let is_from_elsewhere = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let refresh = HeaderValue::from_str(&format!("0; url={address}"));
    match refresh {
        Ok(refresh) if is_from_elsewhere => ([(HeaderName::from_static("refresh"), refresh)], "").into_response(),
        _ => to_login(address),
    }
}

fn to_login(address: &str) -> Response {
    let next = percent_encoded(address);
    Redirect::to(&format!("/login?next={next}")).into_response()
}

/// Encodes everything that has a meaning in a query.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_through_a_query() {
        assert_eq!(percent_encoded("/issues/5/?a=1&b=ü"), "/issues/5/%3Fa%3D1%26b%3D%C3%BC");
    }
}
