//! `POST /api/{project}/events/{event}/attachments/`: files for an event that was sent before, as a multipart body. Every part with
//! a file name is an attachment; other parts mean nothing here.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use axum::routing::post;
use picket_common::envelope::{AttachmentHeader, Envelope};
use picket_common::ids::EventId;
use picket_common::multipart::boundary_of;

use super::{Segments, segments};
use crate::crash::Workshop;
use crate::http::body::BodyReader;
use crate::http::exchange::Exchange;
use crate::http::large_body::feed;
use crate::http::request::{Rejection, Request};
use crate::http::upload::{Form, Upload};
use crate::http::{Server, answer};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;
use crate::submission::Taken;

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/{project}/events/{event}/attachments/", post(attachments))
}

async fn attachments(
    State(server): State<Arc<Server>>,
    path: Segments<(String, String)>,
    request: HttpRequest,
) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Attachments, request);
    let (project, event) = segments(path);
    let result = receive(&mut exchange, &project, &event).await;
    let created = |taken: Taken| answer::unless_limited(&taken.limits, answer::empty(StatusCode::CREATED));
    exchange.end(result.map(created)).await
}

async fn receive(exchange: &mut Exchange, project: &str, event: &str) -> Result<Taken, Rejection> {
    let Exchange { server, head, incoming, .. } = exchange;
    let request = Request::new(server, head, Some(project))?;
    let event_id: EventId =
        event.parse().map_err(|error| Refusal::malformed("invalid_event_id", format!("{error} in the path")))?;
    let authorised = request.authorise()?;
    let here = authorised.rejection();
    let reader = request.reader(incoming, server.limits.max_envelope_bytes.as_usize()).map_err(&here)?;
    let (mut envelope, workshop) = read(head, reader, server.workshop()).await.map_err(&here)?;
    envelope.set_event_id(event_id);
    request.take(&authorised, envelope, workshop).await
}

/// The files as an envelope. The workshop holds the memory that they are accounted to.
async fn read(head: &Parts, reader: BodyReader<'_>, workshop: Workshop) -> Result<(Envelope, Workshop), Refusal> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = boundary_of(content_type).ok_or_else(|| {
        Refusal::malformed("invalid_multipart", "expected multipart/form-data with a boundary as content type")
    })?;
    let Form { files, mut workshop, .. } = feed(reader, Upload::new(&boundary, None, workshop)?).await?;
    let mut envelope = Envelope::empty();
    for file in files {
        let header = AttachmentHeader {
            attachment_type: None,
            filename: file.header.filename.as_deref(),
            content_type: file.header.content_type.as_deref(),
        };
        envelope.push(workshop.attachment(header, file.content));
    }
    Ok((envelope, workshop))
}
