//! `POST /api/{project}/envelope/`: envelopes. One that carries its credentials in its own header is read up to that line first.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::Response;
use axum::http::request::Parts;
use axum::routing::post;
use bytes::Bytes;
use picket_common::envelope::Envelope;

use super::{Segments, segments};
use crate::http::auth::{self, AuthError, Credentials};
use crate::http::body::IncomingBody;
use crate::http::exchange::Exchange;
use crate::http::origin::Origin;
use crate::http::request::{Authorised, Rejection, Request};
use crate::http::{Server, answer, large_body};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;
use crate::submission::Taken;
use crate::tally::Tally;

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/{project}/envelope/", post(envelope))
}

async fn envelope(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Envelope, request);
    let limit = exchange.server.limits.max_envelope_bytes.as_usize();
    let Exchange { server, head, incoming, .. } = &mut exchange;
    let result = receive(server, head, Some(&segments(path)), incoming, limit).await;
    exchange.end(result.map(|taken| answer::stored(&taken))).await
}

/// An envelope, from here or under its content type from the store endpoint.
pub(super) async fn receive(
    server: &Arc<Server>,
    head: &Parts,
    path_project: Option<&str>,
    incoming: &mut IncomingBody,
    limit: usize,
) -> Result<Taken, Rejection> {
    let request = Request::new(server, head, path_project)?;
    let (authorised, reader) = match auth::of_request(&head.headers, head.uri.query(), None)? {
        Some(credentials) => (request.admit(credentials)?, request.reader(incoming, limit)?),
        None => {
            let mut reader = request.reader(incoming, limit)?;
            let credentials = from_envelope_header(reader.first_line().await?)?;
            (request.admit(credentials)?, reader)
        }
    };
    let (envelope, memory) = large_body::envelope(reader, server).await.map_err(authorised.rejection())?;
    if let Err(refusal) = check_header(&envelope, &authorised, head) {
        return Err(Rejection::of_content(authorised.project_id(), Tally::of(&envelope), refusal));
    }
    request.take(&authorised, envelope, memory).await
}

fn from_envelope_header(first_line: &[u8]) -> Result<Credentials, Refusal> {
    let header = Envelope::parse(Bytes::copy_from_slice(first_line), 0).map_err(|_| AuthError::Missing)?;
    let dsn = header.dsn().map_err(|error| Refusal::Unauthorised { detail: error.to_string() })?;
    let dsn = dsn.ok_or(AuthError::Missing)?;
    Ok(Credentials { public_key: dsn.public_key(), client: None })
}

/// What the envelope header says of its sender must be what the request says.
fn check_header(envelope: &Envelope, authorised: &Authorised, head: &Parts) -> Result<(), Refusal> {
    let contradiction = |what: &str| {
        let detail = format!("the {what} in the envelope header is not the one of the request");
        Err(Refusal::malformed("invalid_envelope", detail))
    };
    let dsn = envelope.dsn().map_err(|error| Refusal::Unauthorised { detail: error.to_string() })?;
    if let Some(dsn) = dsn
        && (dsn.public_key() != authorised.credentials.public_key || dsn.project_id() != authorised.project_id())
    {
        return contradiction("dsn");
    }
    let claimed = envelope.origin().and_then(Origin::parse);
    // A request without an origin comes from no page: a proxy that passes an envelope on does not send one.
    if let (Some(claimed), Some(origin)) = (claimed, Origin::of_request(&head.headers))
        && claimed != origin
    {
        return contradiction("origin");
    }
    Ok(())
}
