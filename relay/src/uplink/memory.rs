//! What the uplink remembers across restarts, in `uplink.json` of the data directory: which transport got through, and the list of
//! aggregators that was pushed. Advice only: without the file, or with one that can't be read, the relay begins as after joining.
//!
//! Invariant: written beside its place, synced and renamed; and counts only for the identity that it was written under, because
//! a relay that joins elsewhere must not go on to the old aggregators.

use std::path::PathBuf;

use picket_common::ids::RelayId;
use picket_common::transport::TransportKind;
use serde::{Deserialize, Serialize};

use crate::identity_store::{RelayDescription, write_whole};

/// Name of the file.
const FILE: &str = "uplink.json";
/// Most addresses that a list may have, and bytes that each may.
const MAX_AGGREGATORS: usize = 64;
const MAX_ADDRESS_BYTES: usize = 300;

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// Whose memory it is.
    relay_id: RelayId,
    /// What got through last.
    pub(super) transport: TransportKind,
    /// The list that an aggregator pushed; empty before the first.
    #[serde(default)]
    pub(super) aggregators: Vec<String>,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct MemoryFile {
    directory: PathBuf,
}

// === impl MemoryFile ===

impl MemoryFile {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What was remembered for this relay.
    pub(super) fn load(&self, relay: &RelayDescription) -> Remembered {
        let fresh = Remembered { relay_id: relay.relay_id, transport: TransportKind::Quic, aggregators: Vec::new() };
        let path = self.directory.join(FILE);
        let read = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice::<Remembered>(&text).map_err(std::io::Error::from),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return fresh,
            Err(error) => Err(error),
        };
        match read {
            Ok(remembered) if remembered.relay_id == relay.relay_id => remembered,
            Ok(_) => fresh,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what the uplink remembered can't be read, beginning anew");
                fresh
            }
        }
    }

    /// Writes it; on disk when it returns.
    pub(super) fn store(&self, remembered: &Remembered) -> std::io::Result<()> {
        write_whole(&self.directory, FILE, &serde_json::to_vec_pretty(remembered)?, 0o644)
    }
}

/// A pushed list as far as it can be used.
pub(super) fn usable(addresses: Vec<String>) -> Vec<String> {
    let is_address = |address: &String| address.len() <= MAX_ADDRESS_BYTES && address.contains(':');
    let mut usable: Vec<_> = addresses.into_iter().filter(is_address).take(MAX_AGGREGATORS).collect();
    let mut seen = std::collections::HashSet::new();
    usable.retain(|address| seen.insert(address.clone()));
    usable
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn relay(number: u8) -> RelayDescription {
        RelayDescription { relay_id: RelayId::from_random([number; 16]), name: String::new(), aggregators: Vec::new() }
    }

    #[test]
    fn what_was_stored_is_remembered_for_the_same_relay_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = MemoryFile::new(directory.path().to_owned());
        let fresh = file.load(&relay(1));
        assert_eq!(fresh.transport, TransportKind::Quic);
        let learned = Remembered { transport: TransportKind::Tcp, aggregators: vec!["a:1".to_owned()], ..fresh };
        file.store(&learned).unwrap();
        assert_eq!(file.load(&relay(1)), learned);
        assert_eq!(file.load(&relay(2)).aggregators, Vec::<String>::new());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "{\"relay").unwrap();
        let remembered = MemoryFile::new(directory.path().to_owned()).load(&relay(1));
        assert_eq!(remembered.transport, TransportKind::Quic);
    }

    #[test]
    fn a_list_keeps_its_order_without_nonsense_and_repetition() {
        let pushed = ["b:1", "nonsense", "a:1", "b:1"].map(str::to_owned).to_vec();
        assert_eq!(usable(pushed), ["b:1", "a:1"]);
        assert_eq!(usable((0..1000).map(|port| format!("a:{port}")).collect()).len(), MAX_AGGREGATORS);
    }
}
