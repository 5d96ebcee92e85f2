//! One event with everything in it.

use axum::Json;
use axum::extract::{Path, State};
use picket_common::ids::EventId;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::{event_entry, issue, organisation, project};
use crate::query::{IssueSummary, StoredEvent};
use crate::web::WebState;

/// `GET /api/0/organizations/{organisation}/issues/{issue}/events/{event}/`.
pub(super) async fn of_issue_in_organisation(
    state: State<WebState>,
    caller: Caller,
    Path((organisation, issue, event)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    organisation::check(&state, &organisation)?;
    of_issue(state, caller, Path((issue, event))).await
}

/// `GET /api/0/issues/{issue}/events/{event}/`: an event id, or `latest` (which `recommended` is taken for).
pub(super) async fn of_issue(
    State(state): State<WebState>,
    caller: Caller,
    Path((issue, event)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    caller.require("event:read")?;
    let issue = issue::find(&state, &issue).await?;
    let found = match event.as_str() {
        "latest" | "recommended" => state.query.latest_event(issue.project.id, issue.id).await,
        id => state.query.event(issue.project.id, event_id(id)?).await,
    };
    let found = found.map_err(|error| ApiError::failed("reading the event", &error))?;
    let event = found.filter(|event| event.issue_id == issue.id).ok_or(ApiError::NotFound("event"))?;
    answer(issue, event).await
}

/// `GET /api/0/projects/{organisation}/{project}/events/{event}/`.
pub(super) async fn of_project(
    State(state): State<WebState>,
    caller: Caller,
    Path((organisation, project, event)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    caller.require("event:read")?;
    organisation::check(&state, &organisation)?;
    let project = project::find(&state, &project).await?;
    let event = state.query.event(project.id, event_id(&event)?).await;
    let event = event.map_err(|error| ApiError::failed("reading the event", &error))?;
    let event = event.ok_or(ApiError::NotFound("event"))?;
    let issue = issue::find(&state, &event.issue_id.get().to_string()).await?;
    answer(issue, event).await
}

fn event_id(text: &str) -> Result<EventId, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("event"))
}

/// An event can be a megabyte of JSON, so it is reshaped off the async threads.
async fn answer(issue: IssueSummary, event: StoredEvent) -> Result<Json<Value>, ApiError> {
    let shaped = tokio::task::spawn_blocking(move || shape(&issue, &event)).await;
    shaped.map(Json).map_err(|error| ApiError::failed("reshaping the event", &error))
}

/// An event as clients know it. What cannot be read of the stored JSON is null or empty.
fn shape(issue: &IssueSummary, stored: &StoredEvent) -> Value {
    let event: Map<String, Value> = serde_json::from_slice(&stored.json).unwrap_or_default();
    let field = |name: &str| event.get(name).cloned().unwrap_or_default();
    let field_or =
        |name: &str, absent: Value| event.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(absent);
    let id = stored.event_id.to_string();
    json!({
        "id": id,
        "eventID": id,
        "groupID": stored.issue_id.get().to_string(),
        "projectID": stored.project_id.to_string(),
        "title": issue.title,
        "culprit": issue.culprit,
        "location": issue.metadata.filename,
        "metadata": issue.metadata,
        "message": message(&event),
        "type": issue.kind,
        "platform": field("platform"),
        "dateCreated": stored.timestamp.to_rfc3339(),
        "dateReceived": stored.received_at.to_rfc3339(),
        "size": stored.json.len(),
        "tags": tags(&event),
        "user": field("user"),
        "contexts": field_or("contexts", json!({})),
        "context": field_or("extra", json!({})),
        "packages": field_or("modules", json!({})),
        "sdk": sdk(&event),
        "release": release(&event),
        "dist": field("dist"),
        "environment": field("environment"),
        "fingerprints": field_or("fingerprint", json!([])),
        "errors": field_or("errors", json!([])),
        "entries": event_entry::entries(&event),
        "_meta": field_or("_meta", json!({})),
        "nextEventID": null,
        "previousEventID": null,
    })
}

fn message(event: &Map<String, Value>) -> Value {
    let text = |entry: &Value| match entry {
        Value::Object(parts) => {
            ["formatted", "message"].iter().find_map(|name| parts.get(*name)?.as_str()).map(str::to_owned)
        }
        other => other.as_str().map(str::to_owned),
    };
    let found = ["logentry", "message"].iter().find_map(|name| text(event.get(*name)?));
    Value::String(found.unwrap_or_default())
}

/// SDKs send an object, pairs, or objects of key and value; clients get the last form.
fn tags(event: &Map<String, Value>) -> Vec<Value> {
    let tag = |key: &Value, value: &Value| json!({ "key": key, "value": value });
    match event.get("tags") {
        Some(Value::Object(tags)) => tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect(),
        Some(Value::Array(tags)) => tags
            .iter()
            .filter_map(|member| match member {
                Value::Array(pair) => Some(tag(pair.first()?, pair.get(1)?)),
                Value::Object(pair) => Some(tag(pair.get("key")?, pair.get("value")?)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn sdk(event: &Map<String, Value>) -> Value {
    match event.get("sdk") {
        Some(sdk @ Value::Object(_)) => json!({ "name": sdk["name"], "version": sdk["version"] }),
        _ => Value::Null,
    }
}

fn release(event: &Map<String, Value>) -> Value {
    let Some(version) = event.get("release").and_then(Value::as_str) else { return Value::Null };
    // `package@version+build` is known by its version among people.
    let short = version.split_once('@').map_or(version, |(_package, rest)| rest);
    json!({ "version": version, "shortVersion": short })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::fixture::{issue_summary, stored_event};

    #[test]
    fn an_event_has_the_shape_that_clients_know() {
        let event = stored_event(&json!({
            "platform": "python", "logentry": {"message": "%s left", "formatted": "3 left"},
            "tags": [["a", "1"], {"key": "b", "value": "2"}, "odd"], "user": {"id": "42"}, "release": "shop@1.2.3",
            "sdk": {"name": "sentry.python", "version": "2.0", "packages": []},
            "exception": {"values": [{"type": "ValueError", "value": "x"}]},
        }));
        let shape = shape(&issue_summary(), &event);
        assert_eq!(shape["eventID"], "fc6d8c0c43fc4630ad850ee518f1b9d0");
        assert_eq!(shape["groupID"], "7");
        assert_eq!(shape["projectID"], "3");
        assert_eq!(shape["message"], "3 left");
        assert_eq!(shape["tags"], json!([{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]));
        assert_eq!(shape["user"]["id"], "42");
        assert_eq!(shape["release"], json!({"version": "shop@1.2.3", "shortVersion": "1.2.3"}));
        assert_eq!(shape["sdk"], json!({"name": "sentry.python", "version": "2.0"}));
        assert_eq!(shape["entries"][0]["type"], "exception");
        assert_eq!(shape["dateCreated"], "2025-11-22T14:05:06.789Z");
    }

    #[test]
    fn an_event_of_odd_fields_still_has_a_shape() {
        for odd in [json!(null), json!(7), json!("x"), json!([]), json!([[], {}, 1]), json!({})] {
            let event = stored_event(&json!({
                "tags": odd, "sdk": odd, "release": odd, "logentry": odd, "message": odd, "exception": odd, "user": odd,
            }));
            assert_eq!(shape(&issue_summary(), &event)["groupID"], "7", "{odd}");
        }
        let unreadable = StoredEvent { json: "{".into(), ..stored_event(&json!({})) };
        assert_eq!(shape(&issue_summary(), &unreadable)["entries"], json!([]));
    }
}
