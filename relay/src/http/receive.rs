//! Receiving: from a request's head and body to an accepted submission, and through the pipeline.
//!
//! In this order, so that a request that will be refused costs little: path, room in the spool, credentials, key, headers of the
//! body, body, framing. An envelope that carries its credentials in its own header is read up to that line first.

use std::sync::Arc;

use axum::http::header::{CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::envelope::{Envelope, EnvelopeError, Item, ItemType};
use picket_common::ids::{EventId, ProjectId};
use picket_common::timestamp::Timestamp;
use picket_common::tree::Value;

use super::auth::{self, AuthError, Credentials};
use super::body::{BodyReader, IncomingBody};
use super::origin::Origin;
use super::{Server, access, legacy_body, query};
use crate::projects::Project;
use crate::refusal::Refusal;
use crate::submission::{Accepted, Sender, Submission};
use crate::tally::Tally;

/// A request that ends here.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) refusal: Refusal,
    project_id: Option<ProjectId>,
    /// What it held; `None` where nobody looked, or where the pipeline counted it.
    tally: Counting,
}

#[derive(Debug)]
enum Counting {
    Unread,
    Read(Tally),
    Done,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, project_id: None, tally: Counting::Unread }
    }
}

impl From<AuthError> for Rejection {
    fn from(error: AuthError) -> Self {
        Refusal::from(error).into()
    }
}

impl Rejection {
    fn of_project(project_id: ProjectId) -> impl Fn(Refusal) -> Self {
        move |refusal| Self { refusal, project_id: Some(project_id), tally: Counting::Unread }
    }

    /// Counts what was refused, as one item of `unread` where nobody looked inside.
    pub(super) fn count(&self, server: &Server, unread: DataCategory) {
        match &self.tally {
            Counting::Unread => server.outcomes.refused(self.project_id, &Tally::one(unread), &self.refusal),
            Counting::Read(tally) => server.outcomes.refused(self.project_id, tally, &self.refusal),
            Counting::Done => {}
        }
    }
}

/// An envelope, from the envelope endpoint or under its content type from the store endpoint.
pub(super) async fn envelope(
    server: &Server,
    head: &Parts,
    path_project: Option<&str>,
    incoming: &mut IncomingBody,
    limit: usize,
) -> Result<Option<EventId>, Rejection> {
    let request = Request::new(server, head, path_project)?;
    let credentials = auth::of_request(&head.headers, head.uri.query())?;
    let (credentials, project, reader) = match credentials {
        Some(credentials) => {
            let project = request.authorise(&credentials)?;
            (credentials, project, request.reader(incoming, limit)?)
        }
        None => {
            let mut reader = request.reader(incoming, limit)?;
            let credentials = from_envelope_header(reader.first_line().await?)?;
            let project = request.authorise(&credentials)?;
            (credentials, project, reader)
        }
    };
    let project_id = project.config.id;
    let here = Rejection::of_project(project_id);
    let (body, _memory) = reader.read_to_end().await.map_err(&here)?;
    let envelope = parse_envelope(body, server.limits.max_items).await.map_err(&here)?;
    if let Err(refusal) = check_dsn(&envelope, &credentials, project_id) {
        let tally = Counting::Read(Tally::of(&envelope));
        return Err(Rejection { refusal, project_id: Some(project_id), tally });
    }
    request.take(credentials, project, envelope).await
}

/// The body of the store endpoint: one event in one of the forms of [`legacy_body`].
pub(super) async fn store(
    server: &Server,
    head: &Parts,
    path_project: Option<&str>,
    incoming: &mut IncomingBody,
) -> Result<Option<EventId>, Rejection> {
    let limit = server.limits.max_store_bytes.as_usize();
    if is_envelope(head) {
        return envelope(server, head, path_project, incoming, limit).await;
    }
    let request = Request::new(server, head, path_project)?;
    let credentials = auth::of_request(&head.headers, head.uri.query())?.ok_or(AuthError::Missing)?;
    let project = request.authorise(&credentials)?;
    let here = Rejection::of_project(project.config.id);
    let reader = request.reader(incoming, limit).map_err(&here)?;
    let (body, _memory) = reader.read_to_end().await.map_err(&here)?;
    let payload = legacy_body::json_of_body(body, limit, &server.budget).map_err(&here)?;
    request.take(credentials, project, event_envelope(payload)).await
}

