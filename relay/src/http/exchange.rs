//! One request to an endpoint that takes data, from its head to its counted answer.
//!
//! Invariants: every such request is counted once in the metrics; a refused one is counted once in the outcomes, by whoever
//! refused it, and on disk before it is answered where it concerns a project.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use picket_common::ids::EventId;
use tracing::debug;

use super::body::IncomingBody;
use super::request::Rejection;
use super::{Server, answer};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;

/// A request that is being answered.
pub(crate) struct Exchange {
    /// What the handlers need.
    pub(crate) server: Arc<Server>,
    /// The request's head.
    pub(crate) head: Parts,
    /// The request's body.
    pub(crate) incoming: IncomingBody,
    endpoint: Endpoint,
    started: Instant,
}

impl Exchange {
    /// Begins with a request, before anything of it was looked at.
    pub(crate) fn begin(server: Arc<Server>, endpoint: Endpoint, request: Request) -> Self {
        let (head, body) = request.into_parts();
        let incoming = IncomingBody::new(body);
        Self { server, head, incoming, endpoint, started: Instant::now() }
    }

    /// The answer to the request, counted.
    pub(crate) async fn end(self, result: Result<Response<Body>, Rejection>) -> Response<Body> {
        self.end_in(result, Refusal::into_response).await
    }

    /// As [`Self::end`], on an endpoint whose clients can't obey limits (crash reporters, cron jobs, browsers' own reports):
    /// a rate limit is counted, and answered with `success`. A full spool is not told as a limit either, but is told: nothing
    /// was stored. Other refusals are told as everywhere.
    pub(crate) async fn end_quietly(
        self,
        result: Result<Response<Body>, Rejection>,
        success: impl FnOnce() -> Response<Body>,
    ) -> Response<Body> {
        let answer = |refusal| match refusal {
            Refusal::RateLimited { .. } => success(),
            Refusal::SpoolFull => Refusal::unavailable("spool_full", Refusal::SpoolFull.to_string()).into_response(),
            other => other.into_response(),
        };
        self.end_in(result, answer).await
    }

    /// As [`Self::end_quietly`], for crash reporters: the answer is the event's id as text. A request that was refused quietly before
    /// anybody knew its id gets one that nothing is stored under, so that it looks like any other.
    pub(crate) async fn end_crash(self, result: Result<(), Rejection>, event_id: Option<EventId>) -> Response<Body> {
        let random = self.server.random;
        let success = || answer::crash(event_id.or_else(|| random().map(EventId::from_random)));
        self.end_quietly(result.map(|()| success()), success).await
    }

    /// As [`Self::end`], with refusals in the words of `answer`.
    pub(crate) async fn end_in(
        self,
        result: Result<Response<Body>, Rejection>,
        answer: impl FnOnce(Refusal) -> Response<Body>,
    ) -> Response<Body> {
        let response = match result {
            Ok(response) => response,
            Err(rejection) => {
                debug!(status = rejection.refusal.status().as_u16(), refusal = %rejection.refusal, "request refused");
                rejection.count(&self.server, self.endpoint.category()).await;
                answer(rejection.refusal)
            }
        };
        let (took, received) = (self.started.elapsed(), self.incoming.received());
        self.server.metrics.answered(self.endpoint, response.status(), took, received);
        response
    }
}
