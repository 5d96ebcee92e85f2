//! Who asks, and what they may: a bearer token with scopes, or someone logged in to the pages.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use picket_common::timestamp::Timestamp;

use super::error::ApiError;
use crate::web::WebState;
use crate::web::cookie;

/// Someone known. Asking for one refuses everybody else with 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A token and its scopes.
    Token { scopes: Vec<String> },
    /// Someone logged in; they may read everything.
    Person { email: String },
}

impl Caller {
    /// Checks that the caller may do what needs `scope`.
    ///
    /// # Errors
    /// [`ApiError::MissingScope`].
    pub(crate) fn require(&self, scope: &'static str) -> Result<(), ApiError> {
        match self {
            Self::Person { .. } => Ok(()),
            Self::Token { scopes } if scopes.iter().any(|held| includes(held, scope)) => Ok(()),
            Self::Token { .. } => Err(ApiError::MissingScope(scope)),
        }
    }
}

/// `event:admin` and `event:write` include `event:read`, and so on for each resource.
fn includes(held: &str, needed: &str) -> bool {
    if held == needed {
        return true;
    }
    let (Some((held_resource, held_right)), Some((resource, right))) = (held.split_once(':'), needed.split_once(':'))
    else {
        return false;
    };
    let rank = |right: &str| ["read", "write", "admin"].iter().position(|known| *known == right);
    held_resource == resource && rank(held_right).zip(rank(right)).is_some_and(|(held, needed)| held >= needed)
}

impl FromRequestParts<WebState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, ApiError> {
        let now = Timestamp::now();
        if let Some(header) = parts.headers.get(AUTHORIZATION) {
            let token = header.to_str().ok().and_then(bearer_token).ok_or(ApiError::InvalidCredentials)?;
            let token = state.accounts.token_scopes(token, now).await;
            let token = token.map_err(|error| ApiError::failed("reading the token", &error))?;
            return token.map(|token| Self::Token { scopes: token.scopes }).ok_or(ApiError::InvalidCredentials);
        }
        let is_https = state.public_url.starts_with("https://");
        let session = cookie::session_token(&parts.headers, is_https).ok_or(ApiError::NoCredentials)?;
        let user = state.accounts.session_user(session, now).await;
        let user = user.map_err(|error| ApiError::failed("reading the session", &error))?;
        user.map(|user| Self::Person { email: user.email }).ok_or(ApiError::InvalidCredentials)
    }
}

fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_what_its_scopes_say_and_no_more() {
        let token = |scope: &str| Caller::Token { scopes: vec![scope.to_owned()] };
        for scope in ["event:read", "event:write", "event:admin"] {
            assert_eq!(token(scope).require("event:read"), Ok(()));
        }
        for scope in ["", "event", "event:", "project:read", "event:releases", "org:ci", "event:read "] {
            assert_eq!(token(scope).require("event:read"), Err(ApiError::MissingScope("event:read")), "{scope:?}");
        }
        assert!(token("event:read").require("event:write").is_err());
        assert_eq!(Caller::Person { email: "a@b".to_owned() }.require("org:read"), Ok(()));
    }

    #[test]
    fn only_bearer_tokens_are_read() {
        assert_eq!(bearer_token("Bearer abc"), Some("abc"));
        assert_eq!(bearer_token("bearer  abc "), Some("abc"));
        for header in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(bearer_token(header), None, "{header:?}");
        }
    }
}
