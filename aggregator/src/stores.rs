//! The stores of a data directory, opened together: by `serve`, and by commands when nothing serves.

use picket_common::timestamp::Timestamp;

use crate::accounts::{AccountError, Accounts};
use crate::config::AggregatorConfig;
use crate::data_dir::{DataDirError, LockedDataDir};
use crate::database::{Database, DatabaseError, DatabaseLocation};
use crate::events::{EventsError, EventsStore};
use crate::fleet::{AuthorityError, Fleet, FleetError, open_authorities};
use crate::journal::JournalError;
use crate::projects::{ProjectError, Projects};
use crate::query::QueryError;

/// Why the stores can't be opened or used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is the error of the store it is named after")]
pub enum StoreError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Projects(#[from] ProjectError),
    #[error(transparent)]
    Accounts(#[from] AccountError),
    #[error(transparent)]
    Events(#[from] EventsError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// What is in SQL and in files: who and what an installation is.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The database.
    pub database: Database,
    /// Projects and keys.
    pub projects: Projects,
    /// Users and tokens.
    pub accounts: Accounts,
    /// Relays.
    pub fleet: Fleet,
}

impl Registry {
    /// Opens the database and the authority, and makes them where they are missing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(
        directory: &LockedDataDir,
        config: &AggregatorConfig,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let location = DatabaseLocation::parse(&config.database.url, &directory.database());
        let location = location.map_err(DatabaseError::Location)?;
        let database = Database::connect(&location).await?;
        let authorities = open_authorities(&database, &directory.authority(), now).await?;
        let projects = Projects::open(&database, &config.relay_url).await?;
        let accounts = Accounts::new(&database);
        let fleet = Fleet::new(&database, authorities);
        Ok(Self { database, projects, accounts, fleet })
    }
}

/// Opens the events store of a data directory.
///
/// # Errors
/// [`StoreError::Events`].
pub async fn open_events(directory: &LockedDataDir, config: &AggregatorConfig) -> Result<EventsStore, StoreError> {
    Ok(EventsStore::open(&config.clickhouse, &directory.clickhouse()).await?)
}
