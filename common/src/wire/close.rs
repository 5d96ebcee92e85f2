//! Why an aggregator closes a connection: the code tells programs, the reason beside it tells people.

/// The application error code of a closed connection. Numbers are part of the protocol: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// All is well: the aggregator stops, or a joining relay has its answer. Connect again later.
    Done = 0,
    /// The peer broke the protocol.
    Protocol = 1,
    /// No certificate was shown, or it names no relay.
    NoIdentity = 2,
    /// The relay is not registered or was revoked; connecting again is no use until it has joined anew.
    NotAllowed = 3,
    /// The spool belongs to another relay; an operator must look.
    SpoolOwned = 4,
    /// A newer connection of the same relay for the same spool took over.
    Superseded = 5,
    /// Too much at once; connect again later.
    Overloaded = 6,
    /// The aggregator could not check or store something; connect again later.
    Internal = 7,
    /// The spool was copied or turned back; the relay was told where it forks and connects again under a new spool id.
    Forked = 8,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self as u32
    }
}
