//! `POST /api/{project}/unreal/{key}/`: crash reports of the Unreal Engine's own reporter, a compressed container (`crash`).
//!
//! `?UserID=` is what the engine knows of the user: `login|account|machine`. The answer is the event's id as text. Rate limits
//! are counted and never told: crash reporters send again at once.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::Response;
use axum::routing::post;
use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::ids::EventId;

use super::{Segments, segments};
use crate::crash::{self, Workshop};
use crate::http::exchange::Exchange;
use crate::http::large_body::{Whole, feed, on_pool};
use crate::http::request::{Rejection, Request};
use crate::http::{Server, query};
use crate::metrics::Endpoint;
use crate::refusal::Refusal;
use crate::staging::Content;

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/{project}/unreal/{key}/", post(unreal))
}

async fn unreal(
    State(server): State<Arc<Server>>,
    path: Segments<(String, String)>,
    request: HttpRequest,
) -> Response<Body> {
    let (project, key) = segments(path);
    let mut exchange = Exchange::begin(server, Endpoint::Unreal, request);
    let mut event_id = None;
    let result = receive(&mut exchange, &project, &key, &mut event_id).await;
    exchange.end_crash(result, event_id).await
}

/// `event_id` is set as soon as it is known: a client that is over its limits is told it too.
async fn receive(
    exchange: &mut Exchange,
    project: &str,
    key: &str,
    event_id: &mut Option<EventId>,
) -> Result<(), Rejection> {
    let Exchange { server, head, incoming, .. } = exchange;
    let request = Request::new(server, head, Some(project))?;
    let authorised = request.authorise_by(Some(key))?;
    let here = authorised.rejection();
    let workshop = server.workshop();
    let limit = server.limits.max_attachment_bytes.as_usize();
    let reader = request.reader(incoming, limit).map_err(&here)?;
    let content = feed(reader, Whole(workshop.sink(limit as u64), "unreal_report")).await.map_err(&here)?;
    let user = query::value(head.uri.query().unwrap_or_default(), "UserID").map(Cow::into_owned);
    let (envelope, workshop) = on_pool(move || envelope(content, user.as_deref(), workshop)).await.map_err(&here)?;
    *event_id = envelope.event_id();
    request.take_expanded(&authorised, envelope, workshop).await.map(|_| ())
}

/// The envelope of a report, taken apart. Blocking.
fn envelope(content: Content, user: Option<&str>, mut workshop: Workshop) -> Result<(Envelope, Workshop), Refusal> {
    let mut report = Item::new(ItemType::UnrealReport, Bytes::new());
    workshop.fill(&mut report, content);
    let mut envelope = Envelope::empty();
    envelope.push(report);
    if let Some(user) = user {
        envelope.push(crash::form_data_item(&user_fields(user)));
    }
    Ok((crash::expand(envelope, &mut workshop)?, workshop))
}

/// The engine's user as fields of an event.
fn user_fields(user: &str) -> Vec<(String, String)> {
    let names = ["sentry[user][id]", "sentry[user][epic_account_id]", "sentry[user][machine_id]"];
    let named = names.iter().zip(user.splitn(names.len(), '|')).filter(|(_, value)| !value.is_empty());
    named.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect()
}
