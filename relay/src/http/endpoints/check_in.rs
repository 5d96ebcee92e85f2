//! `/api/{project}/cron/{slug}/`, with the key at its end or anywhere else: check-ins of cron jobs that have no SDK but `curl`.
//!
//! `GET ?status=ok&check_in_id=…&environment=…&duration=12.5` or `POST` of a check-in as JSON (with a monitor's configuration
//! if it likes); the slug in the path wins. Both become a `check_in` item. Rate limits are counted and never told: a job
//! must not fail because of them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{Response, StatusCode};
use axum::routing::get;
use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use serde_json::{Map, Value, json};

use super::{Segments, segments};
use crate::http::exchange::Exchange;
use crate::http::request::{Rejection, Request};
use crate::http::{Server, answer, query};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;

/// Longest body: a check-in with its monitor's configuration has a few hundred bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// What a client without a name is called.
const CLIENT: &str = "relay-http";
/// Stands for "the monitor's last check-in, or a new one".
const NO_ID: &str = "00000000000000000000000000000000";

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    let by_head = get(without_key).post(without_key);
    let by_path = get(with_key).post(with_key);
    Router::new()
        .route("/api/{project}/cron/{slug}", by_head.clone())
        .route("/api/{project}/cron/{slug}/", by_head)
        .route("/api/{project}/cron/{slug}/{key}", by_path.clone())
        .route("/api/{project}/cron/{slug}/{key}/", by_path)
}

async fn without_key(
    State(server): State<Arc<Server>>,
    path: Segments<(String, String)>,
    request: HttpRequest,
) -> Response<Body> {
    let (project, slug) = segments(path);
    check_in(server, &project, &slug, None, request).await
}

async fn with_key(
    State(server): State<Arc<Server>>,
    path: Segments<(String, String, String)>,
    request: HttpRequest,
) -> Response<Body> {
    let (project, slug, key) = segments(path);
    check_in(server, &project, &slug, Some(&key), request).await
}

async fn check_in(
    server: Arc<Server>,
    project: &str,
    slug: &str,
    key: Option<&str>,
    request: HttpRequest,
) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::CheckIn, request);
    let result = receive(&mut exchange, project, slug, key).await;
    let accepted = || answer::empty(StatusCode::ACCEPTED);
    exchange.end_quietly(result.map(|()| accepted()), accepted).await
}

async fn receive(exchange: &mut Exchange, project: &str, slug: &str, key: Option<&str>) -> Result<(), Rejection> {
    let Exchange { server, head, incoming, .. } = exchange;
    let request = Request::new(server, head, Some(project))?;
    let mut authorised = request.authorise_by(key)?;
    authorised.credentials.client.get_or_insert_with(|| CLIENT.into());
    let here = authorised.rejection();
    let written = if incoming.is_empty() {
        of_query(head.uri.query().unwrap_or_default())
    } else {
        let (body, _memory) = request.body(incoming, MAX_BODY_BYTES).await.map_err(&here)?;
        of_body(&body)
    };
    let mut fields = written.map_err(&here)?;
    fields.insert("monitor_slug".to_owned(), Value::from(slug));
    fields.entry("check_in_id").or_insert_with(|| Value::from(NO_ID));
    let mut envelope = Envelope::empty();
    envelope.push(Item::new(ItemType::CheckIn, Bytes::from(Value::Object(fields).to_string())));
    request.take(&authorised, envelope, ()).await.map(|_| ())
}

fn of_query(raw_query: &str) -> Result<Map<String, Value>, Refusal> {
    let status = query::value(raw_query, "status")
        .ok_or_else(|| faulty("expected ?status=ok, error, in_progress or missed, or a check-in as JSON"))?;
    let mut fields = Map::new();
    fields.insert("status".to_owned(), Value::from(known_status(&status)));
    for name in ["check_in_id", "environment"] {
        if let Some(value) = query::value(raw_query, name) {
            fields.insert(name.to_owned(), Value::from(value));
        }
    }
    if let Some(duration) = query::value(raw_query, "duration") {
        let seconds: f64 = duration.parse().map_err(|_| faulty("expected seconds in ?duration="))?;
        fields.insert("duration".to_owned(), json!(seconds));
    }
    Ok(fields)
}

fn of_body(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| Refusal::malformed("invalid_json", told(&error)))?;
    let status = match fields.get("status") {
        Some(Value::String(status)) => known_status(status),
        _ => return Err(faulty("expected a status in the check-in: ok, error, in_progress or missed")),
    };
    fields.insert("status".to_owned(), Value::from(status));
    Ok(fields)
}

/// Where a text is no JSON object, without quoting it: the error's own text may.
fn told(error: &serde_json::Error) -> String {
    format!("expected a check-in as a JSON object: fault at line {}, column {}", error.line(), error.column())
}

fn known_status(written: &str) -> &'static str {
    match written {
        "ok" => "ok",
        "error" => "error",
        "in_progress" => "in_progress",
        "missed" => "missed",
        _ => "unknown",
    }
}

fn faulty(detail: &str) -> Refusal {
    Refusal::malformed("invalid_check_in", detail)
}
