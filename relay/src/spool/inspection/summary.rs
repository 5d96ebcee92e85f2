//! How full a spool is that no relay has open.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::config::SpoolConfig;
use super::super::disk_guard::free_bytes;
use super::super::error::SpoolError;
use super::super::quarantine::Totals;
use super::super::status::{LaneUsage, SpoolStatus};
use super::{ALL, Inspection};

impl Inspection {
    /// What a running relay would say of it.
    ///
    /// # Errors
    /// [`SpoolError`] if the files can't be read.
    pub fn status(&self, config: &SpoolConfig) -> Result<SpoolStatus, SpoolError> {
        let free_disk_bytes = free_bytes(&self.directory);
        let quarantine = Totals::load(&self.store)?;
        let mut status = SpoolStatus {
            id: self.id,
            former_ids: self.former.clone(),
            format_version: self.format,
            batches: 0,
            records: 0,
            bytes: 0,
            budget_bytes: config.max_bytes.as_u64(),
            oldest_received_at: None,
            lanes: Vec::new(),
            quarantined_batches: quarantine.batches,
            quarantined_bytes: quarantine.bytes,
            free_disk_bytes,
            min_free_bytes: config.min_free_bytes.as_u64(),
            has_room: false,
        };
        let mut lanes = BTreeMap::new();
        let sealed = self.store.headers(ALL.0, ALL.1).map(|raw| raw.map(|raw| raw.parse().ok()));
        let growing = self.growing()?.into_iter().map(|stored| Ok(Some(stored)));
        for stored in sealed.chain(growing) {
            status.batches += 1;
            // What can't be read counts as a batch: `inspect` tells which it is.
            let Some(stored) = stored? else { continue };
            status.records += stored.records();
            status.bytes += stored.header.payload_bytes;
            *lanes.entry(stored.lane).or_insert(0) += 1;
            if !stored.header.is_tombstone {
                status.oldest_received_at.get_or_insert(stored.oldest_received_at);
            }
        }
        status.lanes =
            lanes.into_iter().map(|(lane, batches)| LaneUsage { project: lane.project(), batches }).collect();
        status.has_room =
            status.bytes < status.budget_bytes && free_disk_bytes.is_none_or(|free| free >= status.min_free_bytes);
        Ok(status)
    }

    /// The directory that is looked at.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
