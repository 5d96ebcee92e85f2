//! An installation whose rows can be looked at while it runs: its events and outcomes are in a ClickHouse server beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use picket_common::ids::EventId;
use serde_json::Value;
use tempfile::TempDir;

use crate::clickhouse_server::{ClickHouseServer, USER};
use crate::installation::{Installation, Project};
use crate::relay::Relay;
use crate::wait::{eventually, holds};

const PASSWORD: &str = "for these tests";
const DATABASE: &str = "observed";

/// How long outcomes may take from the relay to their rows: reported every second, inserted every five.
pub const OUTCOME_PATIENCE: Duration = Duration::from_secs(30);

/// A project's outcomes: quantity by category, outcome and reason.
pub type Outcomes = BTreeMap<(String, String, String), u64>;

/// The installation, with a project and a relay.
#[derive(Debug)]
pub struct Observed {
    // Fields are dropped in this order: who uses something goes before what it uses.
    /// The relay.
    pub relay: Relay,
    /// The project.
    pub project: Project,
    /// The rest of the installation.
    pub installation: Installation,
    server: ClickHouseServer,
    _directory: TempDir,
}

impl Observed {
    /// Starts everything.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts everything, with these lines at the end of the relay's configuration.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    #[track_caller]
    pub fn start_with(relay_configuration: &str) -> Self {
        let directory = TempDir::with_prefix("picket-test-clickhouse-").expect("a temporary directory");
        let server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
        let section = format!(
            "url = \"http://{}\"\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ndatabase = \"{DATABASE}\"",
            server.address
        );
        let mut installation = Installation::prepare(&section);
        installation.aggregator.init();
        installation.aggregator.start();
        let project = installation.create_project("Shop");
        let mut relay = installation.join_relay("relay", installation.directory().join("relay"));
        relay.configure(relay_configuration);
        relay.start();
        Self { relay, project, installation, server, _directory: directory }
    }

    /// An event as it is stored, with its `_meta`; `None` while it is not.
    ///
    /// # Panics
    /// If it is stored more than once, or not as JSON.
    #[must_use]
    #[track_caller]
    pub fn event(&self, id: EventId) -> Option<Value> {
        let id = uuid::Uuid::parse_str(&id.to_string()).expect("an event id is a UUID");
        // As base64: the rows come as tab-separated text.
        let sql = format!("SELECT base64Encode(json) FROM {DATABASE}.event_payloads WHERE event_id = '{id}'");
        let rows = self.server.query(&sql);
        assert!(rows.len() <= 1, "{id} is stored {} times", rows.len());
        let json = BASE64_STANDARD.decode(&rows.first()?[0]).expect("base64");
        Some(serde_json::from_slice(&json).expect("a stored event is JSON"))
    }

    /// Runs a query at its ClickHouse server.
    #[must_use]
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        self.server.query(sql)
    }

    /// How many events are stored, and how many payloads. Each id is there once.
    ///
    /// # Panics
    /// If one is there more often, or the two tables have others.
    #[must_use]
    #[track_caller]
    pub fn stored(&self) -> (u64, u64) {
        let count = |table: &str| {
            let rows = self.server.query(&format!("SELECT count(), uniqExact(event_id) FROM {DATABASE}.{table}"));
            assert_eq!(rows[0][0], rows[0][1], "an event is more than once in {table}");
            rows[0][0].parse().expect("a count")
        };
        (count("events"), count("event_payloads"))
    }

    /// Waits until an event is stored, and returns it.
    #[track_caller]
    pub fn wait_for_event(&self, id: EventId, within: Duration) -> Value {
        eventually(&format!("event {id} is stored"), within, || self.event(id).ok_or_else(|| "it is not".to_owned()))
    }

    /// The project's outcomes up to now.
    #[must_use]
    #[track_caller]
    pub fn outcomes(&self) -> Outcomes {
        let project = self.project.dsn.project_id();
        let sql = format!(
            "SELECT category, outcome, reason, sum(quantity) FROM {DATABASE}.outcomes WHERE project_id = {project} \
             GROUP BY category, outcome, reason"
        );
        let row = |row: Vec<String>| {
            let [category, outcome, reason, quantity] = <[String; 4]>::try_from(row).expect("four columns");
            ((category, outcome, reason), quantity.parse().expect("a quantity"))
        };
        self.server.query(&sql).into_iter().map(row).collect()
    }

    /// Waits until the quantities of the wanted categories and outcomes, over all reasons, are as wanted; nothing is said of
    /// other categories. Returns all outcomes.
    #[track_caller]
    pub fn wait_for_outcomes(&self, wanted: &[(&str, &str, u64)]) -> Outcomes {
        eventually("the outcomes are as wanted", OUTCOME_PATIENCE, || {
            let outcomes = self.outcomes();
            for (category, outcome, quantity) in wanted {
                let seen = sum(&outcomes, category, outcome);
                holds(seen == *quantity, format!("{category} {outcome}: {seen}, not {quantity}; all: {outcomes:?}"))?;
            }
            Ok(outcomes)
        })
    }
}

/// The quantity of a category that ended in an outcome, over all reasons.
#[must_use]
pub fn sum(outcomes: &Outcomes, category: &str, outcome: &str) -> u64 {
    let of = |key: &(String, String, String)| key.0 == category && key.1 == outcome;
    outcomes.iter().filter(|(key, _)| of(key)).map(|(_, quantity)| quantity).sum()
}
