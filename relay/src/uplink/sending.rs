//! What the uplink decides about batches, without doing any of it: what may be sent, and what an answer means for the spool.
//!
//! Invariants:
//! - a batch may be deleted only after an answer that it is stored, in the very bounds in which it was sealed;
//! - a batch without such an answer is sent again: in this session after a wait, or in the next from the spool;
//! - what the aggregator says it has counts only up to what was ever sent: beyond that it speaks of other records.
//!
//! No task, no clock and no disk: `session.rs` does what is decided here, and so does `tests/simulation`.

use std::time::Duration;

use picket_common::ids::{Sequence, SpoolId};
use picket_common::wire::control::Window;
use picket_common::wire::lineage::SessionId;
use picket_common::wire::{BatchReply, NackReason};
use tokio::time::Instant;

use super::in_flight::{InFlight, Postponed};
use crate::spool::{ForkPoint, ReadLimit, SetAsideReason};

/// The batches of one session.
#[derive(Debug)]
pub struct Sending {
    in_flight: InFlight,
}

/// A batch that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its first sequence.
    pub first: Sequence,
    /// Its last.
    pub last: Sequence,
    /// Its payload.
    pub bytes: u64,
    /// How often it was put off before.
    pub attempt: u32,
}

/// What was heard of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The answer.
    Reply(BatchReply),
    /// Its stream broke.
    Nothing,
    /// Nothing for so long that the aggregator must be taken for dead.
    Silence(Duration),
}

/// What is to be done with a batch that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The aggregator has it: it is to be deleted.
    Delete {
        /// It had it before.
        duplicate: bool,
    },
    /// It stays and is sent again; that is noted already.
    PutOff {
        /// Why; none where there was no answer.
        detail: Option<String>,
    },
    /// It is to be set aside. A tombstone takes its place and is sent as if the batch had been put off, but where sequences
    /// overlap.
    SetAside {
        /// Why.
        reason: SetAsideReason,
        /// For the log.
        detail: String,
    },
    /// The session is over: other sequences were acknowledged than were sent.
    WrongBounds {
        /// Acknowledged.
        first: Sequence,
        /// Acknowledged.
        last: Sequence,
    },
    /// The session is over: the aggregator is silent.
    Silence(Duration),
}

// === impl Sending ===

impl Sending {
    /// Nothing is sent yet. `own` is the relay's bound, `window` the aggregator's.
    #[must_use]
    pub const fn new(own: Window, window: Window) -> Self {
        Self { in_flight: InFlight::new(own, window) }
    }

    /// The aggregator's window changed. What is in flight beyond it stays so.
    pub const fn set_window(&mut self, window: Window) {
        self.in_flight.set_window(window);
    }

    /// How many batches and bytes are in flight.
    #[must_use]
    pub const fn in_flight(&self) -> (u32, u64) {
        (self.in_flight.batches(), self.in_flight.bytes())
    }

    /// Whether anything may be sent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight.room().is_some()
    }

    /// When the next batch that was put off is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.in_flight.next_due()
    }

    /// The next batch that is to be sent again now, by its first sequence, and how often it was put off.
    pub fn again(&mut self, now: Instant) -> Option<(Sequence, u32)> {
        self.in_flight.room()?;
        self.in_flight.take_due(now).map(|Postponed { first, attempt, .. }| (first, attempt))
    }

    /// How much may be read and sent that was not sent in this session yet.
    #[must_use]
    pub fn room_for_new(&self) -> Option<ReadLimit> {
        if self.in_flight.takes_new() { self.in_flight.room() } else { None }
    }

    /// A batch is on its way.
    pub const fn sent(&mut self, bytes: u64) {
        self.in_flight.sent(bytes);
    }

    /// Judges what was heard of a batch. `random` is for the wait of one that is put off.
    pub fn settle(&mut self, sent: &Sent, heard: Heard, now: Instant, random: u64) -> Settled {
        self.in_flight.answered(sent.bytes);
        let mut put_off = || self.in_flight.postpone(sent.first, sent.attempt, now, random);
        match heard {
            Heard::Reply(BatchReply::Ack { first, last, .. }) if (first, last) != (sent.first, sent.last) => {
                Settled::WrongBounds { first, last }
            }
            Heard::Reply(BatchReply::Ack { duplicate, .. }) => Settled::Delete { duplicate },
            Heard::Reply(BatchReply::Nack { reason: NackReason::Retry | NackReason::Unknown, detail }) => {
                put_off();
                Settled::PutOff { detail: Some(detail) }
            }
            Heard::Reply(BatchReply::Nack { reason: NackReason::Corrupt, detail }) => {
                put_off();
                Settled::SetAside { reason: SetAsideReason::RefusedCorrupt, detail }
            }
            Heard::Reply(BatchReply::Nack { reason: NackReason::Overlap, detail }) => {
                Settled::SetAside { reason: SetAsideReason::RefusedOverlap, detail }
            }
            Heard::Nothing => {
                put_off();
                Settled::PutOff { detail: None }
            }
            Heard::Silence(patience) => Settled::Silence(patience),
        }
    }
}

/// What the aggregator has of this spool, and the session that it offers.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Everything up to here.
    pub up_to: Sequence,
    /// The highest of all.
    pub highest: Sequence,
    /// Of each former id everything up to here.
    pub former: Vec<(SpoolId, Sequence)>,
    /// None from an aggregator that knows nothing of sessions.
    pub session: Option<SessionId>,
}

/// What the spool may forget after a welcome, and whether the session may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// Of each former id everything up to here.
    pub former: Vec<(SpoolId, Sequence)>,
    /// Of the present id everything up to here.
    pub up_to: Sequence,
    /// What to write down before anything is sent.
    pub session: Result<Option<SessionId>, Mismatch>,
}

/// The spool can't go on under its id: it holds other records under the same sequences than the aggregator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The aggregator knows another line of the directory's history, parted after `at`.
    Forked {
        /// The last sequence that both surely share.
        at: Sequence,
    },
    /// The end of the spool's log was lost: the aggregator has more than this spool ever sent.
    TurnedBack {
        /// What the aggregator has.
        stored_up_to: Sequence,
        /// What was sent, at most.
        known: Sequence,
    },
    /// The aggregator knows the spool as another relay's.
    Owned,
}

impl Mismatch {
    /// What begins after this takes a new id.
    #[must_use]
    pub const fn fork_point(self) -> ForkPoint {
        match self {
            Self::Forked { at } => ForkPoint::After(at),
            Self::TurnedBack { known, .. } => ForkPoint::After(known),
            Self::Owned => ForkPoint::Everything,
        }
    }
}

/// Judges what the aggregator says it has. `known` is the highest sequence that can have been given to an aggregator under the
/// present id.
#[must_use]
pub fn reconcile(stored: Stored, known: Sequence) -> Reconciled {
    let Stored { up_to, highest, former, session } = stored;
    let session =
        if highest > known { Err(Mismatch::TurnedBack { stored_up_to: highest, known }) } else { Ok(session) };
    Reconciled { former, up_to: up_to.min(known), session }
}
