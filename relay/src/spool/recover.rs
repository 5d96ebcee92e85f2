//! What opening a spool does before anything is added: reads its state, brings an older format up, seals what was left growing,
//! counts what is there. Blocking.
//!
//! Formats:
//! - 1: a batch is one value of the family `batches` under its first sequence. Such batches are read and deleted as they are;
//! - 2: a batch is a frame's pieces. Written once the directory is opened by this version; an older one then refuses it.

use std::collections::BTreeMap;
use std::path::Path;

use picket_common::ids::{Sequence, SpoolId};

use super::error::SpoolError;
use super::frame::Contents;
use super::frames::sealed_header;
use super::lanes::Lane;
use super::lineage::SpoolState;
use super::quarantine::SetAsideReason;
use super::removal::Removal;
use super::store::{
    OpenFrames, STATE_FORMAT, STATE_FRAMES, STATE_NEXT, STATE_SPOOL_ID, Store, Writing, spool_id_from_state,
};
use super::{Shared, lock};

/// The on-disk format this version writes.
pub(super) const FORMAT_VERSION: u32 = 2;
/// The format before it, which this version takes over.
const FORMAT_WITHOUT_PIECES: u32 = 1;
/// See [`super::Spool::sealed_before_contact`].
pub(super) const STATE_CONTACT: &[u8] = b"sealed_before_contact";
/// The value of [`STATE_CONTACT`] from a contact until the next opening.
pub(super) const ANYTHING_MAY_BE_SENT: Sequence = Sequence::new(u64::MAX);

/// Batches of format 1 brought up in one write.
const LANE_CHUNK: usize = 1024;

/// What a spool goes on with.
pub(super) struct Recovered {
    pub(super) id: SpoolId,
    /// The sequence that the next sealed batch begins with.
    pub(super) next: Sequence,
    /// What was sealed before this opening.
    pub(super) sealed_before: Sequence,
    /// Nothing is open.
    pub(super) frames: OpenFrames,
}

/// Reads the state, making that of a new spool, and seals what was left growing.
pub(super) fn recover(store: &Store, directory: &Path, random: [u8; 16]) -> Result<Recovered, SpoolError> {
    let (id, next) = read_state(store, directory, random)?;
    let frames = match store.state(STATE_FRAMES)? {
        None => OpenFrames::default(),
        Some(json) => serde_json::from_slice(&json).map_err(|error| {
            let problem = format!("the list of growing batches can't be read: {error}");
            SpoolError::Damaged { directory: directory.to_owned(), problem }
        })?,
    };
    seal_left_open(store, Recovered { id, next, sealed_before: Sequence::new(next.get() - 1), frames })
}

/// Seals what was left growing, in the order in which it was begun. Doing it again after another crash gives the same.
fn seal_left_open(store: &Store, mut recovered: Recovered) -> Result<Recovered, SpoolError> {
    if recovered.frames.open.is_empty() {
        return Ok(recovered);
    }
    let mut writing = Writing::default();
    for open in recovered.frames.open.drain(..) {
        let frame = open.frame;
        let mut contents = Contents::NOTHING;
        let mut count = 0;
        for piece in store.pieces(frame) {
            let read = |source| SpoolError::Storage { action: "read a batch that was left growing", source };
            let (_, piece) = piece.map_err(read)?;
            count += 1;
            // One that is no piece is found by whoever reads the batch, since the checksum does not match without it.
            if let Some(piece) = Contents::of_stored(&piece) {
                contents = contents.followed_by(piece);
            }
        }
        if contents.records == 0 {
            tracing::error!(frame, pieces = count, "nothing can be read of a batch that was left growing");
            continue;
        }
        let mut sealed = sealed_header(recovered.next, &contents, open, count);
        sealed.header.spool_id = recovered.id;
        recovered.next = sealed.header.last.advanced_by(1);
        tracing::info!(
            first = %sealed.header.first, records = contents.records, "a batch that was left growing is sealed"
        );
        writing.sealed.push(sealed);
    }
    writing.frames = Some(recovered.frames.clone());
    // Not synced: it comes out the same whenever it is done again.
    store.commit(&writing).map_err(|error| SpoolError::Seal { problem: error.to_string() })?;
    Ok(recovered)
}

