//! What the pages and the API are given to work with.

use std::fmt;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::projects::Projects;
use crate::query::Query;

/// Everything the web listener needs. Cheap to clone.
#[derive(Clone)]
pub struct WebState {
    /// Reads issues and events.
    pub query: Arc<Query>,
    /// Users, sessions and API tokens.
    pub accounts: Accounts,
    /// Projects and their keys.
    pub projects: Projects,
    /// Where browsers reach the pages, such as `https://errors.example.org`, with or without a slash at the end.
    pub public_url: String,
    /// The slug of the one organisation.
    pub organisation: String,
    /// Where applications reach a relay; DSNs name it.
    pub relay_url: String,
}

impl WebState {
    /// The whole address of a path of ours, which starts with a slash.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.public_url.trim_end_matches('/'))
    }
}

impl fmt::Debug for WebState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebState").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}
