//! `POST /api/{project}/nel/`: network errors that browsers report. They are logs; nothing stores logs yet. Browsers don't look at
//! limits, so they are not told of any.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{Response, StatusCode};
use axum::routing::post;
use picket_common::envelope::ItemType;

use super::{Segments, segments, unstored};
use crate::http::exchange::Exchange;
use crate::http::{Server, answer};
use crate::metrics::Endpoint;

const MIMES: [&str; 2] = ["application/reports+json", "application/json"];

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/{project}/nel/", post(nel))
}

async fn nel(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Nel, request);
    let project = segments(path);
    let result = unstored::receive(&mut exchange, &project, &MIMES, ItemType::Log, unstored::json_entries).await;
    let taken = || answer::empty(StatusCode::OK);
    exchange.end_quietly(result.map(|_| taken()), taken).await
}
