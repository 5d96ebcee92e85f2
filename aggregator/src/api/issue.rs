//! Issues: lists, and one.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use picket_common::timestamp::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::issue_parameters::IssueParameters;
use super::{organisation, project};
use crate::issues::IssueId;
use crate::query::{IssueFilter, IssueSummary};
use crate::web::WebState;

/// Milliseconds of an hour, the width of a statistics bucket.
const HOUR_MS: u64 = 3_600_000;

/// `GET /api/0/organizations/{organisation}/issues/`.
pub(super) async fn list_of_organisation(
    State(state): State<WebState>,
    caller: Caller,
    Path(organisation): Path<String>,
    uri: Uri,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    caller.require("event:read")?;
    organisation::check(&state, &organisation)?;
    let parameters = IssueParameters::read(&pairs)?;
    list(&state, parameters, &uri).await
}

/// `GET /api/0/projects/{organisation}/{project}/issues/`.
pub(super) async fn list_of_project(
    State(state): State<WebState>,
    caller: Caller,
    Path((organisation, project)): Path<(String, String)>,
    uri: Uri,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    caller.require("event:read")?;
    organisation::check(&state, &organisation)?;
    let parameters = IssueParameters { project: Some(project), ..IssueParameters::read(&pairs)? };
    list(&state, parameters, &uri).await
}

/// `GET /api/0/organizations/{organisation}/issues/{issue}/`.
pub(super) async fn show_in_organisation(
    state: State<WebState>,
    caller: Caller,
    Path((organisation, issue)): Path<(String, String)>,
) -> Result<Json<IssueShape>, ApiError> {
    organisation::check(&state, &organisation)?;
    show(state, caller, Path(issue)).await
}

/// `GET /api/0/issues/{issue}/`.
pub(super) async fn show(
    State(state): State<WebState>,
    caller: Caller,
    Path(issue): Path<String>,
) -> Result<Json<IssueShape>, ApiError> {
    caller.require("event:read")?;
    let issue = find(&state, &issue).await?;
    Ok(Json(IssueShape::new(&state, issue, Timestamp::now())))
}

/// The issue that a path names by its number.
///
/// # Errors
/// [`ApiError::NotFound`], or [`ApiError::Failed`] if a store fails.
pub(super) async fn find(state: &WebState, issue: &str) -> Result<IssueSummary, ApiError> {
    let number = issue.parse().map_err(|_| ApiError::NotFound("issue"))?;
    let issue = state.query.issue(IssueId::new(number), Timestamp::now()).await;
    issue.map_err(|error| ApiError::failed("reading the issue", &error))?.ok_or(ApiError::NotFound("issue"))
}

async fn list(state: &WebState, parameters: IssueParameters, uri: &Uri) -> Result<Response, ApiError> {
    let project = match &parameters.project {
        Some(project) => Some(project::find(state, project).await?.id),
        None => None,
    };
    let page = parameters.page;
    let filter = IssueFilter { project, text: parameters.text, limit: page.limit, offset: page.offset };
    let now = Timestamp::now();
    let found = state.query.issues(&filter, now).await;
    let mut found = found.map_err(|error| ApiError::failed("reading the issues", &error))?;
    let link = page.link(&state.address(uri.path()), uri.query(), found.next_offset);
    // The store can't filter by it, so a page may be shorter than asked for; what is on it is right.
    found.issues.retain(|issue| parameters.status.as_ref().is_none_or(|status| issue.status == *status));
    let shapes: Vec<_> = found.issues.into_iter().map(|issue| IssueShape::new(state, issue, now)).collect();
    Ok((link.map(|link| [(LINK, link)]), Json(shapes)).into_response())
}

