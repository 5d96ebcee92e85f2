//! Access: whether a key may send to a project from an origin, by the configuration that the aggregator pushed.

use std::sync::Arc;

use picket_common::ids::{ProjectId, PublicKey};

use super::origin::Origin;
use crate::projects::{KeyLookup, Project, ProjectTable};
use crate::refusal::Refusal;

/// Looks the key up and checks it against the path and the origin.
///
/// # Errors
/// 503 while no configuration was ever received; 403 for an unknown or disabled key, a key of another project (`project_id`),
/// or an origin that the project does not allow (`cors`).
pub(crate) fn authorise(
    projects: Option<&ProjectTable>,
    key: &PublicKey,
    path_project: Option<ProjectId>,
    origin: Option<&Origin>,
) -> Result<Arc<Project>, Refusal> {
    let projects = projects.ok_or_else(|| {
        Refusal::unavailable("no_configuration", "the relay has not received its projects from an aggregator yet")
    })?;
    let project = match projects.lookup(key) {
        KeyLookup::Enabled(project) => project,
        KeyLookup::Disabled(_) => return Err(Refusal::forbidden("disabled_key", "this key is disabled")),
        KeyLookup::Unknown => return Err(Refusal::forbidden("unknown_key", "no project has this key")),
    };
    if path_project.is_some_and(|asked| asked != project.config.id) {
        return Err(Refusal::forbidden("project_id", "the key belongs to another project than the one in the path"));
    }
    if origin.is_some_and(|origin| !origin.matches_any(&project.config.settings.allowed_domains)) {
        return Err(Refusal::forbidden("cors", "the project does not allow this origin"));
    }
    Ok(Arc::clone(project))
}
