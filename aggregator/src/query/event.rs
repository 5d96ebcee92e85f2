//! Single events: which, by their columns; what, by their payload.

use bytes::Bytes;
use clickhouse::Row;
use picket_common::ids::{EventId, ProjectId};
use picket_common::timestamp::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{Query, QueryError};
use crate::issues::IssueId;

/// An event as stored.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The id.
    pub event_id: EventId,
    /// The issue it belongs to.
    pub issue_id: IssueId,
    /// The project.
    pub project_id: ProjectId,
    /// When it happened.
    pub timestamp: Timestamp,
    /// When a relay received it.
    pub received_at: Timestamp,
    /// The whole event.
    pub json: Bytes,
}

/// The key of an event's payload.
#[derive(Debug, Row, Deserialize)]
struct Key {
    project_id: u64,
    issue_id: u64,
    timestamp: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
    received_at: i64,
}

const COLUMNS: &str = "SELECT project_id, issue_id, timestamp, event_id, received_at FROM events";

impl Query {
    /// The newest event of an issue.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn latest_event(&self, project: ProjectId, issue: IssueId) -> Result<Option<StoredEvent>, QueryError> {
        let key = self
            .client
            .query(&format!(
                "{COLUMNS} WHERE project_id = ? AND issue_id = ? ORDER BY timestamp DESC, event_id DESC LIMIT 1"
            ))
            .bind(project.get())
            .bind(issue.as_u64())
            .fetch_optional()
            .await?;
        self.with_payload(key).await
    }

    /// An event by its id. SDKs make ids, so the id alone is not enough: it names an event within a project.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn event(&self, project: ProjectId, event: EventId) -> Result<Option<StoredEvent>, QueryError> {
        let key = self
            .client
            .query(&format!("{COLUMNS} WHERE project_id = ? AND event_id = toUUID(?) LIMIT 1"))
            .bind(project.get())
            .bind(event.as_uuid().to_string())
            .fetch_optional()
            .await?;
        self.with_payload(key).await
    }

    /// Reads the payload by its whole key, so that one granule is touched.
    async fn with_payload(&self, key: Option<Key>) -> Result<Option<StoredEvent>, QueryError> {
        let Some(key) = key else { return Ok(None) };
        let Ok(event_id) = EventId::try_from(key.event_id) else { return Ok(None) };
        let json: Option<String> = self
            .client
            .query(
                "SELECT json FROM event_payloads WHERE project_id = ? AND issue_id = ?
                 AND timestamp = fromUnixTimestamp64Milli(?, 'UTC') AND event_id = toUUID(?) LIMIT 1",
            )
            .bind(key.project_id)
            .bind(key.issue_id)
            .bind(key.timestamp)
            .bind(key.event_id.to_string())
            .fetch_optional()
            .await?;
        Ok(json.map(|json| StoredEvent {
            event_id,
            issue_id: IssueId::new(key.issue_id.cast_signed()),
            project_id: ProjectId::new(key.project_id),
            timestamp: Timestamp::from_i64(key.timestamp),
            received_at: Timestamp::from_i64(key.received_at),
            json: Bytes::from(json),
        }))
    }
}
