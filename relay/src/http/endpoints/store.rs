//! `/api/{project}/store/` and `/api/store/`: one event, as old SDKs post it (POST, in one of the forms of [`legacy_body`]) or as
//! pages send it that may only load images (GET with `?sentry_data=`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::Response;
use axum::http::request::Parts;
use axum::routing::post;
use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::tree::Value;

use super::{Segments, envelope, segments};
use crate::http::body::IncomingBody;
use crate::http::exchange::Exchange;
use crate::http::request::{Rejection, Request};
use crate::http::{Server, answer, legacy_body, mime, query};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;
use crate::submission::Taken;

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/{project}/store/", post(store).get(pixel))
        .route("/api/store/", post(legacy_store).get(legacy_pixel))
}

async fn store(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    store_event(server, Some(&segments(path)), request).await
}

async fn legacy_store(State(server): State<Arc<Server>>, request: HttpRequest) -> Response<Body> {
    store_event(server, None, request).await
}

async fn store_event(server: Arc<Server>, path_project: Option<&str>, request: HttpRequest) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Store, request);
    let Exchange { server, head, incoming, .. } = &mut exchange;
    let result = receive(server, head, path_project, incoming).await;
    exchange.end(result.map(|taken| answer::stored(&taken))).await
}

async fn pixel(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    load_pixel(server, Some(&segments(path)), request).await
}

async fn legacy_pixel(State(server): State<Arc<Server>>, request: HttpRequest) -> Response<Body> {
    load_pixel(server, None, request).await
}

async fn load_pixel(server: Arc<Server>, path_project: Option<&str>, request: HttpRequest) -> Response<Body> {
    let exchange = Exchange::begin(server, Endpoint::Pixel, request);
    let result = receive_query(&exchange.server, &exchange.head, path_project).await;
    exchange.end(result.map(|taken| answer::pixel(&taken))).await
}

async fn receive(
    server: &Arc<Server>,
    head: &Parts,
    path_project: Option<&str>,
    incoming: &mut IncomingBody,
) -> Result<Taken, Rejection> {
    let limit = server.limits.max_store_bytes.as_usize();
    if is_envelope(head) {
        return envelope::receive(server, head, path_project, incoming, limit).await;
    }
    let request = Request::new(server, head, path_project)?;
    let authorised = request.authorise()?;
    let (body, memory) = request.body(incoming, limit).await.map_err(authorised.rejection())?;
    let payload = legacy_body::json_of_body(body, limit, &server.budget).map_err(authorised.rejection())?;
    request.take(&authorised, event_envelope(payload), memory).await
}

async fn receive_query(server: &Arc<Server>, head: &Parts, path_project: Option<&str>) -> Result<Taken, Rejection> {
    let request = Request::new(server, head, path_project)?;
    let authorised = request.authorise()?;
    let here = authorised.rejection();
    let data = query::value(head.uri.query().unwrap_or_default(), "sentry_data")
        .ok_or_else(|| here(Refusal::malformed("empty_body", "expected the event in ?sentry_data=")))?;
    let limit = server.limits.max_store_bytes.as_usize();
    let payload = legacy_body::json_of_query(&data, limit, &server.budget).map_err(here)?;
    request.take(&authorised, event_envelope(payload), ()).await
}

fn is_envelope(head: &Parts) -> bool {
    mime::is_one_of(mime::of_request(&head.headers), &["application/x-sentry-envelope"])
}

fn event_envelope(payload: Bytes) -> Envelope {
    // What is no JSON at all is refused by the pipeline, which says where.
    let is_transaction = picket_common::tree::read(&payload)
        .is_ok_and(|event| event.get("type").and_then(Value::as_str) == Some("transaction"));
    let item_type = if is_transaction { ItemType::Transaction } else { ItemType::Event };
    let mut envelope = Envelope::empty();
    envelope.push(Item::new(item_type, payload));
    envelope
}
