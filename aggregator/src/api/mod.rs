//! The web API under `/api/0/`, in the paths and shapes that clients of Sentry's API know.
//!
//! ```text
//! request ──▶ caller (bearer token or page session, scopes) ──▶ handler ──▶ query ──▶ JSON shape
//! ```
//!
//! Promises:
//! - Every answer is JSON; an error is `{"detail": "…"}` with the status that says whose turn it is: 400 the parameters',
//!   401 nobody known asks, 403 the token lacks a scope, 404 there is no such thing, 500 see the log.
//! - A parameter that would change the answer and is not supported is an error, never ignored.
//! - Shapes are made of what the stores return by pure functions; times are RFC 3339 in UTC, ids are strings.
//!
//! What it does not do: change anything. All routes are reads, so a page session needs no origin check here.

mod caller;
mod error;
mod event;
mod event_entry;
mod issue;
mod issue_parameters;
mod organisation;
mod pagination;
mod project;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{any, get};

use crate::web::WebState;
use error::ApiError;

/// All routes of the API, with their whole paths.
pub fn router(state: WebState) -> Router {
    Router::new()
        .route("/api/0/", get(organisation::entry))
        .route("/api/0/organizations/", get(organisation::list))
        .route("/api/0/organizations/{organisation}/", get(organisation::show))
        .route("/api/0/organizations/{organisation}/projects/", get(project::list_of_organisation))
        .route("/api/0/organizations/{organisation}/issues/", get(issue::list_of_organisation))
        .route("/api/0/organizations/{organisation}/issues/{issue}/", get(issue::show_in_organisation))
        .route(
            "/api/0/organizations/{organisation}/issues/{issue}/events/{event}/",
            get(event::of_issue_in_organisation),
        )
        .route("/api/0/projects/", get(project::list))
        .route("/api/0/projects/{organisation}/{project}/", get(project::show))
        .route("/api/0/projects/{organisation}/{project}/issues/", get(issue::list_of_project))
        .route("/api/0/projects/{organisation}/{project}/events/{event}/", get(event::of_project))
        .route("/api/0/issues/{issue}/", get(issue::show))
        .route("/api/0/issues/{issue}/events/{event}/", get(event::of_issue))
        .route("/api/{*rest}", any(unknown_path))
        .method_not_allowed_fallback(unsupported_method)
        .with_state(state)
        .layer(map_response(add_headers))
}

async fn unknown_path() -> ApiError {
    ApiError::NotFound("endpoint; note that every path ends in a slash")
}

async fn unsupported_method() -> ApiError {
    ApiError::UnsupportedMethod
}

async fn add_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
