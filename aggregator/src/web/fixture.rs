//! Issues and events for tests of pages and API.

#![allow(clippy::unwrap_used)]

use picket_common::ids::ProjectId;
use picket_common::timestamp::Timestamp;
use serde_json::Value;

use crate::database::Database;
use crate::issues::{IssueId, IssueMetadata};
use crate::projects::Projects;
use crate::query::{IssueSummary, ProjectSummary, Query, StoredEvent};

/// 2025-11-22T14:05:06.789Z.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

/// Issue 7 of project 3.
pub(crate) fn issue_summary() -> IssueSummary {
    IssueSummary {
        id: IssueId::new(7),
        short_id: "SHOP-1".to_owned(),
        title: "ValueError: bad input".to_owned(),
        culprit: "shop.checkout in pay".to_owned(),
        level: "error".to_owned(),
        platform: "python".to_owned(),
        status: "unresolved".to_owned(),
        substatus: "new".to_owned(),
        kind: "error".to_owned(),
        metadata: IssueMetadata {
            exception_type: Some("ValueError".to_owned()),
            value: Some("bad input".to_owned()),
            filename: Some("shop/checkout.py".to_owned()),
            function: Some("pay".to_owned()),
        },
        project: ProjectSummary {
            id: ProjectId::new(3),
            slug: "shop".to_owned(),
            name: "Shop".to_owned(),
            platform: Some("python".to_owned()),
        },
        count: 1234,
        users: 5,
        first_seen: Timestamp::from_millis(NOW.as_millis() - 90_000_000),
        last_seen: NOW,
        hourly: (0..24).collect(),
    }
}

/// An event of that issue.
pub(crate) fn stored_event(json: &Value) -> StoredEvent {
    StoredEvent {
        event_id: "fc6d8c0c43fc4630ad850ee518f1b9d0".parse().unwrap(),
        issue_id: IssueId::new(7),
        project_id: ProjectId::new(3),
        timestamp: NOW,
        received_at: NOW,
        json: serde_json::to_vec(json).unwrap().into(),
    }
}

/// Answers nothing that needs the events store: no address is behind its client.
pub(crate) fn query_without_store(database: &Database, projects: &Projects) -> std::sync::Arc<Query> {
    std::sync::Arc::new(Query::with_client(clickhouse::Client::default(), database, projects.clone()))
}