/// What was sealed at the first opening since the last contact; this opening, if there was none in between.
pub(super) fn read_contact(state: &impl SpoolState, key: &[u8], committed: Sequence) -> Result<Sequence, SpoolError> {
    let noted = state.state(key)?.and_then(|value| Sequence::from_key(&value));
    if let Some(sealed) = noted.filter(|&sealed| sealed != ANYTHING_MAY_BE_SENT) {
        return Ok(sealed);
    }
    state.put_state(&[(key, &committed.to_key())])?;
    Ok(committed)
}

/// The spool's id and next sequence; a new spool gets both.
fn read_state(store: &Store, directory: &Path, random: [u8; 16]) -> Result<(SpoolId, Sequence), SpoolError> {
    let damaged = |problem: &str| SpoolError::Damaged { directory: directory.to_owned(), problem: problem.to_owned() };
    let Some(format) = store.state(STATE_FORMAT)? else {
        if store.headers(Sequence::new(0), Sequence::new(u64::MAX - 1)).next().is_some() {
            return Err(damaged("there are batches but no format version"));
        }
        let id = SpoolId::from_random(random);
        store.put_state(&[
            (STATE_FORMAT, FORMAT_VERSION.to_string().as_bytes()),
            (STATE_SPOOL_ID, id.to_string().as_bytes()),
            (STATE_NEXT, &Sequence::FIRST.to_key()),
        ])?;
        return Ok((id, Sequence::FIRST));
    };
    if format == FORMAT_WITHOUT_PIECES.to_string().as_bytes() {
        put_all_in_shared_lane(store)?;
        store.put_state(&[(STATE_FORMAT, FORMAT_VERSION.to_string().as_bytes())])?;
        tracing::info!(format = FORMAT_VERSION, "the spool was brought up to a new format");
    } else if format != FORMAT_VERSION.to_string().as_bytes() {
        return Err(SpoolError::UnknownFormat {
            directory: directory.to_owned(),
            found: String::from_utf8_lossy(&format).into_owned(),
            known: FORMAT_VERSION,
        });
    }
    let id = store.state(STATE_SPOOL_ID)?.and_then(|value| spool_id_from_state(&value));
    let next = store.state(STATE_NEXT)?.and_then(|value| Sequence::from_key(&value)).filter(|next| next.get() > 0);
    Ok((
        id.ok_or_else(|| damaged("the spool id is missing"))?,
        next.ok_or_else(|| damaged("the next sequence is missing"))?,
    ))
}

/// Format 1 has no lanes.
fn put_all_in_shared_lane(store: &Store) -> Result<(), SpoolError> {
    let mut entries = Vec::with_capacity(LANE_CHUNK);
    for raw in store.headers(Sequence::new(0), Sequence::new(u64::MAX - 1)) {
        entries.push((Lane::SHARED, raw?.first));
        if entries.len() == LANE_CHUNK {
            store.put_in_lanes(&entries)?;
            entries.clear();
        }
    }
    store.put_in_lanes(&entries)
}

impl Shared {
    /// Counts what is there, once, at open. A header that can't be read takes its batch to the quarantine. Says when the lanes
    /// that have anything were entered.
    pub(super) fn count_headers(
        &self,
        store: &Store,
        removal: &mut Removal,
        committed: Sequence,
    ) -> Result<BTreeMap<Lane, Sequence>, SpoolError> {
        let mut unreadable = Vec::new();
        let mut entered = BTreeMap::new();
        let mut last = Sequence::new(0);
        for raw in store.headers(Sequence::new(0), Sequence::new(u64::MAX - 1)) {
            let raw = raw?;
            match raw.parse() {
                Ok(stored) => {
                    last = stored.header.last;
                    entered.extend(stored.entered.map(|sequence| (stored.lane, sequence)));
                    // No reader would find it.
                    if !store.is_in_lane(stored.lane, raw.first)? {
                        store.put_in_lanes(&[(stored.lane, raw.first)])?;
                    }
                    lock(&self.counters).add_sealed(&stored);
                }
                Err(problem) => unreadable.push((raw, problem)),
            }
        }
        if last > committed {
            let problem =
                format!("a batch ends at {last}, but the next sequence is stored as {}", committed.advanced_by(1));
            return Err(SpoolError::Damaged { directory: self.directory.clone(), problem });
        }
        for (raw, problem) in unreadable {
            let stored = self.what_it_must_have_been(store, raw.first)?;
            lock(&self.counters).add_unreadable(&stored);
            self.set_aside(store, removal, &raw, SetAsideReason::Damaged, &problem)?;
        }
        self.publish_usage();
        Ok(entered)
    }
}
