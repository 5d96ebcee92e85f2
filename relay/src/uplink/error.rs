//! Why a session with an aggregator ended before its time.

use picket_common::ids::Sequence;
use picket_common::transport::{Connection, ConnectionLost};
use picket_common::wire::FrameError;

use picket_common::wire::CloseCode;

use super::dial::DialError;
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
    #[error("another relay went on with a copy of this spool after sequence {at}")]
    Forked { at: Sequence },
    /// The spool's log was cut off, see [`super::session`].
    #[error("the aggregator has this spool up to {stored_up_to}, but it was sealed only up to {known}")]
    TurnedBack { stored_up_to: Sequence, known: Sequence },
    #[error("the aggregator knows this spool as another relay's")]
    SpoolOwned,
}

impl LinkError {
    /// What ended the connection if something did, else the error as it was met.
    pub(super) fn or_cause(self, connection: &Connection) -> Self {
        if matches!(self, Self::Forked { .. }) {
            return self;
        }
        match connection.close_reason() {
            Some(ConnectionLost::Local) | None => self,
            Some(ConnectionLost::Closed { code, .. }) if code == CloseCode::SpoolOwned.as_u32() => Self::SpoolOwned,
            Some(cause) => Self::Dial(cause.into()),
        }
    }

    /// Whether the aggregator does not want this relay, so that trying again soon is no use.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Dial(DialError::Refused(_) | DialError::RefusedForTime))
    }
}
