//! The events store: ClickHouse, embedded or remote, always through the `clickhouse` crate.
//!
//! What lives here: the schema and its migrations, the rows, inserts with a deduplication token, and the connection. What
//! does not: what a row means ([`crate::process`] makes them) and what pages ask ([`crate::query`]).

pub mod config;
pub mod embedded;
pub mod in_doubt;
pub mod insert;
mod migration;
mod refusal;
pub mod row;
pub mod tables;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clickhouse::Client;
use uuid::Uuid;

use config::{ClickHouseConfig, EMBEDDED};
use embedded::{Engine, EngineError, EngineOptions};

/// Why the events store failed.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The embedded engine does not open.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The server does not answer or refuses us.
    #[error("can't use ClickHouse at {url}: {source}; check clickhouse.url, clickhouse.user and clickhouse.password")]
    Connect {
        /// The configured address.
        url: String,
        /// What happened.
        source: clickhouse::error::Error,
    },
    /// A migration failed; it is repeated at the next start.
    #[error("bringing the ClickHouse schema up to date failed at migration {number}: {source}")]
    Migration {
        /// Which; 0 for the list of migrations itself.
        number: u32,
        /// What happened.
        source: clickhouse::error::Error,
    },
    /// The data was written by a newer version.
    #[error("the ClickHouse schema is at migration {found}, this version knows {known}: run the newer version")]
    NewerSchema {
        /// The migration that was found.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// An insert failed; it can be repeated.
    #[error("inserting into {table} failed: {source}")]
    Insert {
        /// The table.
        table: String,
        /// What happened.
        source: clickhouse::error::Error,
    },
    /// ClickHouse did not answer in time; whether it did what was asked is not known.
    #[error("ClickHouse did not answer within {0:?}; is the server at clickhouse.url alive and reachable?")]
    Timeout(Duration),
    /// Counts were made anew and disagree with the events again.
    #[error("the counts of {hours} hours disagree with the events after counting anew")]
    Recount {
        /// How many.
        hours: usize,
    },
    /// An insert was answered and its rows are not there: its token was left over from one that was interrupted. The next try takes
    /// another.
    #[error(
        "{rows} rows of {table} are not there although their insert was answered; trying again under another token"
    )]
    StillMissing {
        /// The table.
        table: &'static str,
        /// How many.
        rows: usize,
    },
    /// A query failed.
    #[error("asking ClickHouse failed: {0}")]
    Query(#[from] clickhouse::error::Error),
}

/// Rows that ClickHouse refuses because of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedRows {
    /// Of events or their payloads.
    Events,
    /// Of the books.
    Outcomes,
}

impl EventsError {
    fn insert(table: &str) -> impl Fn(clickhouse::error::Error) -> Self {
        move |source| Self::Insert { table: table.to_owned(), source }
    }

    /// Whose rows are at fault, so that the same block will be refused for ever; `None` if none are. Everything else may pass:
    /// connections, time, memory, disk, too many parts, a schema that is being changed.
    #[must_use]
    pub fn refused_rows(&self) -> Option<RefusedRows> {
        match self {
            Self::Insert { table, source: clickhouse::error::Error::BadResponse(said) }
                if refusal::is_of_data(said) =>
            {
                Some(if table == "outcomes" { RefusedRows::Outcomes } else { RefusedRows::Events })
            }
            _ => None,
        }
    }
}

/// An open events store with the current schema.
#[derive(Debug)]
pub struct EventsStore {
    client: Client,
    engine: Option<Engine>,
    /// Tells this process's second tokens from those of others; see `in_doubt`.
    instance: Uuid,
    second_tokens: AtomicU64,
    /// The plan whose second token was not answered yet.
    second_token_in_doubt: Mutex<Option<Uuid>>,
    insert_timeout: Duration,
}

impl EventsStore {
    /// Opens the embedded engine in `data_path`, or connects to the configured server, and migrates.
    ///
    /// # Errors
    /// [`EventsError`], see its variants.
    pub async fn open(config: &ClickHouseConfig, data_path: &Path) -> Result<Self, EventsError> {
        let (client, engine) = if config.url == EMBEDDED {
            let engine = open_engine(config, data_path).await?;
            (engine.client(), Some(engine))
        } else {
            (remote_client(config), None)
        };
        let connect = |source| EventsError::Connect { url: config.url.clone(), source };
        let database = &config.database;
        let create = client.query(&format!("CREATE DATABASE IF NOT EXISTS {database}"));
        within(CONNECT_TIMEOUT, async { create.execute().await.map_err(connect) }).await?;
        let client = client
            .with_database(database)
            // On by default and not deduplicated: an insert must be in the table when it is answered.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        within(MIGRATION_TIMEOUT, migration::run(&client)).await?;
        let insert_timeout = config.insert_timeout.get();
        Ok(Self {
            client,
            engine,
            instance: Uuid::new_v4(),
            second_tokens: AtomicU64::new(0),
            second_token_in_doubt: Mutex::new(None),
            insert_timeout,
        })
    }

    /// A client for queries.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The embedded engine, if it is that.
    #[must_use]
    pub const fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// Closes the embedded engine; waits for its queries, within the engine's bounds.
    ///
    /// # Errors
    /// [`EventsError::Engine`] where queries did not end; the data is safe then too.
    pub async fn close(self) -> Result<(), EventsError> {
        match self.engine {
            Some(engine) => Ok(engine.close(CLOSE_PATIENCE).await?),
            None => Ok(()),
        }
    }
}

/// How long a server may take to answer the first query.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long bringing the schema up to date may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// Gives work with ClickHouse a limited time: a server that is reachable and silent must not hold anything up for ever.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, EventsError>>,
) -> Result<T, EventsError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(EventsError::Timeout(limit)))
}

/// How long running queries may take when the engine closes, before they are cancelled.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

async fn open_engine(config: &ClickHouseConfig, data_path: &Path) -> Result<Engine, EventsError> {
    let configured = (!config.library.as_os_str().is_empty()).then_some(config.library.as_path());
    let library = embedded::library::find(configured)?;
    Ok(Engine::open(&library, data_path, EngineOptions::default()).await?)
}

fn remote_client(config: &ClickHouseConfig) -> Client {
    let client = Client::default().with_url(&config.url).with_user(&config.user);
    if config.password.is_empty() { client } else { client.with_password(&config.password) }
}
