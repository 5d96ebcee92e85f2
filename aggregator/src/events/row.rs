//! The rows that are inserted, field by field as in the schema.

use clickhouse::Row;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A row of `events`. Times are milliseconds since the epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Row, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the columns of the schema, which says what each is")]
pub struct EventRow {
    pub project_id: u64,
    pub issue_id: u64,
    pub timestamp: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub event_id: Uuid,
    pub received_at: i64,
    pub retention_days: u16,
    pub grouping_hash: [u8; 16],
    pub kind: String,
    pub level: String,
    pub platform: String,
    pub title: String,
    pub culprit: String,
    pub message: String,
    pub exception_type: String,
    pub exception_value: String,
    pub transaction: String,
    pub release: String,
    pub environment: String,
    pub dist: String,
    pub server_name: String,
    pub logger: String,
    pub sdk_name: String,
    pub sdk_version: String,
    pub http_method: String,
    pub http_url: String,
    pub user: String,
    pub tags: Vec<(String, String)>,
    #[serde(with = "clickhouse::serde::uuid")]
    pub spool_id: Uuid,
    pub sequence: u64,
}

/// A row of `event_payloads`, its JSON still where the batch was decompressed to.
#[derive(Debug, Clone, PartialEq, Eq, Row, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the columns of the schema, which says what each is")]
pub struct PayloadRow<'a> {
    pub project_id: u64,
    pub issue_id: u64,
    pub timestamp: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub event_id: Uuid,
    pub received_at: i64,
    pub retention_days: u16,
    pub json: &'a str,
}

/// A row of `outcomes`. The hour is in seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Row, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the columns of the schema, which says what each is")]
pub struct OutcomeRow {
    pub project_id: u64,
    pub hour: u32,
    pub category: String,
    pub outcome: String,
    pub reason: String,
    pub quantity: u64,
}

impl OutcomeRow {
    /// The outcome that marks a stamp.
    pub const STAMP: &str = "plan";

    /// A row that counts nothing and says that a plan's outcomes are there. Rows of `outcomes` are added up and so carry nothing
    /// else to find a plan's by; the schema lets stamps expire.
    #[must_use]
    pub fn stamp(plan: Uuid, hour: u32) -> Self {
        Self {
            project_id: 0,
            hour,
            category: String::new(),
            outcome: Self::STAMP.to_owned(),
            reason: plan.to_string(),
            quantity: 0,
        }
    }
}
