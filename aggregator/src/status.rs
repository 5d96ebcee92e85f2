//! What `picket-aggregator status` shows.

use picket_common::config::reload::ConfigStatus;
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of an aggregator at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the binary that answers.
    pub version: String,
    /// Whether it serves; else a command looked into a stopped one's stores.
    pub is_serving: bool,
    /// Since when it serves.
    pub started_at: Option<Timestamp>,
    /// Number of projects.
    pub projects: u64,
    /// Relays that may connect.
    pub relays: u64,
    /// Relays connected now.
    pub relays_connected: u64,
    /// Batches in the journal that are not in ClickHouse yet.
    pub journal_batches: u64,
    /// Their bytes.
    pub journal_bytes: u64,
    /// When the configuration of what serves was read, and how the last reload went.
    #[serde(default)]
    pub config: Option<ConfigStatus>,
}
