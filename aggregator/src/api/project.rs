//! Projects.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::organisation;
use crate::projects::Project;
use crate::web::WebState;

/// `GET /api/0/projects/`.
pub(super) async fn list(State(state): State<WebState>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require("project:read")?;
    let projects = all(&state).await?;
    Ok(Json(projects.iter().map(|project| shape(&state, project)).collect()))
}

/// `GET /api/0/organizations/{organisation}/projects/`.
pub(super) async fn list_of_organisation(
    state: State<WebState>,
    caller: Caller,
    Path(organisation): Path<String>,
) -> Result<Json<Value>, ApiError> {
    organisation::check(&state, &organisation)?;
    list(state, caller).await
}

/// `GET /api/0/projects/{organisation}/{project}/`.
pub(super) async fn show(
    State(state): State<WebState>,
    caller: Caller,
    Path((organisation, project)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    caller.require("project:read")?;
    organisation::check(&state, &organisation)?;
    let project = find(&state, &project).await?;
    Ok(Json(shape(&state, &project)))
}

/// The project that a path or parameter names by slug or id.
///
/// # Errors
/// [`ApiError::NotFound`], or [`ApiError::Failed`] if the database fails.
pub(super) async fn find(state: &WebState, slug_or_id: &str) -> Result<Project, ApiError> {
    let projects = all(state).await?;
    // A slug may be all digits, so it goes first.
    let place = projects
        .iter()
        .position(|project| project.slug == slug_or_id)
        .or_else(|| projects.iter().position(|project| project.id.to_string() == slug_or_id));
    place.and_then(|place| projects.into_iter().nth(place)).ok_or(ApiError::NotFound("project"))
}

async fn all(state: &WebState) -> Result<Vec<Project>, ApiError> {
    state.projects.list().await.map_err(|error| ApiError::failed("reading the projects", &error))
}

fn shape(state: &WebState, project: &Project) -> Value {
    json!({
        "id": project.id.to_string(),
        "slug": project.slug,
        "name": project.name,
        "platform": project.platform,
        "dateCreated": project.created_at.to_rfc3339(),
        "status": "active",
        "isBookmarked": false,
        "isMember": true,
        "hasAccess": true,
        "features": [],
        "organization": { "id": "1", "slug": state.organisation, "name": state.organisation },
    })
}
