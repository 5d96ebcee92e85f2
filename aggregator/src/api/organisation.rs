//! The one organisation of an installation.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use crate::web::WebState;

/// The organisation's id: there is one, so it needs no table.
const ID: &str = "1";

/// `GET /api/0/`: who the caller is, which `sentry-cli info` asks.
pub(super) async fn entry(caller: Caller) -> Json<Value> {
    Json(match caller {
        Caller::Token { scopes } => json!({ "version": "0", "auth": { "scopes": scopes }, "user": null }),
        Caller::Person { email } => json!({ "version": "0", "auth": null, "user": { "email": email } }),
    })
}

/// `GET /api/0/organizations/`.
pub(super) async fn list(State(state): State<WebState>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require("org:read")?;
    Ok(Json(json!([shape(&state)])))
}

/// `GET /api/0/organizations/{organisation}/`.
pub(super) async fn show(
    State(state): State<WebState>,
    caller: Caller,
    Path(organisation): Path<String>,
) -> Result<Json<Value>, ApiError> {
    caller.require("org:read")?;
    check(&state, &organisation)?;
    Ok(Json(shape(&state)))
}

/// Checks that a path names the organisation there is, by slug or id.
///
/// # Errors
/// [`ApiError::NotFound`].
pub(super) fn check(state: &WebState, organisation: &str) -> Result<(), ApiError> {
    if organisation == state.organisation || organisation == ID {
        return Ok(());
    }
    Err(ApiError::NotFound("organisation"))
}

fn shape(state: &WebState) -> Value {
    let url = state.address("");
    json!({
        "id": ID,
        "slug": state.organisation,
        "name": state.organisation,
        "status": { "id": "active", "name": "active" },
        "isEarlyAdopter": false,
        "require2FA": false,
        "avatar": { "avatarType": "letter_avatar", "avatarUuid": null },
        "features": [],
        "links": { "organizationUrl": url, "regionUrl": url },
    })
}
