//! Issues: which problem a grouping hash stands for, and what people see of it. How often it happened is not here.
//!
//! Invariants:
//! - two events share an issue if and only if one of their hashes leads to it; a hash leads to one issue (primary key);
//! - the mapping is committed before a row that uses it is inserted anywhere, and is never changed by a replay: so a plan
//!   that is replayed after a crash gives the same issue ids;
//! - an issue is made in one transaction with its hashes and its short number, so two workers that meet the same new hash
//!   end with one issue.

use std::collections::HashMap;

use picket_common::ids::ProjectId;
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::database::{Connection, Database, DatabaseError, DatabaseRow, Pool, placeholders};
use crate::process::group::GroupingHash;

mod short_id;

pub use short_id::{parse_short_id, short_id};

/// Most hash-to-issue pairs kept in memory: about 100 bytes each.
const CACHE_PAIRS: usize = 200_000;
/// Most ids in one statement; SQLite takes 32 766 values, PostgreSQL 65 535.
const IDS_IN_STATEMENT: usize = 4096;
/// Most issues that a text search may find.
const MAX_FOUND: i64 = 10_000;

/// The number that names an issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssueId(i64);

impl IssueId {
    /// Wraps an issue number.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The number as ClickHouse stores it. Numbers come from a counter that starts at 1.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.unsigned_abs()
    }
}

/// What an event of an issue looked like, for titles and lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IssueMetadata {
    /// Type of the main exception.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub exception_type: Option<String>,
    /// Value of the main exception.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// File of the frame that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Function of the frame that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// A new issue's face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIssue {
    /// `error` or `default`.
    pub kind: &'static str,
    /// One line.
    pub title: String,
    /// Where it happened.
    pub culprit: String,
    /// Level of the first event.
    pub level: String,
    /// Platform of the first event.
    pub platform: String,
    /// The parts of the title.
    pub metadata: IssueMetadata,
    /// Time of the first event.
    pub first_seen: Timestamp,
}

/// An issue as stored in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueRow {
    /// The id.
    pub id: IssueId,
    /// Its project.
    pub project_id: ProjectId,
    /// Its number within the project.
    pub short_number: u64,
    /// `error` or `default`.
    pub kind: String,
    /// One line.
    pub title: String,
    /// Where it happened.
    pub culprit: String,
    /// Level.
    pub level: String,
    /// Platform.
    pub platform: String,
    /// The parts of the title.
    pub metadata: IssueMetadata,
    /// `unresolved`, `resolved` or `ignored`.
    pub status: String,
    /// `new`, `ongoing` and so on.
    pub substatus: String,
}

/// One event's claim to an issue: its hashes, most significant first, and the face of the issue if it is new.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The project.
    pub project_id: ProjectId,
    /// Never empty.
    pub hashes: Vec<GroupingHash>,
    /// Used if no hash is known.
    pub face: NewIssue,
}

/// The issues of an installation.
#[derive(Debug)]
pub struct Issues {
    database: Database,
    known: HashMap<(ProjectId, GroupingHash), IssueId>,
}

