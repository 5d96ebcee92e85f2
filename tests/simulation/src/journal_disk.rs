//! The disk under an aggregator's journal: every write is all or nothing, and the power may be cut before and after each.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use picket_aggregator::journal::disk::{Change, Disk, DiskError, Family, Keys, Order, Visit, Walk};
use picket_common::ids::{Sequence, SpoolId};

use crate::power::Fuse;

type Entries = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

/// See the module. It outlives the processes that write to it.
#[derive(Debug, Default)]
pub struct JournalDisk {
    entries: Mutex<Entries>,
    fuse: Fuse,
}

// === impl JournalDisk ===

impl JournalDisk {
    /// An empty one on this power.
    #[must_use]
    pub fn new(fuse: Fuse) -> Self {
        Self { entries: Mutex::default(), fuse }
    }

    /// Whether it is on disk that all of these sequences are stored. The keys are those of `journal/stored_ranges.rs`.
    #[must_use]
    pub fn covers(&self, spool: SpoolId, first: Sequence, last: Sequence) -> bool {
        let key = |sequence: Sequence| {
            let mut key = vec![b'r'];
            key.extend_from_slice(spool.as_bytes());
            key.extend_from_slice(&sequence.get().to_be_bytes());
            (Family::Spools, key)
        };
        let entries = self.lock();
        let before = entries.range(key(Sequence::new(0))..=key(first)).next_back();
        before.is_some_and(|(_, end)| end.as_slice() >= last.get().to_be_bytes().as_slice())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next entry of a walk; after `after`, if there was one before.
    fn step(&self, family: Family, keys: Keys<'_>, order: Order, after: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let entries = self.lock();
        let first = Included((family, keys.first.to_vec()));
        let last = keys.last.map_or(Unbounded, |last| Included((family, last.to_vec())));
        let cut = after.map(|after| Excluded((family, after.to_vec())));
        let bounds = match order {
            Order::Ascending => (cut.unwrap_or(first), last),
            Order::Descending => (first, cut.unwrap_or(last)),
        };
        let mut found = entries.range(bounds).filter(|((of, _), _)| *of == family);
        let entry = if order == Order::Ascending { found.next() } else { found.next_back() };
        entry.map(|((_, key), value)| (key.clone(), value.clone()))
    }
}

impl Disk for JournalDisk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.lock().get(&(family, key.to_vec())).cloned())
    }

    fn get_all(&self, family: Family, keys: &[[u8; 24]]) -> Result<Vec<Option<Vec<u8>>>, DiskError> {
        keys.iter().map(|key| self.get(family, key)).collect()
    }

    fn walk(&self, family: Family, keys: Keys<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), DiskError> {
        let mut after: Option<Vec<u8>> = None;
        while let Some((key, value)) = self.step(family, keys, order, after.as_deref()) {
            if visit(&key, &value) == Walk::Enough {
                break;
            }
            after = Some(key);
        }
        Ok(())
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), DiskError> {
        self.fuse.burn();
        {
            let mut entries = self.lock();
            for change in changes {
                match change {
                    Change::Put(family, key, value) => drop(entries.insert((family, key), value)),
                    Change::Delete(family, key) => drop(entries.remove(&(family, key))),
                    Change::DeleteRange(family, from, to) => {
                        entries.retain(|(of, key), _| *of != family || *key < from || *key >= to);
                    }
                }
            }
        }
        self.fuse.burn();
        Ok(())
    }
}
