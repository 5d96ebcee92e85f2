//! All projects with their DSNs, and a form for a new one.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use picket_common::timestamp::Timestamp;
use serde::Deserialize;

use super::error::PageError;
use super::layout::Layout;
use super::rendered::rendered;
use crate::projects::{Project, ProjectError};
use crate::web::session::Viewer;
use crate::web::when::When;
use crate::web::{Pages, origin};

/// Platforms offered in the form; any other can be given on the command line.
const PLATFORMS: [&str; 14] = [
    "python",
    "javascript",
    "node",
    "php",
    "ruby",
    "go",
    "rust",
    "java",
    "csharp",
    "elixir",
    "cocoa",
    "android",
    "native",
    "other",
];

#[derive(Template)]
#[template(path = "project_list.html")]
struct ProjectListPage<'a> {
    layout: Layout<'a>,
    projects: Vec<ProjectRow<'a>>,
    platforms: &'static [&'static str],
    /// What the form was sent with, to be corrected.
    name: &'a str,
    problem: Option<String>,
}

struct ProjectRow<'a> {
    project: &'a Project,
    created: When,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
struct NewProject {
    name: String,
    #[serde(default)]
    platform: String,
}

/// `GET /projects/`.
pub(crate) async fn show(State(pages): State<Arc<Pages>>, viewer: Viewer) -> Result<Html<String>, PageError> {
    let projects = list(&pages).await?;
    render(&viewer.email, &projects, "", None, Timestamp::now())
}

/// `POST /projects/`.
pub(crate) async fn create(
    State(pages): State<Arc<Pages>>,
    viewer: Viewer,
    request: Request,
) -> Result<Response, PageError> {
    if !origin::is_ours(request.headers(), &pages.state.public_url) {
        return Err(PageError::ForeignForm);
    }
    let Ok(Form(form)) = Form::<NewProject>::from_request(request, &()).await else {
        return refused(&pages, &viewer, "", "The form was incomplete. Please try again.".to_owned()).await;
    };
    let platform = PLATFORMS.iter().copied().find(|platform| *platform == form.platform);
    match pages.state.projects.create(&form.name, platform, Timestamp::now()).await {
        Ok(_) => Ok(Redirect::to("/projects/").into_response()),
        Err(error @ ProjectError::Name) => refused(&pages, &viewer, &form.name, error.to_string()).await,
        Err(error) => Err(PageError::failed("making the project", &error)),
    }
}

async fn refused(pages: &Pages, viewer: &Viewer, name: &str, problem: String) -> Result<Response, PageError> {
    let projects = list(pages).await?;
    let page = render(&viewer.email, &projects, name, Some(problem), Timestamp::now())?;
    Ok((StatusCode::BAD_REQUEST, page).into_response())
}

async fn list(pages: &Pages) -> Result<Vec<Project>, PageError> {
    pages.state.projects.list().await.map_err(|error| PageError::failed("reading the projects", &error))
}

fn render(
    viewer: &str,
    projects: &[Project],
    name: &str,
    problem: Option<String>,
    now: Timestamp,
) -> Result<Html<String>, PageError> {
    let projects = projects.iter().map(|project| ProjectRow { project, created: When::new(project.created_at, now) });
    rendered(&ProjectListPage {
        layout: Layout::new("Projects", viewer),
        projects: projects.collect(),
        platforms: &PLATFORMS,
        name,
        problem,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::ids::ProjectId;

    use super::*;

    #[test]
    fn names_and_refused_input_are_escaped() {
        let project = Project {
            id: ProjectId::new(7),
            name: "<b>Shop</b>".to_owned(),
            slug: "shop".to_owned(),
            platform: Some("\"><script>".to_owned()),
            dsn: String::new(),
            created_at: Timestamp::EPOCH,
        };
        let problem = Some("<i>problem".to_owned());
        let Html(html) = render("a@b", &[project], "\"><img src=x>", problem, Timestamp::EPOCH).unwrap();
        for hostile in ["<b>Shop", "<script", "<img src=x", "<i>"] {
            assert!(!html.contains(hostile), "{hostile}");
        }
    }
}
