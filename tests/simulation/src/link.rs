//! What travels between a relay and the aggregator, and the connections it travels by.

use picket_aggregator::journal::SessionEpoch;
use picket_common::ids::{Sequence, SpoolId};
use picket_common::wire::BatchReply;
use picket_common::wire::control::Window;
use picket_common::wire::lineage::{Lineage, SessionId};

use crate::spool::SentBatch;

/// Names a connection.
pub type ConnectionId = u64;
/// Names a batch's stream within its connection.
pub type StreamId = u64;

/// From a relay.
#[derive(Debug, Clone)]
pub enum Up {
    /// The first message.
    Hello {
        /// The spool.
        spool_id: SpoolId,
        /// Its past.
        lineage: Lineage,
        /// Ids it had before.
        former: Vec<SpoolId>,
    },
    /// The session is written down.
    Confirm(SessionId),
    /// A batch on a stream of its own.
    Batch(StreamId, SentBatch),
}

/// From the aggregator.
#[derive(Debug, Clone)]
pub enum Down {
    /// Answer to the hello.
    Welcome {
        /// How much may be in flight.
        window: Window,
        /// All up to here is stored.
        up_to: Sequence,
        /// The highest of all that is.
        highest: Sequence,
        /// Of each former id.
        former: Vec<Sequence>,
        /// To be written down and confirmed.
        session: SessionId,
    },
    /// Another directory went on from the same session.
    Forked {
        /// What both share.
        at: Sequence,
    },
    /// Answer to a batch.
    Reply(StreamId, BatchReply),
    /// The stream broke before an answer came.
    Broken(StreamId),
    /// The connection is closed.
    Closed,
}

/// What a step sends. It is on its way as soon as it is in here, even if the power is cut in the same step.
pub type Outbox<M> = Vec<(ConnectionId, M)>;

/// How the aggregator stands with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was said yet.
    New,
    /// Welcomed, to be confirmed.
    Offered {
        /// The spool.
        spool_id: SpoolId,
        /// Ids it had before.
        former: Vec<SpoolId>,
        /// The session.
        session: SessionId,
    },
    /// Takes batches.
    Live {
        /// The spool.
        spool_id: SpoolId,
        /// Ids it had before.
        former: Vec<SpoolId>,
        /// Which of the spool's sessions it is.
        epoch: SessionEpoch,
    },
    /// Takes nothing any more.
    Closed,
}

/// A connection: who is at its ends, each in one of its lives.
#[derive(Debug)]
pub struct Connection {
    /// The relay and its life.
    pub relay: (usize, u64),
    /// The aggregator and its life.
    pub aggregator: (usize, u64),
    /// Nothing passes any more that was not on its way, and of that not all.
    pub is_broken: bool,
    /// As the aggregator sees it.
    pub standing: Standing,
}
