//! The frames that grow at the moment, and the sequences that those get that are sealed. The commit thread's own.
//!
//! A batch has its sequences from the moment it is sealed. Two rules make the next opening find the same ones after a crash:
//! - a header that is written together with pieces is synced with them;
//! - a header that is written alone, because its time has come, is that of the frame that was begun first. If it does not survive,
//!   its pieces do, and the opening seals what is open in the order in which it was begun ([`super::recover`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use picket_common::ids::{Sequence, SpoolId};
use picket_common::record::{Record, RecordError};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use zstd::stream::raw::{CParameter, Encoder};

use super::config::SpoolConfig;
use super::error::SpoolError;
use super::frame::{Contents, Frame};
use super::lanes::{LANES_FROM_BYTES, Lane, MAX_OWN_LANES, Shares};
use super::store::{NewPiece, OpenFrame, OpenFrames, Pieces, StoredHeader, Writing};

/// While so much waits, which is when no aggregator can be reached, the disk is what is short, and the processor is not, unless
/// records wait to be committed as well.
const DENSE_FROM_BYTES: u64 = 64 * 1024 * 1024;
/// Records in the queue from which the processor is what is short.
const DENSE_BELOW_QUEUED: usize = 64;
/// The level of frames that are begun then. Measured on batches of 1 MiB of 25 KB events: level 1 1848 bytes an event at 110 MB/s, level
/// 3 1790 (3 % less) at 80, level 6 1601 (13 % less) at 30, level 9 1502 (19 % less) at 16.
const DENSE_LEVEL: i32 = 6;

/// The frames that grow, and what is next.
pub(super) struct Frames {
    /// In the order in which they were begun.
    open: Vec<Frame>,
    /// As on disk; `open` and `next_frame` differ from it while a commit is put together.
    stored: OpenFrames,
    next_frame: u64,
    next: Sequence,
    /// Whether so much waits that projects may get lanes of their own.
    has_backlog: bool,
    /// The lanes that have anything, but for the shared one.
    in_use: BTreeSet<Lane>,
    /// What the shared lane had when these were entered; see [`StoredHeader::entered`].
    entered: BTreeMap<Lane, Sequence>,
    shares: Shares,
    batch_bytes: u64,
    batch_records: u64,
    linger: Duration,
    /// Contexts of frames that were sealed.
    idle: Vec<Encoder<'static>>,
    /// `spool.compression_level`.
    configured_level: i32,
    /// That of the frames that are begun now.
    level: i32,
    /// Logarithm of how far back zstd looks: a whole batch, so that its memory follows the batch and not the level.
    window_log: u32,
}

/// Why a record is in no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("zstd: {0}")]
    Compression(#[from] io::Error),
}

impl Frames {
    /// Nothing open. `stored` is what [`super::recover`] left on disk.
    /// `entered` says when the lanes that have anything were entered.
    pub(super) fn new(
        config: &SpoolConfig,
        stored: OpenFrames,
        next: Sequence,
        entered: BTreeMap<Lane, Sequence>,
    ) -> Result<Self, SpoolError> {
        debug_assert!(stored.open.is_empty(), "what was open is sealed by the opening");
        let batch_bytes = config.batch_bytes.as_u64();
        let mut frames = Self {
            open: Vec::new(),
            next_frame: stored.next,
            stored,
            next,
            has_backlog: false,
            in_use: BTreeSet::new(),
            entered,
            shares: Shares::default(),
            batch_bytes,
            batch_records: config.batch_records as u64,
            linger: config.linger.get(),
            idle: Vec::new(),
            configured_level: config.compression_level,
            level: config.compression_level,
            window_log: batch_bytes.next_power_of_two().ilog2().clamp(15, 23),
        };
        // So that a bad level shows at the start.
        let level = frames.level;
        let encoder = frames.encoder().map_err(|source| SpoolError::Compressor { level, source })?;
        frames.idle.push(encoder);
        Ok(frames)
    }

