//! Messages of the control stream.

use serde::{Deserialize, Serialize};

use crate::identity::Fingerprint;
use crate::ids::{Sequence, SpoolId};
use crate::project_config::ConfigSnapshot;
use crate::quota::window::{WindowShare, WindowUse};
use crate::timestamp::Timestamp;
use crate::wire::lineage::{Lineage, SessionId};

/// Most former ids of a spool. A relay that was forked more often, before it could send what it held, gives the oldest up: what they
/// cover is sent under the id after them.
pub const MAX_FORMER_SPOOLS: usize = 8;
/// Most windows in one message about quotas. Each takes about 200 bytes, so a frame stays far below its bound.
pub const MAX_QUOTA_WINDOWS: usize = 1000;

/// Most authorities of an installation; a rotation needs two.
pub const MAX_AUTHORITIES: usize = 4;

/// What a relay says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromRelay {
    /// First message of a connection.
    Hello {
        /// [`super::PROTOCOL_VERSION`] of the relay.
        protocol: u32,
        /// Version of the relay's binary.
        version: String,
        /// The spool whose batches will follow.
        spool_id: SpoolId,
        /// Revision of the configuration the relay has; 0 if none.
        config_revision: u64,
        /// What tells the spool from a copy of it; none from a relay that does not know of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lineage: Option<Lineage>,
        /// Ids under which the spool still holds records from before it was forked; at most [`MAX_FORMER_SPOOLS`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        former_spools: Vec<SpoolId>,
    },
    /// The session of the welcome is written down. Sent before the first batch, where the welcome offers one.
    Confirm {
        /// That session.
        session: SessionId,
    },
    /// How the relay fares, every few seconds.
    Statistics(RelayStatistics),
    /// What was admitted under quotas, of each window that changed since the last such message of the connection.
    QuotaUse {
        /// After this message the aggregator has heard of all open windows: the last part of the first report of a connection,
        /// and every message after it.
        is_complete: bool,
        /// At most [`MAX_QUOTA_WINDOWS`].
        windows: Vec<WindowUse>,
    },
    /// Which authorities the relay trusts: after the hello, and whenever that changes.
    Trusts {
        /// The fingerprints of their keys, at most [`MAX_AUTHORITIES`].
        authorities: Vec<Fingerprint>,
    },
    /// The relay's certificate is past two thirds of its life: asks for one for a new key, which never leaves the relay. The
    /// connection proves who asks.
    Renew {
        /// Certificate signing request in PEM.
        csr_pem: String,
    },
    /// A message of a newer version; ignored.
    #[serde(other)]
    Unknown,
}

/// What an aggregator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAggregator {
    /// Answer to the hello.
    Welcome {
        /// [`super::PROTOCOL_VERSION`] of the aggregator.
        protocol: u32,
        /// Version of the aggregator's binary.
        version: String,
        /// The aggregator's clock, so that a relay can warn of skew.
        server_time: Timestamp,
        /// How much may be in flight.
        window: Window,
        /// All records of the spool up to this sequence are stored: the relay may delete them unasked.
        stored_up_to: Sequence,
        /// The highest sequence of the spool that is stored; above `stored_up_to` where batches are missing in between. A relay
        /// that never sent so much has been turned back to an earlier state, or copied.
        #[serde(default)]
        highest_stored: Option<Sequence>,
        /// The session that the relay writes down and confirms; offered where it said its lineage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// Of each of its former ids, in the order of the hello: all records up to this sequence are stored.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        former_stored_up_to: Vec<Sequence>,
    },
    /// In place of a welcome: another directory went on under the spool's id since this one was last here. The relay takes a
    /// new id for what it sealed after `at`, and connects again.
    Forked {
        /// Records up to here keep their id.
        at: Sequence,
    },
    /// All projects; replaces what the relay had.
    ProjectConfigs(ConfigSnapshot),
    /// How much may be in flight from now on.
    Window(Window),
    /// How quotas are divided: before the first configuration of a connection, when the number of relays changes, and
    /// whenever a share does.
    QuotaShares {
        /// How many relays divide each limit; windows that begin from now on are divided by it.
        relays: u32,
        /// The shares that changed; at most [`MAX_QUOTA_WINDOWS`].
        windows: Vec<WindowShare>,
    },
    /// Answer to a request to renew. The relay uses the certificate from its next connection on.
    Renewed {
        /// The certificate, PEM.
        certificate_pem: String,
    },
    /// Whom the relay is to trust from now on; sent where that is not what it said. The first signs: a relay whose certificate is
    /// of another renews it.
    Authorities {
        /// Their certificates, PEM, one after the other; at most [`MAX_AUTHORITIES`].
        certificates_pem: String,
    },
    /// No certificate was signed; the relay keeps what it has and asks again later.
    RenewRefused {
        /// Why, for the log.
        detail: String,
    },
    /// All aggregators that the relay may connect to; replaces what it knew.
    Aggregators {
        /// `host:port` of each; the order says nothing.
        addresses: Vec<String>,
    },
    /// The aggregator will close the connection; the reason is for the log.
    Goodbye {
        /// Why.
        reason: String,
    },
    /// A message of a newer version; ignored.
    #[serde(other)]
    Unknown,
}

/// Back-pressure: how much a relay may have sent and not yet seen answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Batches in flight. At least one is always allowed, so that nothing stands still for good.
    pub batches: u32,
    /// Compressed bytes in flight.
    pub bytes: u64,
}

/// How a relay fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayStatistics {
    /// Records accepted and not yet acknowledged by an aggregator.
    pub spooled_records: u64,
    /// Their compressed bytes.
    pub spooled_bytes: u64,
    /// When the oldest of them was received.
    pub oldest_received_at: Option<Timestamp>,
    /// Requests answered 200 since the relay started.
    pub accepted_total: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_of_a_newer_version_are_ignored_not_refused() {
        let message: FromAggregator = serde_json::from_str(r#"{"type":"teleport","x":1}"#).unwrap();
        assert_eq!(message, FromAggregator::Unknown);
        let message: FromRelay = serde_json::from_str(r#"{"type":"sing"}"#).unwrap();
        assert_eq!(message, FromRelay::Unknown);
    }

    #[test]
    fn a_hello_with_more_keys_is_read() {
        let text = r#"{"type":"hello","protocol":1,"version":"9","spool_id":"6c1b2a0e-0000-4000-8000-000000000001","config_revision":0,"mood":"good"}"#;
        assert!(matches!(serde_json::from_str(text).unwrap(), FromRelay::Hello { protocol: 1, .. }));
    }
}