/// An event in a query string, from a page that loads an image.
pub(super) async fn pixel(
    server: &Server,
    head: &Parts,
    path_project: Option<&str>,
) -> Result<Option<EventId>, Rejection> {
    let request = Request::new(server, head, path_project)?;
    let raw_query = head.uri.query().unwrap_or_default();
    let credentials = auth::of_request(&head.headers, head.uri.query())?.ok_or(AuthError::Missing)?;
    let project = request.authorise(&credentials)?;
    let here = Rejection::of_project(project.config.id);
    let data = query::value(raw_query, "sentry_data")
        .ok_or_else(|| here(Refusal::malformed("empty_body", "expected the event in ?sentry_data=")))?;
    let limit = server.limits.max_store_bytes.as_usize();
    let payload = legacy_body::json_of_query(&data, limit, &server.budget).map_err(&here)?;
    request.take(credentials, project, event_envelope(payload)).await
}

/// What all ways in have in common.
struct Request<'a> {
    server: &'a Server,
    head: &'a Parts,
    path_project: Option<ProjectId>,
    received_at: Timestamp,
}

impl<'a> Request<'a> {
    fn new(server: &'a Server, head: &'a Parts, path_project: Option<&str>) -> Result<Self, Refusal> {
        let path_project = path_project
            .map(|text| text.parse().map_err(|error| Refusal::malformed("project_id", format!("{error} in the path"))))
            .transpose()?;
        if !server.pipeline.spool().has_room() {
            return Err(Refusal::spool_full());
        }
        Ok(Self { server, head, path_project, received_at: (server.clock)() })
    }

    fn authorise(&self, credentials: &Credentials) -> Result<Arc<Project>, Refusal> {
        let projects = self.server.projects.current();
        let origin = Origin::of_request(&self.head.headers);
        access::authorise(projects.as_deref(), &credentials.public_key, self.path_project, origin.as_ref())
    }

    fn reader<'b>(&self, incoming: &'b mut IncomingBody, limit: usize) -> Result<BodyReader<'b>, Refusal> {
        BodyReader::start(incoming, &self.head.headers, limit, &self.server.budget, &self.server.config)
    }

    async fn take(
        self,
        credentials: Credentials,
        project: Arc<Project>,
        envelope: Envelope,
    ) -> Result<Option<EventId>, Rejection> {
        let user_agent: Option<Box<str>> =
            self.head.headers.get(USER_AGENT).and_then(|value| Some(value.to_str().ok()?.into()));
        let project_id = project.config.id;
        let submission = Submission {
            project,
            public_key: credentials.public_key,
            received_at: self.received_at,
            client: credentials.client.or_else(|| user_agent.clone()),
            sender: Sender { user_agent, ..Sender::default() },
            envelope,
        };
        self.server.pipeline.take(Accepted(submission)).await.map_err(|refusal| Rejection {
            refusal,
            project_id: Some(project_id),
            tally: Counting::Done,
        })
    }
}

/// Above this many bytes an envelope is parsed on the blocking pool: a header without an end is scanned to the last byte.
const PARSE_BLOCKING_ABOVE_BYTES: usize = 1024 * 1024;

async fn parse_envelope(body: Bytes, max_items: usize) -> Result<Envelope, Refusal> {
    let is_short = body.len() <= PARSE_BLOCKING_ABOVE_BYTES;
    let parse = move || Envelope::parse(body, max_items).map_err(|error| envelope_refusal(&error));
    if is_short {
        return parse();
    }
    tokio::task::spawn_blocking(parse).await.unwrap_or_else(|failure| {
        tracing::error!(%failure, "parsing an envelope ended unexpectedly");
        Err(Refusal::unavailable("internal", "the relay failed to read the envelope"))
    })
}

fn is_envelope(head: &Parts) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mime = content_type.split(';').next().unwrap_or_default().trim();
    mime.eq_ignore_ascii_case("application/x-sentry-envelope")
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

fn from_envelope_header(first_line: &[u8]) -> Result<Credentials, Refusal> {
    let header = Envelope::parse(Bytes::copy_from_slice(first_line), 0).map_err(|_| AuthError::Missing)?;
    let dsn = header.dsn().map_err(|error| Refusal::Unauthorised { detail: error.to_string() })?;
    let dsn = dsn.ok_or(AuthError::Missing)?;
    Ok(Credentials { public_key: dsn.public_key(), client: None })
}

/// A DSN in the envelope header must name what the request names.
fn check_dsn(envelope: &Envelope, credentials: &Credentials, project_id: ProjectId) -> Result<(), Refusal> {
    let dsn = envelope.dsn().map_err(|error| Refusal::Unauthorised { detail: error.to_string() })?;
    let Some(dsn) = dsn else { return Ok(()) };
    if dsn.public_key() != credentials.public_key || dsn.project_id() != project_id {
        let detail = "the dsn in the envelope header names another key or project than the request";
        return Err(Refusal::malformed("invalid_envelope", detail));
    }
    Ok(())
}

fn envelope_refusal(error: &EnvelopeError) -> Refusal {
    let reason = match error {
        EnvelopeError::Empty => "empty_body",
        _ => "invalid_envelope",
    };
    Refusal::malformed(reason, format!("invalid event envelope: {error}"))
}
