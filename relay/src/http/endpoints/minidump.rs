//! `POST /api/{project}/minidump` and `/minidump/`: crash dumps, from crash reporters that know no envelopes.
//!
//! A multipart body with the file `upload_file_minidump` (see [`minidump_form`]), or the dump alone under a content type for
//! bytes. The answer is the event's id as text. Rate limits are counted and never told: crash reporters send again at once.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::Response;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::routing::post;
use picket_common::envelope::Envelope;
use picket_common::ids::EventId;
use picket_common::multipart::boundary_of;

use super::{Segments, segments};
use crate::crash::Workshop;
use crate::http::Server;
use crate::http::body::BodyReader;
use crate::http::exchange::Exchange;
use crate::http::large_body::{Whole, feed, on_pool};
use crate::http::minidump_form::{self, DUMP_PART};
use crate::http::request::{Rejection, Request};
use crate::http::upload::Upload;
use crate::metrics::Endpoint;
use crate::refusal::Refusal;

/// Content types under which the body is the dump.
const RAW_TYPES: [&str; 3] = ["application/octet-stream", "application/x-dmp", "application/x-minidump"];

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/{project}/minidump", post(minidump)).route("/api/{project}/minidump/", post(minidump))
}

async fn minidump(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Minidump, request);
    let mut event_id = None;
    let result = receive(&mut exchange, &segments(path), &mut event_id).await;
    exchange.end_crash(result, event_id).await
}

/// `event_id` is set as soon as it is known: a client that is over its limits is told it too.
async fn receive(exchange: &mut Exchange, project: &str, event_id: &mut Option<EventId>) -> Result<(), Rejection> {
    let Exchange { server, head, incoming, .. } = exchange;
    let request = Request::new(server, head, Some(project))?;
    let authorised = request.authorise()?;
    let here = authorised.rejection();
    let reader = request.reader(incoming, server.limits.max_minidump_bytes.as_usize()).map_err(&here)?;
    let (envelope, workshop) = read(head, reader, server.workshop()).await.map_err(&here)?;
    *event_id = envelope.event_id();
    request.take_expanded(&authorised, envelope, workshop).await.map(|_| ())
}

async fn read(head: &Parts, reader: BodyReader<'_>, workshop: Workshop) -> Result<(Envelope, Workshop), Refusal> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mime = content_type.split(';').next().unwrap_or_default().trim();
    if RAW_TYPES.iter().any(|raw| mime.eq_ignore_ascii_case(raw)) {
        let sink = workshop.sink(workshop.limits.max_attachment_bytes.as_u64());
        let content = feed(reader, Whole(sink, "attachment")).await?;
        return on_pool(move || minidump_form::of_dump(content, workshop)).await;
    }
    let boundary = boundary_of(content_type).ok_or_else(|| {
        let detail = "expected multipart/form-data with a boundary, or application/octet-stream, as content type";
        Refusal::malformed("invalid_multipart", detail)
    })?;
    let form = feed(reader, Upload::new(&boundary, Some(DUMP_PART), workshop)?).await?;
    on_pool(move || minidump_form::of_upload(form)).await
}
