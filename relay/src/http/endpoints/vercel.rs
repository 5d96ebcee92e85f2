//! `POST /api/{project}/integration/vercel/logs/`: Vercel's log drain, as a JSON list or a JSON object a line.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{Response, StatusCode};
use axum::routing::post;
use picket_common::envelope::ItemType;
use serde::de::IgnoredAny;

use super::{Segments, segments, unstored};
use crate::http::exchange::Exchange;
use crate::http::{Server, answer, mime};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;
use crate::submission::Taken;

const LINES: &str = "application/x-ndjson";
const MIMES: [&str; 2] = ["application/json", LINES];

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/{project}/integration/vercel/logs", post(logs))
        .route("/api/{project}/integration/vercel/logs/", post(logs))
}

async fn logs(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Vercel, request);
    let is_lines = mime::is_one_of(mime::of_request(&exchange.head.headers), &[LINES]);
    let count = if is_lines { line_entries } else { unstored::json_entries };
    let result = unstored::receive(&mut exchange, &segments(path), &MIMES, ItemType::Log, count).await;
    let answer = |taken: Taken| answer::unless_limited(&taken.limits, answer::empty(StatusCode::ACCEPTED));
    exchange.end(result.map(answer)).await
}

fn line_entries(body: &[u8]) -> Result<u64, Refusal> {
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.into_iter().try_fold(0, |count, line| match serde_json::from_slice::<IgnoredAny>(line) {
        Ok(_) => Ok(count + 1),
        Err(error) => Err(unstored::not_json(&error)),
    })
}
