//! The HTTP side: what SDKs talk to.
//!
//! ```text
//! connection (serve) ─▸ route (here) ─▸ endpoints/* ─▸ pipeline ─▸ answer
//!                                         ├─ exchange                      from head to counted answer
//!                                         ├─ request, auth, access, origin      who sends, and may it
//!                                         ├─ body, encoding, legacy_body   what is sent
//!                                         └─ large_body, upload, minidump_form   what is sent that memory does not hold
//! ```
//!
//! | path | |
//! | --- | --- |
//! | `POST /api/{project}/envelope/` | envelopes |
//! | `POST /api/{project}/store/`, `POST /api/store/` | single events of old SDKs |
//! | `GET` on the store paths with `?sentry_data=` | the same, from an image's address |
//! | `POST /api/{project}/minidump`, `/minidump/` | crash dumps |
//! | `POST /api/{project}/unreal/{key}/` | crash reports of the Unreal Engine |
//! | `POST /api/{project}/events/{event}/attachments/` | files for an event |
//! | `POST /api/{project}/security/`, `/csp-report/` | browsers' reports of broken policies |
//! | `POST /api/{project}/nel/` | browsers' reports of network errors |
//! | `GET`, `POST /api/{project}/cron/{slug}/`, `…/{slug}/{key}/` | check-ins of cron jobs |
//! | `POST /api/{project}/integration/otlp/v1/{traces,logs}`, `/integration/vercel/logs` | logs and spans |
//! | `GET /api/0/relays/live/` | what relays behind this one ask first |
//! | `GET /api/relay/healthcheck/{live,ready}/` | health |
//!
//! Trailing slashes are significant, repeated ones are folded. Error bodies are JSON on every path (`answer`).

mod access;
mod answer;
mod auth;
mod body;
pub mod client_address;
mod cors;
mod encoding;
mod endpoints;
mod exchange;
pub mod front;
mod large_body;
mod legacy_body;
mod mime;
mod minidump_form;
mod origin;
mod path;
mod query;
mod raw_security;
mod request;
mod sender;
pub mod serve;
pub mod tls;
mod upload;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode, Uri};
use axum::{Router, middleware};
use picket_common::timestamp::Timestamp;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use crate::config::{HttpConfig, LimitsConfig};
use crate::crash::Workshop;
use crate::limit::memory::MemoryBudget;
use crate::metrics::RelayMetrics;
use crate::outcome::Outcomes;
use crate::pipeline::Pipeline;
use crate::projects::Projects;
use crate::staging::Staging;
use crate::submission::Random;

pub use path::fold_slashes;

/// Shortest body that is compressed where the client takes gzip. An SDK for Unity can't read short compressed answers, so what is
/// 128 bytes or less never is.
const COMPRESSED_FROM_BYTES: u16 = 129;

/// What the handlers need.
pub struct Server {
    /// `[http]`.
    pub config: HttpConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// Memory for bodies in flight.
    pub budget: MemoryBudget,
    /// Memory for what crashes are decoded into.
    pub decoding: MemoryBudget,
    /// Where bodies lie that are too large for it.
    pub staging: Staging,
    /// For ids and keys.
    pub random: Random,
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
    let store_routes = endpoints::envelope::routes()
        .merge(endpoints::store::routes())
        .merge(endpoints::check_in::routes())
        .merge(endpoints::minidump::routes())
        .merge(endpoints::unreal::routes())
        .merge(endpoints::attachments::routes())
        .merge(endpoints::security::routes())
        .merge(endpoints::nel::routes())
        .merge(endpoints::otlp::routes())
        .merge(endpoints::vercel::routes())
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(middleware::from_fn(answer::panics))
        .route_layer(middleware::from_fn(cors::store_routes));
    let health_routes = endpoints::health::routes().method_not_allowed_fallback(method_not_allowed);
    store_routes
        .merge(health_routes)
        .fallback(not_found)
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESSED_FROM_BYTES)))
        .layer(middleware::map_response(|mut response: Response<Body>| async move {
            answer::mark(&mut response);
            response
        }))
        .with_state(server)
}

impl Server {
    /// The same with other limits. What is sized at the start (memory, staging) and what counts (rates that did not change, quotas)
    /// is shared.
    #[must_use]
    pub fn reconfigured(&self, config: HttpConfig, limits: LimitsConfig) -> Self {
        Self {
            pipeline: self.pipeline.with_limits(limits.clone()),
            config,
            limits,
            budget: self.budget.clone(),
            decoding: self.decoding.clone(),
            staging: self.staging.clone(),
            random: self.random,
            projects: self.projects.clone(),
            outcomes: self.outcomes.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock,
        }
    }

    /// Whether requests can be taken: the spool is open (it is, as long as this exists) and a configuration is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.projects.current().is_some()
    }

    /// What it takes to take a crash apart.
    pub(crate) fn workshop(&self) -> Workshop {
        Workshop::new(
            self.staging.clone(),
            self.budget.clone(),
            self.decoding.clone(),
            self.limits.clone(),
            self.random,
        )
    }
}

async fn not_found(uri: Uri) -> Response<Body> {
    let detail =
        if lacks_slash(uri.path()) { "no such endpoint: the trailing slash is missing" } else { "no such endpoint" };
    answer::error(StatusCode::NOT_FOUND, detail, &["not_found"])
}

/// Whether a path with a slash at its end is one of ours.
fn lacks_slash(path: &str) -> bool {
    let segments: Vec<_> = path.strip_prefix("/api/").unwrap_or_default().split('/').collect();
    matches!(
        segments.as_slice(),
        ["store"]
            | ["0", "relays", "live"]
            | ["relay", "healthcheck", "live" | "ready"]
            | [_, "envelope" | "store" | "security" | "csp-report" | "nel"]
            | [_, "unreal", _]
            | [_, "events", _, "attachments"]
    )
}

async fn method_not_allowed() -> Response<Body> {
    answer::error(StatusCode::METHOD_NOT_ALLOWED, "this endpoint does not take this method", &["method_not_allowed"])
}

#[cfg(test)]
mod tests;
