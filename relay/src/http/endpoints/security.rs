//! `POST /api/{project}/security/` and `/csp-report/`: what browsers report by themselves when a page breaks a policy.
//!
//! The body is one report or a list of them (Reporting API); each becomes an event of its own. Release and environment may be in
//! the query: a browser sends what the page's owner wrote into the header that names this address.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{Response, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use futures_util::future::join_all;
use picket_common::envelope::{Envelope, Item, ItemType};
use serde_json::value::RawValue;

use super::{Segments, segments};
use crate::http::exchange::Exchange;
use crate::http::raw_security::{ENVIRONMENT, RELEASE};
use crate::http::request::{Rejection, Request};
use crate::http::{Server, answer, mime, query};
use crate::metrics::Endpoint;
use crate::rate_limit::RateLimits;
use crate::refusal::Refusal;
use crate::submission::Taken;

/// What browsers send reports as.
const MIMES: [&str; 3] = ["application/csp-report", "application/reports+json", "application/json"];

pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new().route("/api/{project}/security/", post(security)).route("/api/{project}/csp-report/", post(security))
}

async fn security(State(server): State<Arc<Server>>, path: Segments<String>, request: HttpRequest) -> Response<Body> {
    let mut exchange = Exchange::begin(server, Endpoint::Security, request);
    let result = receive(&mut exchange, &segments(path)).await;
    let taken = |limits: RateLimits| answer::unless_limited(&limits, answer::empty(StatusCode::OK));
    exchange.end(result.map(taken)).await
}

async fn receive(exchange: &mut Exchange, project: &str) -> Result<RateLimits, Rejection> {
    let Exchange { server, head, incoming, .. } = exchange;
    let request = Request::new(server, head, Some(project))?;
    mime::expect(&head.headers, &MIMES)?;
    let authorised = request.authorise()?;
    let here = authorised.rejection();
    let (body, _memory) = request.body(incoming, server.limits.max_store_bytes.as_usize()).await.map_err(&here)?;
    let reports = reports(&body, server.limits.max_items).map_err(&here)?;
    let raw_query = head.uri.query().unwrap_or_default();
    let envelopes = reports.into_iter().map(|report| envelope(report, raw_query));
    // Together, so that they share a commit.
    let results = join_all(envelopes.map(|envelope| request.take(&authorised, envelope, ()))).await;
    settle(server, results).await
}

/// Each element of a list, or the whole body.
fn reports(body: &Bytes, most: usize) -> Result<Vec<Bytes>, Refusal> {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return Ok(vec![body.clone()]);
    }
    let list: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
        let detail = format!("expected a report or a list of reports as JSON: fault at byte {}", error.column());
        Refusal::malformed("invalid_json", detail)
    })?;
    if list.is_empty() {
        return Err(Refusal::malformed("empty_body", "the list of reports is empty"));
    }
    if list.len() > most {
        let detail = format!("too many reports in one request: the limit is {most}");
        return Err(Refusal::TooLarge { what: "security".into(), detail });
    }
    Ok(list.into_iter().map(|report| body.slice_ref(report.get().as_bytes())).collect())
}

fn envelope(report: Bytes, raw_query: &str) -> Envelope {
    let mut item = Item::new(ItemType::RawSecurity, report);
    for name in [RELEASE, ENVIRONMENT] {
        if let Some(value) = query::value(raw_query, name).filter(|value| !value.is_empty()) {
            item.set_header_text(name, &value);
        }
    }
    let mut envelope = Envelope::empty();
    envelope.push(item);
    envelope
}

/// One answer for all reports: a limit is told whatever became of the others; a report that is none is told if no other was taken.
async fn settle(server: &Server, results: Vec<Result<Taken, Rejection>>) -> Result<RateLimits, Rejection> {
    let mut limits: Option<RateLimits> = None;
    let mut worst: Option<Rejection> = None;
    for result in results {
        match result {
            Ok(taken) => match &mut limits {
                Some(met) => met.merge(taken.limits),
                None => limits = Some(taken.limits),
            },
            Err(rejection) => {
                let outweighs = worst.as_ref().is_none_or(|worst| rejection.weight() > worst.weight());
                let lighter = if outweighs { worst.replace(rejection) } else { Some(rejection) };
                if let Some(lighter) = lighter {
                    lighter.count(server, Endpoint::Security.category()).await;
                }
            }
        }
    }
    match (limits, worst) {
        (_, Some(worst)) if worst.weight() > 0 => Err(worst),
        (Some(limits), worst) => {
            if let Some(worst) = worst {
                worst.count(server, Endpoint::Security.category()).await;
            }
            Ok(limits)
        }
        (None, Some(worst)) => Err(worst),
        (None, None) => Ok(RateLimits::default()),
    }
}
