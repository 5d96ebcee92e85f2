//! The HTTP side: what SDKs talk to.
//!
//! ```text
//! connection (serve) ─▸ route (here) ─▸ receive ─▸ pipeline ─▸ answer
//!                                         ├─ auth, access, origin     who sends, and may it
//!                                         └─ body, encoding, legacy_body   what is sent
//! ```
//!
//! | path | |
//! | --- | --- |
//! | `POST /api/{project}/envelope/` | envelopes |
//! | `POST /api/{project}/store/`, `POST /api/store/` | single events of old SDKs |
//! | `GET` on the store paths with `?sentry_data=` | the same, from an image's address |
//! | `GET /api/relay/healthcheck/{live,ready}/` | health |
//!
//! Trailing slashes are significant, repeated ones are folded. Error bodies are JSON on every path (`answer`).

mod access;
mod answer;
mod auth;
mod body;
mod cors;
mod encoding;
mod legacy_body;
mod origin;
mod query;
mod receive;
pub mod serve;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{Response, StatusCode, Uri};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use picket_common::category::DataCategory;
use picket_common::ids::EventId;
use picket_common::timestamp::Timestamp;
use tracing::debug;

use crate::config::{HttpConfig, LimitsConfig};
use crate::limit::memory::MemoryBudget;
use crate::metrics::{Endpoint, RelayMetrics};
use crate::outcome::Outcomes;
use crate::pipeline::Pipeline;
use crate::projects::Projects;
use crate::refusal::Refusal;
use body::IncomingBody;
use receive::Rejection;

/// What the handlers need.
pub struct Server {
    /// `[http]`.
    pub config: HttpConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// Memory for bodies in flight.
    pub budget: MemoryBudget,
    /// The projects as last pushed.
    pub projects: Projects,
    /// The stages behind the handlers.
    pub pipeline: Pipeline,
    /// Counts what ends here.
    pub outcomes: Outcomes,
    /// Counts requests.
    pub metrics: RelayMetrics,
    /// The clock that requests are stamped with.
    pub clock: fn() -> Timestamp,
}

/// The routes. Expects paths with slashes folded, see [`fold_slashes`].
pub fn router(server: Arc<Server>) -> Router {
    let store_routes = Router::new()
        .route("/api/{project}/envelope/", post(envelope))
        .route("/api/{project}/store/", post(store).get(pixel))
        .route("/api/store/", post(legacy_store).get(legacy_pixel))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(middleware::from_fn(cors::store_routes));
    let health_routes = Router::new()
        .route("/api/relay/healthcheck/live/", get(live))
        .route("/api/relay/healthcheck/ready/", get(ready))
        .method_not_allowed_fallback(method_not_allowed);
    store_routes
        .merge(health_routes)
        .fallback(not_found)
        .layer(middleware::map_response(|mut response: Response<Body>| async move {
            cors::allow_resource(&mut response);
            response
        }))
        .with_state(server)
}

/// Folds repeated slashes in a request's path, as SDKs with a trailing slash in their DSN produce them.
pub fn fold_slashes<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    if let Cow::Owned(folded) = folded(request.uri().path()) {
        let path_and_query = match request.uri().query() {
            Some(query) => format!("{folded}?{query}"),
            None => folded,
        };
        // Fewer slashes make no valid address invalid; if they did, the address stays and finds no route.
        if let Ok(path_and_query) = PathAndQuery::try_from(path_and_query) {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

fn folded(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut folded = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !folded.ends_with('/') {
            folded.push(character);
        }
    }
    Cow::Owned(folded)
}

type ProjectPath = Result<Path<String>, PathRejection>;

async fn envelope(State(server): State<Arc<Server>>, path: ProjectPath, request: Request) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let mut incoming = IncomingBody::new(&head.headers, body);
    let limit = server.limits.max_envelope_bytes.as_usize();
    let result = receive::envelope(&server, &head, Some(project(&path)), &mut incoming, limit).await;
    answered(&server, Endpoint::Envelope, DataCategory::Default, started, incoming, result).await
}

async fn store(State(server): State<Arc<Server>>, path: ProjectPath, request: Request) -> Response<Body> {
    store_event(&server, Some(project(&path)), request).await
}

async fn legacy_store(State(server): State<Arc<Server>>, request: Request) -> Response<Body> {
    store_event(&server, None, request).await
}

async fn store_event(server: &Server, path_project: Option<&str>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let mut incoming = IncomingBody::new(&head.headers, body);
    let result = receive::store(server, &head, path_project, &mut incoming).await;
    answered(server, Endpoint::Store, DataCategory::Error, started, incoming, result).await
}

async fn pixel(State(server): State<Arc<Server>>, path: ProjectPath, request: Request) -> Response<Body> {
    load_pixel(&server, Some(project(&path)), request).await
}

async fn legacy_pixel(State(server): State<Arc<Server>>, request: Request) -> Response<Body> {
    load_pixel(&server, None, request).await
}

async fn load_pixel(server: &Server, path_project: Option<&str>, request: Request) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let incoming = IncomingBody::new(&head.headers, body);
    let result = receive::pixel(server, &head, path_project).await;
    let is_taken = result.is_ok();
    let response = answered(server, Endpoint::Pixel, DataCategory::Error, started, incoming, result).await;
    if is_taken { answer::pixel() } else { response }
}

/// A path segment that is not UTF-8 is no project id either.
fn project(path: &ProjectPath) -> &str {
    path.as_ref().map_or("", |Path(text)| text.as_str())
}

/// Turns a result into its answer, counted.
async fn answered(
    server: &Server,
    endpoint: Endpoint,
    unread: DataCategory,
    started: Instant,
    mut incoming: IncomingBody,
    result: Result<Option<EventId>, Rejection>,
) -> Response<Body> {
    let response = match result {
        Ok(id) => answer::taken(id),
        Err(rejection) => {
            debug!(status = rejection.refusal.status().as_u16(), refusal = %rejection.refusal, "request refused");
            rejection.count(server, unread);
            incoming.drain().await;
            rejection.refusal.into_response()
        }
    };
    server.metrics.answered(endpoint, response.status(), started.elapsed(), incoming.received());
    response
}

async fn live() -> Response<Body> {
    health(true)
}

async fn ready(State(server): State<Arc<Server>>) -> Response<Body> {
    health(server.is_ready())
}

fn health(is_healthy: bool) -> Response<Body> {
    let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, format!("{{\"is_healthy\":{is_healthy}}}"))
}

impl Server {
    /// Whether requests can be taken: the spool is open (it is, as long as this exists) and a configuration is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.projects.current().is_some()
    }
}

async fn not_found() -> Response<Body> {
    answer::error(StatusCode::NOT_FOUND, "no such endpoint: a trailing slash may be missing", &["not_found"])
}

async fn method_not_allowed() -> Response<Body> {
    answer::error(StatusCode::METHOD_NOT_ALLOWED, "this endpoint does not take this method", &["method_not_allowed"])
}

/// The answer to a request whose handler panicked.
pub(crate) fn internal_error() -> Response<Body> {
    let refusal = Refusal::unavailable("internal", "the relay failed to process the request");
    let detail = refusal.to_string();
    answer::error(StatusCode::INTERNAL_SERVER_ERROR, &detail, &["internal"])
}

#[cfg(test)]
mod tests;