    /// To be called before the records of a commit: what waits to be sent, in which lanes, and how many more records wait to be
    /// committed.
    pub(super) fn begin_commit(&mut self, waiting_bytes: u64, lanes: impl Iterator<Item = Lane>, queued: usize) {
        self.has_backlog = waiting_bytes > LANES_FROM_BYTES;
        let has_time = waiting_bytes > DENSE_FROM_BYTES && queued < DENSE_BELOW_QUEUED;
        self.level = if has_time { self.configured_level.max(DENSE_LEVEL) } else { self.configured_level };
        self.in_use = lanes.chain(self.open.iter().map(|frame| frame.on_disk.lane)).collect();
        self.in_use.remove(&Lane::SHARED);
        if self.in_use.is_empty() {
            self.idle.truncate(1);
        }
        self.entered.retain(|lane, _| self.in_use.contains(lane));
    }

    /// Puts a record into the frame that grows in its lane; where it does not fit, that frame is sealed first.
    pub(super) fn push(&mut self, record: &Record, now: Instant, writing: &mut Writing) -> Result<(), PushError> {
        let lane = self.lane_of(record, writing)?;
        let position = match self.open.iter().position(|frame| frame.on_disk.lane == lane) {
            Some(position) if self.fits(&self.open[position], record) => position,
            full => {
                if let Some(position) = full {
                    self.seal(position, writing)?;
                }
                self.begin(lane, now)?
            }
        };
        Ok(self.open[position].push(record)?)
    }

    /// A project stays in its own lane while anything is left there; it enters one only where much waits.
    fn lane_of(&mut self, record: &Record, writing: &mut Writing) -> io::Result<Lane> {
        let project = record.header.project_id;
        self.shares.add(project, record.body.len() as u64);
        let lane = Lane::of(project);
        if self.in_use.contains(&lane) {
            return Ok(lane);
        }
        let enters = self.has_backlog && self.in_use.len() < MAX_OWN_LANES && self.shares.is_noisy(project);
        if !enters || lane.is_shared() {
            return Ok(Lane::SHARED);
        }
        // What the project has in the shared lane gets its sequences first, so that these are below `entered`.
        if let Some(position) = self.open.iter().position(|frame| frame.on_disk.lane.is_shared()) {
            self.seal(position, writing)?;
        }
        tracing::info!(project = %lane, "a project makes up much of a backlog and gets batches of its own");
        self.in_use.insert(lane);
        self.entered.insert(lane, self.next);
        Ok(lane)
    }

    fn fits(&self, frame: &Frame, record: &Record) -> bool {
        let bytes = frame.raw_bytes().saturating_add(record.encoded_len_bound() as u64);
        frame.records() == 0 || (bytes <= self.batch_bytes && frame.records() < self.batch_records)
    }

    fn begin(&mut self, lane: Lane, now: Instant) -> io::Result<usize> {
        let encoder = self.idle.pop().map_or_else(|| self.encoder(), Ok)?;
        let on_disk = OpenFrame { frame: self.next_frame, lane, entered: self.entered.get(&lane).copied() };
        self.open.push(Frame::begin(on_disk, now, encoder, self.level)?);
        self.next_frame += 1;
        Ok(self.open.len() - 1)
    }

