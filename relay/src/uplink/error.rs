//! Why a session with an aggregator ended before its time.

use picket_common::transport::{Connection, ConnectionLost};
use picket_common::wire::FrameError;

use picket_common::wire::CloseCode;

use super::dial::DialError;
use super::sending::Mismatch;
use crate::spool::SpoolError;

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the aggregator took or said nothing for {seconds} s while the relay waited to {waiting_to}")]
    Timeout { waiting_to: &'static str, seconds: u64 },
    #[error("the aggregator said what the protocol does not allow: {0}")]
    Protocol(String),
    #[error("the control stream broke: {0}")]
    Control(#[from] FrameError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("a blocking task ended early: {0}")]
    Blocking(#[from] tokio::task::JoinError),
    #[error("{}", told(.0))]
    Mismatch(Mismatch),
}

impl LinkError {
    /// What ended the connection if something did, else the error as it was met.
    pub(super) fn or_cause(self, connection: &Connection) -> Self {
        if matches!(self, Self::Mismatch(Mismatch::Forked { .. })) {
            return self;
        }
        match connection.close_reason() {
            Some(ConnectionLost::Local) | None => self,
            Some(ConnectionLost::Closed { code, .. }) if code == CloseCode::SpoolOwned.as_u32() => {
                Self::Mismatch(Mismatch::Owned)
            }
            Some(cause) => Self::Dial(cause.into()),
        }
    }

    /// Whether the aggregator does not want this relay, so that trying again soon is no use.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Dial(DialError::Refused(_) | DialError::RefusedForTime))
    }
}

impl From<Mismatch> for LinkError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(mismatch)
    }
}

fn told(mismatch: &Mismatch) -> String {
    match mismatch {
        Mismatch::Forked { at } => format!("another relay went on with a copy of this spool after sequence {at}"),
        Mismatch::TurnedBack { stored_up_to, known } => {
            format!("the aggregator has this spool up to {stored_up_to}, but it was sealed only up to {known}")
        }
        Mismatch::Owned => "the aggregator knows this spool as another relay's".to_owned(),
    }
}
