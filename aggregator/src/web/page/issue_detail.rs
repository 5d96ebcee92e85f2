//! An issue and one of its events: the latest, or the one that the address names.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use picket_common::ids::EventId;
use picket_common::timestamp::Timestamp;

use super::error::PageError;
use super::issue_heading::IssueHeading;
use super::layout::Layout;
use super::rendered::rendered;
use crate::issues::IssueId;
use crate::query::{IssueSummary, StoredEvent};
use crate::web::event_view::EventView;
use crate::web::session::Viewer;
use crate::web::when::When;
use crate::web::{Pages, sparkline};

#[derive(Template)]
#[template(path = "issue_detail.html")]
struct IssueDetailPage<'a> {
    layout: Layout<'a>,
    issue: IssueHeading,
    /// None where the events of the issue have all expired.
    event: Option<EventSection>,
    chart_width: u32,
    chart_height: u32,
}

struct EventSection {
    id: EventId,
    happened: When,
    received: When,
    view: EventView,
}

/// `GET /issues/{issue}/`.
pub(crate) async fn latest(
    State(pages): State<Arc<Pages>>,
    viewer: Viewer,
    Path(issue): Path<String>,
) -> Result<Html<String>, PageError> {
    let issue = find_issue(&pages, &issue).await?;
    let event = pages.state.query.latest_event(issue.project.id, issue.id).await;
    let event = event.map_err(|error| PageError::failed("reading the latest event", &error))?;
    render_apart(viewer, issue, event).await
}

/// `GET /issues/{issue}/events/{event}/`.
pub(crate) async fn event(
    State(pages): State<Arc<Pages>>,
    viewer: Viewer,
    Path((issue, event)): Path<(String, String)>,
) -> Result<Html<String>, PageError> {
    let issue = find_issue(&pages, &issue).await?;
    let event = find_event(&pages, &issue, &event).await?;
    render_apart(viewer, issue, Some(event)).await
}

/// `GET /issues/{issue}/events/{event}/json`: the event as it is stored, to be saved rather than shown.
pub(crate) async fn event_json(
    State(pages): State<Arc<Pages>>,
    _viewer: Viewer,
    Path((issue, event)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let issue = find_issue(&pages, &issue).await?;
    let event = find_event(&pages, &issue, &event).await?;
    let headers = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{}.json\"", event.event_id)),
        // Should a browser show it after all, it is a page without an origin, scripts or styles.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; sandbox".to_owned()),
    ];
    Ok((headers, event.json).into_response())
}

async fn find_issue(pages: &Pages, issue: &str) -> Result<IssueSummary, PageError> {
    let number = issue.parse().map_err(|_| PageError::NotFound)?;
    let issue = pages.state.query.issue(IssueId::new(number), Timestamp::now()).await;
    issue.map_err(|error| PageError::failed("reading the issue", &error))?.ok_or(PageError::NotFound)
}

async fn find_event(pages: &Pages, issue: &IssueSummary, event: &str) -> Result<StoredEvent, PageError> {
    let id = event.parse().map_err(|_| PageError::NotFound)?;
    let event = pages.state.query.event(issue.project.id, id).await;
    let event = event.map_err(|error| PageError::failed("reading the event", &error))?;
    event.filter(|event| event.issue_id == issue.id).ok_or(PageError::NotFound)
}

/// An event can be a megabyte of JSON, so it is read and rendered off the async threads.
async fn render_apart(
    viewer: Viewer,
    issue: IssueSummary,
    event: Option<StoredEvent>,
) -> Result<Html<String>, PageError> {
    let now = Timestamp::now();
    let page = tokio::task::spawn_blocking(move || render(&viewer.email, issue, event, now)).await;
    page.map_err(|error| PageError::failed("rendering the event", &error))?
}

fn render(
    viewer: &str,
    issue: IssueSummary,
    event: Option<StoredEvent>,
    now: Timestamp,
) -> Result<Html<String>, PageError> {
    let issue = IssueHeading::new(issue, now);
    let title = format!("{} · {}", issue.short_id, issue.title());
    let event = event.map(|event| EventSection {
        id: event.event_id,
        happened: When::new(event.timestamp, now),
        received: When::new(event.received_at, now),
        view: EventView::from_json(&event.json),
    });
    rendered(&IssueDetailPage {
        layout: Layout::new(&title, viewer),
        issue,
        event,
        chart_width: sparkline::WIDTH,
        chart_height: sparkline::HEIGHT,
    })
}

#[cfg(test)]
#[path = "issue_detail_tests.rs"]
mod tests;
