//! Questions that pages, API and commands ask: issue state from SQL, counts and events from ClickHouse, joined by issue id
//! for one page at a time.
//!
//! What it does not do: change anything, or know about HTTP.

mod event;
mod issue;

use clickhouse::Client;
use picket_common::ids::ProjectId;
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use crate::database::{Database, DatabaseError, Pool};
use crate::events::{EventsError, EventsStore};
use crate::issues::{IssueId, IssueMetadata};
use crate::projects::{ProjectError, Projects};

/// Most issues of one page.
pub const MAX_PAGE: u32 = 1000;
/// Hours in a sparkline.
pub const SPARKLINE_HOURS: usize = 24;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// SQL failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The projects can't be read.
    #[error(transparent)]
    Projects(#[from] ProjectError),
    /// ClickHouse failed.
    #[error(transparent)]
    Events(#[from] EventsError),
}

impl From<clickhouse::error::Error> for QueryError {
    fn from(error: clickhouse::error::Error) -> Self {
        Self::Events(error.into())
    }
}

/// Which issues.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IssueFilter {
    /// Of this project only.
    pub project: Option<ProjectId>,
    /// With this text in title or culprit.
    pub text: Option<String>,
    /// How many, at most [`MAX_PAGE`].
    pub limit: u32,
    /// How many to pass over.
    pub offset: u32,
}

/// Issues, last seen first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssuePage {
    /// The issues.
    pub issues: Vec<IssueSummary>,
    /// Where the next page begins, if there is one.
    pub next_offset: Option<u32>,
}

/// An issue with its counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssueSummary {
    /// The id.
    pub id: IssueId,
    /// The name people say, such as `SHOP-2K`.
    pub short_id: String,
    /// One line.
    pub title: String,
    /// Where it happened.
    pub culprit: String,
    /// Level of its first event.
    pub level: String,
    /// Platform of its first event.
    pub platform: String,
    /// `unresolved`, `resolved` or `ignored`.
    pub status: String,
    /// `new`, `ongoing` and so on.
    pub substatus: String,
    /// `error` or `default`.
    pub kind: String,
    /// The parts of the title.
    pub metadata: IssueMetadata,
    /// The project.
    pub project: ProjectSummary,
    /// Events of all time.
    pub count: u64,
    /// Users affected, of all time; estimated above some ten thousand.
    pub users: u64,
    /// Time of the first event.
    pub first_seen: Timestamp,
    /// Time of the newest event.
    pub last_seen: Timestamp,
    /// Events in each of the last 24 hours, oldest first.
    pub hourly: Vec<u64>,
}

/// The project of an issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSummary {
    /// The id.
    pub id: ProjectId,
    /// The slug.
    pub slug: String,
    /// The name.
    pub name: String,
    /// The platform.
    pub platform: Option<String>,
}

pub use event::StoredEvent;

/// Answers questions.
#[derive(Debug, Clone)]
pub struct Query {
    client: Client,
    pool: Pool,
    projects: Projects,
}

impl Query {
    /// Asks these stores.
    #[must_use]
    pub fn new(events: &EventsStore, database: &Database, projects: Projects) -> Self {
        Self { client: events.client(), pool: database.pool().clone(), projects }
    }

    /// Asks through a given client; for tests that need no events.
    #[cfg(test)]
    pub(crate) fn with_client(client: Client, database: &Database, projects: Projects) -> Self {
        Self { client, pool: database.pool().clone(), projects }
    }

    async fn project_summaries(&self) -> Result<std::collections::HashMap<ProjectId, ProjectSummary>, QueryError> {
        let projects = self.projects.list().await?;
        let summary = |project: crate::projects::Project| ProjectSummary {
            id: project.id,
            slug: project.slug,
            name: project.name,
            platform: project.platform,
        };
        Ok(projects.into_iter().map(|project| (project.id, summary(project))).collect())
    }
}
