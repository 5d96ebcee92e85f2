//! The decision to close a connection, carried from where it is made to where it is done.

use picket_common::transport::Connection;
use picket_common::wire::CloseCode;

/// A decision to close a connection.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Close {
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

// === impl Close ===

impl Close {
    pub(super) fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Closes the connection with this code and reason.
    pub(super) fn apply(&self, connection: &Connection) {
        connection.close(self.code, &self.reason);
    }
}