/// An issue as clients know it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssueShape {
    id: String,
    share_id: Option<String>,
    short_id: String,
    title: String,
    culprit: String,
    permalink: String,
    logger: Option<String>,
    level: String,
    status: String,
    substatus: String,
    status_details: Value,
    is_public: bool,
    platform: String,
    project: Value,
    #[serde(rename = "type")]
    kind: String,
    issue_type: &'static str,
    issue_category: &'static str,
    metadata: Value,
    num_comments: u32,
    assigned_to: Option<String>,
    is_bookmarked: bool,
    is_subscribed: bool,
    has_seen: bool,
    annotations: [String; 0],
    /// A string, as in the API that this one follows.
    count: String,
    user_count: u64,
    first_seen: String,
    last_seen: String,
    stats: Value,
}

impl IssueShape {
    fn new(state: &WebState, issue: IssueSummary, now: Timestamp) -> Self {
        let permalink = state.address(&format!("/issues/{}/", issue.id.get()));
        Self::with_permalink(issue, permalink, now)
    }

    fn with_permalink(issue: IssueSummary, permalink: String, now: Timestamp) -> Self {
        Self {
            id: issue.id.get().to_string(),
            share_id: None,
            short_id: issue.short_id,
            title: issue.title,
            culprit: issue.culprit,
            permalink,
            logger: None,
            level: issue.level,
            status: issue.status,
            substatus: issue.substatus,
            status_details: json!({}),
            is_public: false,
            platform: issue.platform,
            project: json!({
                "id": issue.project.id.to_string(),
                "name": issue.project.name,
                "slug": issue.project.slug,
                "platform": issue.project.platform,
            }),
            kind: issue.kind,
            issue_type: "error",
            issue_category: "error",
            metadata: json!(issue.metadata),
            num_comments: 0,
            assigned_to: None,
            is_bookmarked: false,
            is_subscribed: false,
            has_seen: true,
            annotations: [],
            count: issue.count.to_string(),
            user_count: issue.users,
            first_seen: issue.first_seen.to_rfc3339(),
            last_seen: issue.last_seen.to_rfc3339(),
            stats: json!({ "24h": hourly_buckets(&issue.hourly, now) }),
        }
    }
}

/// `[[start of the hour in seconds, count], …]`; the last count is that of the running hour.
fn hourly_buckets(hourly: &[u64], now: Timestamp) -> Vec<(u64, u64)> {
    let running_hour = now.as_millis() / HOUR_MS;
    let before = (0..hourly.len() as u64).rev();
    before
        .zip(hourly)
        .map(|(hours_ago, count)| (running_hour.saturating_sub(hours_ago) * HOUR_MS / 1_000, *count))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::web::fixture::issue_summary;

    const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    #[test]
    fn an_issue_has_the_shape_that_clients_know() {
        let shape = IssueShape::with_permalink(issue_summary(), "http://host/issues/7/".to_owned(), NOW);
        let shape = serde_json::to_value(&shape).unwrap();
        assert_eq!(shape["id"], "7");
        assert_eq!(shape["shortId"], "SHOP-1");
        assert_eq!(shape["count"], "1234");
        assert_eq!(shape["userCount"], 5);
        assert_eq!(shape["type"], "error");
        assert_eq!(shape["metadata"]["type"], "ValueError");
        assert_eq!(shape["project"], json!({"id": "3", "name": "Shop", "slug": "shop", "platform": "python"}));
        assert_eq!(shape["permalink"], "http://host/issues/7/");
        assert_eq!(shape["lastSeen"], "2025-11-22T14:05:06.789Z");
        assert_eq!(shape["stats"]["24h"].as_array().unwrap().len(), 24);
    }

    #[test]
    fn the_last_bucket_is_the_running_hour() {
        assert_eq!(hourly_buckets(&[1, 2], NOW), [(1_763_816_400, 1), (1_763_820_000, 2)]);
        assert!(hourly_buckets(&[], NOW).is_empty());
        assert_eq!(hourly_buckets(&[1, 2], Timestamp::EPOCH), [(0, 1), (0, 2)]);
    }
}