impl Issues {
    /// Works on a database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self { database: database.clone(), known: HashMap::new() }
    }

    /// The database that it works on.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Finds or makes the issue of each claim, in order.
    ///
    /// # Errors
    /// [`DatabaseError`]; then nothing was made, and the call can be repeated.
    pub async fn assign(&mut self, claims: &[&Claim]) -> Result<Vec<IssueId>, DatabaseError> {
        if self.known.len() > CACHE_PAIRS {
            // Rare, and the next claims read back what they need; cheaper than an order of use on every event.
            self.known.clear();
        }
        self.recall(claims).await?;
        self.create_missing(claims).await?;
        let found: Vec<_> = claims.iter().filter_map(|claim| self.lookup(claim)).collect();
        // Every hash is known now: it was recalled or made. Were one not, events would go to other issues.
        if found.len() == claims.len() { Ok(found) } else { Err(sqlx::Error::RowNotFound.into()) }
    }

    fn lookup(&self, claim: &Claim) -> Option<IssueId> {
        claim.hashes.iter().find_map(|hash| self.known.get(&(claim.project_id, *hash)).copied())
    }

    /// Reads the pairs that the claims need and memory lacks.
    async fn recall(&mut self, claims: &[&Claim]) -> Result<(), DatabaseError> {
        let mut missing: Vec<_> = claims
            .iter()
            .flat_map(|claim| claim.hashes.iter().map(|hash| (claim.project_id, *hash)))
            .filter(|pair| !self.known.contains_key(pair))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let mut connection = self.database.pool().acquire().await?;
        for (project, hash) in missing {
            let found: Option<i64> =
                sqlx::query_scalar("SELECT issue_id FROM issue_hashes WHERE project_id = $1 AND hash = $2")
                    .bind(sql_id(project))
                    .bind(hash.to_string())
                    .fetch_optional(&mut *connection)
                    .await?;
            if let Some(issue) = found {
                self.known.insert((project, hash), IssueId(issue));
            }
        }
        Ok(())
    }

    /// Makes what is missing in one transaction, and remembers it only after the commit.
    async fn create_missing(&mut self, claims: &[&Claim]) -> Result<(), DatabaseError> {
        let incomplete =
            |claim: &&Claim| claim.hashes.iter().any(|hash| !self.known.contains_key(&(claim.project_id, *hash)));
        let wanting: Vec<&Claim> = claims.iter().copied().filter(incomplete).collect();
        if wanting.is_empty() {
            return Ok(());
        }
        let mut made: HashMap<(ProjectId, GroupingHash), IssueId> = HashMap::new();
        let mut transaction = self.database.begin_write().await?;
        for claim in wanting {
            let pair = |hash: &GroupingHash| (claim.project_id, *hash);
            let known = claim
                .hashes
                .iter()
                .find_map(|hash| self.known.get(&pair(hash)).or_else(|| made.get(&pair(hash))).copied());
            let issue = match known {
                Some(issue) => issue,
                None => stored_or_new(&mut transaction, claim).await?,
            };
            for hash in &claim.hashes {
                if self.known.contains_key(&pair(hash)) || made.contains_key(&pair(hash)) {
                    continue;
                }
                let owner = link(&mut transaction, claim.project_id, *hash, issue).await?;
                made.insert(pair(hash), owner);
            }
        }
        transaction.commit().await?;
        self.known.extend(made);
        Ok(())
    }

    /// One issue.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn get(pool: &Pool, id: IssueId) -> Result<Option<IssueRow>, DatabaseError> {
        Ok(Self::get_many(pool, &[id]).await?.pop())
    }

    /// The issues with these ids that exist, in no particular order.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn get_many(pool: &Pool, ids: &[IssueId]) -> Result<Vec<IssueRow>, DatabaseError> {
        let mut rows = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_IN_STATEMENT) {
            let Some(last) = ids.last() else { continue };
            let (list, count) = placeholders(ids.len());
            let statement = format!(
                "SELECT id, project_id, short_number, kind, title, culprit, level, platform, metadata, status, substatus
                 FROM issues WHERE id IN ({list})"
            );
            let ids = ids.iter().chain(std::iter::repeat(last)).take(count);
            let query = ids.fold(sqlx::query(sqlx::AssertSqlSafe(statement)), |query, id| query.bind(id.0));
            rows.extend(query.fetch_all(pool).await?);
        }
        rows.iter().map(|row| read_row(row).map_err(DatabaseError::from)).collect()
    }

    /// The issue with this number in the project with this slug.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn by_short_number(pool: &Pool, slug: &str, number: u64) -> Result<Option<IssueId>, DatabaseError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT issues.id FROM issues JOIN projects ON projects.id = issues.project_id
             WHERE projects.slug = $1 AND issues.short_number = $2",
        )
        .bind(slug)
        .bind(i64::try_from(number).unwrap_or(i64::MAX))
        .fetch_optional(pool)
        .await?;
        Ok(found.map(IssueId))
    }

    /// Ids of issues whose title or culprit contains a text, newest first, 10 000 at most.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn find(pool: &Pool, text: &str) -> Result<Vec<IssueId>, DatabaseError> {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM issues WHERE lower(title) LIKE lower($1) ESCAPE '\\' OR lower(culprit) LIKE lower($1) ESCAPE '\\'
             ORDER BY id DESC LIMIT $2",
        )
        .bind(format!("%{escaped}%"))
        .bind(MAX_FOUND)
        .fetch_all(pool)
        .await?;
        Ok(found.into_iter().map(IssueId).collect())
    }
}

