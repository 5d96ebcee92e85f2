//! Looking at a spool from outside: what `picket-relay spool` tells. Blocking.
//!
//! Invariants:
//! - nothing is changed: no file of the spool is written, no lock taken, so it works beside a relay that runs;
//! - what is told of records is who, when, what and how large. Texts of events are never told, although they were scrubbed;
//! - memory is that of one batch, however many there are: what is found is handed over one by one.
//!
//! What is seen is the state at the opening, of a spool that may be in use. So whatever looks damaged is looked at once more in an
//! opening of its own: a batch that was acknowledged meanwhile is no damage (`verify`).
//!
//! What it does not do: repair. A relay that runs sets aside what is damaged when it comes to send it.

mod batches;
mod blobs;
mod holder;
mod records;
mod summary;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};

use picket_common::ids::{Sequence, SpoolId};

use super::error::SpoolError;
use super::frame::Contents;
use super::frames::sealed_header;
use super::lineage::{FormerId, former_ids_of};
use super::store::{
    OpenFrames, STATE_FORMAT, STATE_FRAMES, STATE_NEXT, STATE_SPOOL_ID, Store, StoredHeader, spool_id_from_state,
};

pub use batches::{BatchFacts, BatchState};
pub use holder::holder;
pub use records::{FoundRecord, ItemFacts, RecordFacts};
pub use verify::{Damage, Finding, Verdict};

/// A spool that is looked at.
pub struct Inspection {
    directory: PathBuf,
    store: Store,
    id: SpoolId,
    former: Vec<FormerId>,
    format: u32,
    next: Sequence,
    frames: OpenFrames,
}

/// Everything that can be a first sequence.
const ALL: (Sequence, Sequence) = (Sequence::new(0), Sequence::new(u64::MAX - 1));

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Inspection {
    /// Opens the spool in `directory` for looking, whether or not a relay has it open.
    ///
    /// # Errors
    /// [`SpoolError`]: there is none, or it is of another format, or so damaged that not even its state can be read.
    pub fn open(directory: &Path) -> Result<Self, SpoolError> {
        let store = Store::open_to_look(directory)?;
        let damaged =
            |problem: &str| SpoolError::Damaged { directory: directory.to_owned(), problem: problem.to_owned() };
        let format = store.state(STATE_FORMAT)?.ok_or_else(|| damaged("the format version is missing"))?;
        let format =
            String::from_utf8_lossy(&format).parse().map_err(|_| damaged("the format version is no number"))?;
        let id = store.state(STATE_SPOOL_ID)?.and_then(|value| spool_id_from_state(&value));
        let next = store.state(STATE_NEXT)?.and_then(|value| Sequence::from_key(&value));
        let frames = match store.state(STATE_FRAMES)? {
            None => OpenFrames::default(),
            Some(json) => serde_json::from_slice(&json)
                .map_err(|error| damaged(&format!("the list of growing batches can't be read: {error}")))?,
        };
        Ok(Self {
            directory: directory.to_owned(),
            id: id.ok_or_else(|| damaged("the spool id is missing"))?,
            next: next.ok_or_else(|| damaged("the next sequence is missing"))?,
            former: former_ids_of(&store)?,
            format,
            frames,
            store,
        })
    }

    /// What the growing batches would be if they were sealed now, in the order in which they were begun. Their sequences are those
    /// that they would get, were nothing to come before.
    fn growing(&self) -> Result<Vec<StoredHeader>, SpoolError> {
        let mut next = self.next;
        let mut growing = Vec::new();
        for open in &self.frames.open {
            let (mut contents, mut count) = (Contents::NOTHING, 0);
            for piece in self.store.pieces(open.frame) {
                let piece = piece.map_err(|source| SpoolError::Storage { action: "read a growing batch", source })?.1;
                count += 1;
                contents = Contents::of_stored(&piece).map_or(contents, |piece| contents.followed_by(piece));
            }
            if contents.records == 0 {
                continue;
            }
            let mut stored = sealed_header(next, &contents, *open, count);
            stored.header.spool_id = self.id;
            next = stored.header.last.advanced_by(1);
            growing.push(stored);
        }
        Ok(growing)
    }

    /// The id that a batch has.
    fn id_of(&self, first: Sequence) -> SpoolId {
        self.former.iter().find(|former| first <= former.up_to).map_or(self.id, |former| former.spool_id)
    }
}