    fn encoder(&self) -> io::Result<Encoder<'static>> {
        let mut encoder = Encoder::new(self.level)?;
        encoder.set_parameter(CParameter::WindowLog(self.window_log))?;
        Ok(encoder)
    }

    /// Ends the pieces of this commit and seals what is full or has waited for long enough.
    pub(super) fn end_commit(&mut self, now: Instant, writing: &mut Writing) -> io::Result<()> {
        for frame in &mut self.open {
            end_piece(frame, writing)?;
        }
        while let Some(position) = self.open.iter().position(|frame| self.is_complete(frame, now)) {
            self.seal(position, writing)?;
        }
        self.note_open(writing);
        Ok(())
    }

    /// Seals everything, because nothing more comes.
    pub(super) fn end_all(&mut self, writing: &mut Writing) -> io::Result<()> {
        while !self.open.is_empty() {
            self.seal(0, writing)?;
        }
        self.note_open(writing);
        Ok(())
    }

    fn is_complete(&self, frame: &Frame, now: Instant) -> bool {
        frame.raw_bytes() >= self.batch_bytes || frame.records() >= self.batch_records || self.due_of(frame) <= now
    }

    fn due_of(&self, frame: &Frame) -> Instant {
        frame.begun_at + self.linger
    }

    /// When the frame that was begun first has waited for long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.first().map(|frame| self.due_of(frame))
    }

    /// The earliest time of receipt in what is open.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.open.iter().map(|frame| frame.contents.oldest).min()
    }

    fn seal(&mut self, position: usize, writing: &mut Writing) -> io::Result<()> {
        let mut frame = self.open.remove(position);
        end_piece(&mut frame, writing)?;
        // A frame whose only record could not be encoded has nothing to seal.
        if frame.pieces > 0 {
            let stored = sealed_header(self.next, &frame.contents, frame.on_disk, frame.pieces);
            self.next = stored.header.last.advanced_by(1);
            writing.sealed.push(stored);
        }
        self.idle.push(frame.into_encoder());
        Ok(())
    }

    fn note_open(&mut self, writing: &mut Writing) {
        let open = self.open.iter().filter(|frame| frame.pieces > 0).map(|frame| frame.on_disk).collect();
        let frames = OpenFrames { next: self.next_frame, open };
        if frames != self.stored {
            writing.frames = Some(frames.clone());
            self.stored = frames;
        }
    }
}

fn end_piece(frame: &mut Frame, writing: &mut Writing) -> io::Result<()> {
    if let Some((number, contents, stored)) = frame.end_piece()? {
        writing.pieces.push(NewPiece { frame: frame.on_disk.frame, number, contents, stored });
    }
    Ok(())
}

/// The header of the batch that these pieces are and that begins with `first`. The spool id is the caller's to put in.
pub(super) fn sealed_header(first: Sequence, contents: &Contents, frame: OpenFrame, count: u32) -> StoredHeader {
    debug_assert!(contents.records > 0, "a batch has records");
    let (payload_bytes, crc32c) = contents.ended();
    let header = BatchHeader {
        spool_id: SpoolId::from_random([0; 16]),
        first,
        last: first.advanced_by(contents.records.max(1) - 1),
        raw_bytes: contents.raw_bytes,
        payload_bytes,
        crc32c,
        is_tombstone: false,
    };
    StoredHeader {
        header,
        oldest_received_at: contents.oldest,
        newest_received_at: Some(contents.newest),
        pieces: Some(Pieces { frame: frame.frame, count }),
        lane: frame.lane,
        entered: frame.entered,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{record, small};
    use super::*;

    /// Bytes of a batch of compressible records that is begun while so much waits.
    fn sealed_bytes(configured_level: i32, waiting: u64, queued: usize) -> (i32, u64) {
        let config = SpoolConfig { compression_level: configured_level, ..small() };
        let (stored, next) = (OpenFrames::default(), Sequence::FIRST);
        let mut frames = Frames::new(&config, stored, next, BTreeMap::new()).unwrap();
        frames.begin_commit(waiting, std::iter::empty(), queued);
        let mut writing = Writing::default();
        for number in 0..200_u64 {
            let text: String = (0..100).map(|word| format!("word{} ", (number * 7 + word * word) % 97)).collect();
            frames.push(&record(text, number), Instant::now(), &mut writing).unwrap();
        }
        frames.end_all(&mut writing).unwrap();
        (frames.level, writing.sealed.iter().map(|sealed| sealed.header.payload_bytes).sum())
    }

    #[test]
    fn a_long_backlog_is_compressed_harder_unless_the_processor_is_short() {
        let ((level, usual), (dense_level, dense)) =
            (sealed_bytes(1, DENSE_FROM_BYTES, 0), sealed_bytes(1, DENSE_FROM_BYTES + 1, 0));
        assert_eq!((level, dense_level), (1, DENSE_LEVEL));
        assert_ne!(dense, usual, "the level is that of the encoder, too");
        assert_eq!(sealed_bytes(1, DENSE_FROM_BYTES + 1, DENSE_BELOW_QUEUED), (1, usual), "requests wait");
        assert_eq!(sealed_bytes(9, DENSE_FROM_BYTES + 1, 0).0, 9, "never below what is configured");
    }
}
