//! The start page: all issues, the last seen first.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Html;
use picket_common::timestamp::Timestamp;
use serde::Deserialize;

use super::error::PageError;
use super::issue_heading::IssueHeading;
use super::layout::Layout;
use super::onboarding::FirstSteps;
use super::rendered::rendered;
use crate::projects::Project;
use crate::query::{IssueFilter, IssuePage};
use crate::web::session::Viewer;
use crate::web::{Pages, sparkline};

/// Issues on a page.
const PAGE_SIZE: u32 = 50;

/// What the page's address carries. Everything is text: an odd offset is ignored rather than answered with an error.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
    #[serde(default)]
    /// A slug; empty for all projects.
    project: String,
    /// What title or culprit should contain.
    #[serde(default)]
    text: String,
    #[serde(default)]
    offset: String,
}

#[derive(Template)]
#[template(path = "issue_list.html")]
struct IssueListPage<'a> {
    layout: Layout<'a>,
    issues: Vec<IssueHeading>,
    projects: &'a [Project],
    /// The slug of the project that the list is limited to; empty for all.
    chosen: &'a str,
    text: &'a str,
    first_steps: Option<FirstSteps>,
    paging: Paging,
    chart_width: u32,
    chart_height: u32,
}

/// The neighbours of a page of the list, as offsets.
#[derive(Debug, PartialEq, Eq)]
struct Paging {
    previous: Option<u32>,
    next: Option<u32>,
}

/// `GET /`.
pub(crate) async fn show(
    State(pages): State<Arc<Pages>>,
    viewer: Viewer,
    Query(parameters): Query<Parameters>,
) -> Result<Html<String>, PageError> {
    let projects = pages.state.projects.list().await;
    let projects = projects.map_err(|error| PageError::failed("reading the projects", &error))?;
    let chosen = match parameters.project.as_str() {
        "" => None,
        // Not the issues of all projects: they would pass for those of the one that was asked for.
        slug => Some(projects.iter().find(|project| project.slug == slug).ok_or(PageError::NoSuchProject)?),
    };
    let offset = parameters.offset.parse().unwrap_or(0);
    let text = parameters.text.trim();
    let filter = IssueFilter {
        project: chosen.map(|project| project.id),
        text: (!text.is_empty()).then(|| text.to_owned()),
        limit: PAGE_SIZE,
        offset,
    };
    let now = Timestamp::now();
    let found = pages.state.query.issues(&filter, now).await;
    let found = found.map_err(|error| PageError::failed("reading the issues", &error))?;
    render(&viewer.email, &projects, &Choice { project: chosen, text, offset }, found, now)
}

/// What the list is limited to.
struct Choice<'a> {
    project: Option<&'a Project>,
    text: &'a str,
    offset: u32,
}

fn render(
    viewer: &str,
    projects: &[Project],
    choice: &Choice<'_>,
    found: IssuePage,
    now: Timestamp,
) -> Result<Html<String>, PageError> {
    let Choice { project, text, offset } = *choice;
    let is_start = offset == 0;
    let has_nothing_at_all = found.issues.is_empty() && is_start && text.is_empty();
    let first_steps = has_nothing_at_all.then(|| FirstSteps::new(project.or(projects.first())));
    let paging = Paging { previous: (!is_start).then(|| offset.saturating_sub(PAGE_SIZE)), next: found.next_offset };
    rendered(&IssueListPage {
        layout: Layout::new("Issues", viewer),
        issues: found.issues.into_iter().map(|issue| IssueHeading::new(issue, now)).collect(),
        projects,
        chosen: project.map_or("", |project| &project.slug),
        text,
        first_steps,
        paging,
        chart_width: sparkline::WIDTH,
        chart_height: sparkline::HEIGHT,
    })
}

#[cfg(test)]
#[path = "issue_list_tests.rs"]
mod tests;
