//! How the API says no.

use std::fmt;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::error;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// No token and no session.
    #[error("no credentials: send an API token as `Authorization: Bearer TOKEN`, or log in")]
    NoCredentials,
    /// A token or session that is none of ours, or has expired.
    #[error("the token or session is invalid or has expired")]
    InvalidCredentials,
    /// The token may not do this.
    #[error("the token lacks the scope {0}")]
    MissingScope(&'static str),
    /// What the path names does not exist.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// A parameter is wrong or not supported.
    #[error("{0}")]
    BadParameter(String),
    /// The path exists, but not for this method.
    #[error("this path does not take this method")]
    UnsupportedMethod,
    /// A store failed; the log has the reason.
    #[error("the request failed on the server; its log says why")]
    Failed,
}

impl ApiError {
    /// Logs what failed, for the operator; the answer itself does not tell.
    pub(crate) fn failed(action: &'static str, reason: &dyn fmt::Display) -> Self {
        error!(action, error = %reason, "an api request failed");
        Self::Failed
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::NoCredentials | Self::InvalidCredentials => StatusCode::UNAUTHORIZED,
            Self::MissingScope(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadParameter(_) => StatusCode::BAD_REQUEST,
            Self::UnsupportedMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(json!({ "detail": self.to_string() }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
