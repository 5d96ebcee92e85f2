//! Issues with their counts.

use std::collections::HashMap;

use clickhouse::Row;
use picket_common::ids::ProjectId;
use picket_common::timestamp::Timestamp;
use serde::Deserialize;

use super::{IssueFilter, IssuePage, IssueSummary, MAX_PAGE, ProjectSummary, Query, QueryError, SPARKLINE_HOURS};
use crate::issues::{IssueId, IssueRow, Issues, parse_short_id, short_id};

const HOUR_SECONDS: u64 = 3600;

/// Counts of one issue. Times are milliseconds since the epoch.
#[derive(Debug, Clone, Row, Deserialize)]
struct Counted {
    issue_id: u64,
    events: u64,
    users: u64,
    first_seen: i64,
    last_seen: i64,
}

/// One hour of one issue; the hour is in seconds since the epoch.
#[derive(Debug, Row, Deserialize)]
struct Hour {
    issue_id: u64,
    hour: u32,
    events: u64,
}

impl Query {
    /// A page of issues, last seen first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn issues(&self, filter: &IssueFilter, now: Timestamp) -> Result<IssuePage, QueryError> {
        let limit = filter.limit.clamp(1, MAX_PAGE);
        let only = match filter.text.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => Some(Issues::find(&self.pool, text).await?),
            None => None,
        };
        if only.as_ref().is_some_and(Vec::is_empty) {
            return Ok(IssuePage { issues: Vec::new(), next_offset: None });
        }
        // One more than asked for tells whether there is a next page.
        let mut counted = self.counted(filter.project, only.as_deref(), limit + 1, filter.offset).await?;
        let has_more = counted.len() > limit as usize;
        counted.truncate(limit as usize);
        let issues = self.summaries(&counted, now).await?;
        Ok(IssuePage { issues, next_offset: has_more.then(|| filter.offset.saturating_add(limit)) })
    }

    /// One issue; `None` if there is none, or none of its events is stored yet.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn issue(&self, id: IssueId, now: Timestamp) -> Result<Option<IssueSummary>, QueryError> {
        let counted = self.counted(None, Some(&[id]), 1, 0).await?;
        Ok(self.summaries(&counted, now).await?.pop())
    }

    /// One issue by the name people say.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn issue_by_short_id(&self, text: &str, now: Timestamp) -> Result<Option<IssueSummary>, QueryError> {
        let Some((slug, number)) = parse_short_id(text) else { return Ok(None) };
        match Issues::by_short_number(&self.pool, &slug, number).await? {
            Some(id) => self.issue(id, now).await,
            None => Ok(None),
        }
    }

    async fn counted(
        &self,
        project: Option<ProjectId>,
        only: Option<&[IssueId]>,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<Counted>, QueryError> {
        let mut conditions = Vec::new();
        if project.is_some() {
            conditions.push("project_id = ?");
        }
        if only.is_some() {
            conditions.push("issue_id IN ?");
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let mut query = self.client.query(&format!(
            "SELECT issue_id, sum(count) AS events, uniqMerge(users) AS users,
                    min(first_seen) AS first_seen, max(last_seen) AS last_seen
             FROM issue_hourly {condition}
             GROUP BY project_id, issue_id ORDER BY last_seen DESC, issue_id DESC LIMIT ? OFFSET ?"
        ));
        if let Some(project) = project {
            query = query.bind(project.get());
        }
        if let Some(only) = only {
            query = query.bind(only.iter().map(|id| id.as_u64()).collect::<Vec<_>>());
        }
        Ok(query.bind(limit).bind(offset).fetch_all().await?)
    }

    /// Adds state, project and the last day to counts, keeping their order. An issue that SQL no longer has is left out.
    async fn summaries(&self, counted: &[Counted], now: Timestamp) -> Result<Vec<IssueSummary>, QueryError> {
        if counted.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = counted.iter().map(|counts| IssueId::new(counts.issue_id.cast_signed())).collect();
        let rows = Issues::get_many(&self.pool, &ids).await?;
        let rows: HashMap<u64, IssueRow> = rows.into_iter().map(|row| (row.id.as_u64(), row)).collect();
        let projects = self.project_summaries().await?;
        let mut hourly = self.hourly(counted, now).await?;
        let summaries = counted.iter().filter_map(|counts| {
            let row = rows.get(&counts.issue_id)?;
            let project = projects.get(&row.project_id)?;
            let hours = hourly.remove(&counts.issue_id).unwrap_or_else(|| vec![0; SPARKLINE_HOURS]);
            Some(summary(row, project, counts, hours))
        });
        Ok(summaries.collect())
    }

    async fn hourly(&self, counted: &[Counted], now: Timestamp) -> Result<HashMap<u64, Vec<u64>>, QueryError> {
        let this_hour = now.as_seconds() / HOUR_SECONDS * HOUR_SECONDS;
        let first_hour = this_hour.saturating_sub((SPARKLINE_HOURS as u64 - 1) * HOUR_SECONDS);
        let ids: Vec<u64> = counted.iter().map(|counts| counts.issue_id).collect();
        let hours: Vec<Hour> = self
            .client
            .query(
                "SELECT issue_id, hour, sum(count) AS events FROM issue_hourly
                 WHERE issue_id IN ? AND hour >= toDateTime(?, 'UTC') GROUP BY issue_id, hour",
            )
            .bind(&ids)
            .bind(first_hour)
            .fetch_all()
            .await?;
        let mut by_issue: HashMap<u64, Vec<u64>> = HashMap::new();
        for hour in hours {
            let index = u64::from(hour.hour).saturating_sub(first_hour) / HOUR_SECONDS;
            let series = by_issue.entry(hour.issue_id).or_insert_with(|| vec![0; SPARKLINE_HOURS]);
            // Events up to a minute ahead of the clock may lie in an hour that has not begun here.
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| series.get_mut(index)) {
                *slot += hour.events;
            }
        }
        Ok(by_issue)
    }
}

fn summary(row: &IssueRow, project: &ProjectSummary, counts: &Counted, hourly: Vec<u64>) -> IssueSummary {
    IssueSummary {
        id: row.id,
        short_id: short_id(&project.slug, row.short_number),
        title: row.title.clone(),
        culprit: row.culprit.clone(),
        level: row.level.clone(),
        platform: row.platform.clone(),
        status: row.status.clone(),
        substatus: row.substatus.clone(),
        kind: row.kind.clone(),
        metadata: row.metadata.clone(),
        project: project.clone(),
        count: counts.events,
        users: counts.users,
        first_seen: Timestamp::from_i64(counts.first_seen),
        last_seen: Timestamp::from_i64(counts.last_seen),
        hourly,
    }
}