/// The issue one of the claim's hashes leads to in the database by now, else a new one.
async fn stored_or_new(connection: &mut Connection, claim: &Claim) -> Result<IssueId, sqlx::Error> {
    for hash in &claim.hashes {
        let found: Option<i64> =
            sqlx::query_scalar("SELECT issue_id FROM issue_hashes WHERE project_id = $1 AND hash = $2")
                .bind(sql_id(claim.project_id))
                .bind(hash.to_string())
                .fetch_optional(&mut *connection)
                .await?;
        if let Some(issue) = found {
            return Ok(IssueId(issue));
        }
    }
    create(connection, claim).await
}

async fn create(connection: &mut Connection, claim: &Claim) -> Result<IssueId, sqlx::Error> {
    let id = Database::next(&mut *connection, "issue").await?;
    let project = sql_id(claim.project_id);
    let short_number: i64 = sqlx::query_scalar(
        "UPDATE projects SET next_short_number = next_short_number + 1 WHERE id = $1 RETURNING next_short_number - 1",
    )
    .bind(project)
    .fetch_one(&mut *connection)
    .await?;
    let face = &claim.face;
    sqlx::query(
        "INSERT INTO issues (id, project_id, short_number, kind, title, culprit, level, platform, metadata, status, substatus, first_seen)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'unresolved', 'new', $10)",
    )
    .bind(id)
    .bind(project)
    .bind(short_number)
    .bind(face.kind)
    .bind(&face.title)
    .bind(&face.culprit)
    .bind(&face.level)
    .bind(&face.platform)
    .bind(serde_json::to_string(&face.metadata).unwrap_or_default())
    .bind(face.first_seen.as_i64())
    .execute(connection)
    .await?;
    Ok(IssueId(id))
}

/// Leads a hash to an issue and returns where it leads, which is another issue if someone was faster.
async fn link(
    connection: &mut Connection,
    project: ProjectId,
    hash: GroupingHash,
    issue: IssueId,
) -> Result<IssueId, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO issue_hashes (project_id, hash, issue_id) VALUES ($1, $2, $3)
         ON CONFLICT (project_id, hash) DO UPDATE SET issue_id = issue_hashes.issue_id RETURNING issue_id",
    )
    .bind(sql_id(project))
    .bind(hash.to_string())
    .bind(issue.0)
    .fetch_one(connection)
    .await
    .map(IssueId)
}

fn read_row(row: &DatabaseRow) -> Result<IssueRow, sqlx::Error> {
    let project: i64 = row.try_get(1)?;
    let short_number: i64 = row.try_get(2)?;
    let metadata: String = row.try_get(8)?;
    Ok(IssueRow {
        id: IssueId(row.try_get(0)?),
        project_id: ProjectId::new(project.unsigned_abs()),
        short_number: short_number.unsigned_abs(),
        kind: row.try_get(3)?,
        title: row.try_get(4)?,
        culprit: row.try_get(5)?,
        level: row.try_get(6)?,
        platform: row.try_get(7)?,
        // Of a later version, perhaps: what can't be read is left out of the title's parts.
        metadata: serde_json::from_str(&metadata).unwrap_or_default(),
        status: row.try_get(9)?,
        substatus: row.try_get(10)?,
    })
}

/// Project numbers come from a signed counter, so they fit.
fn sql_id(project: ProjectId) -> i64 {
    i64::try_from(project.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
