//! The frames that grow at the moment, and the sequences that those get that are sealed. The commit thread's own.
//!
//! A batch has its sequences from the moment it is sealed. Two rules make the next opening find the same ones after a crash:
//! - a header that is written together with pieces is synced with them;
//! - a header that is written alone, because its time has come, is that of the frame that was begun first. If it does not survive,
//!   its pieces do, and the opening seals what is open in the order in which it was begun ([`super::recover`]).

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
use super::store::{NewPiece, OpenFrames, Pieces, StoredHeader, Writing};

/// The frames that grow, and what is next.
pub(super) struct Frames {
    /// In the order in which they were begun.
    open: Vec<Frame>,
    /// As on disk; `open` and `next_frame` differ from it while a commit is put together.
    stored: OpenFrames,
    next_frame: u64,
    next: Sequence,
    batch_bytes: u64,
    batch_records: u64,
    linger: Duration,
    /// Contexts of frames that were sealed.
    idle: Vec<Encoder<'static>>,
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
    pub(super) fn new(config: &SpoolConfig, stored: OpenFrames, next: Sequence) -> Result<Self, SpoolError> {
        debug_assert!(stored.open.is_empty(), "what was open is sealed by the opening");
        let batch_bytes = config.batch_bytes.as_u64();
        let mut frames = Self {
            open: Vec::new(),
            next_frame: stored.next,
            stored,
            next,
            batch_bytes,
            batch_records: config.batch_records as u64,
            linger: config.linger.get(),
            idle: Vec::new(),
            level: config.compression_level,
            window_log: batch_bytes.next_power_of_two().ilog2().clamp(15, 23),
        };
        // So that a bad level shows at the start.
        let level = frames.level;
        let encoder = frames.encoder().map_err(|source| SpoolError::Compressor { level, source })?;
        frames.idle.push(encoder);
        Ok(frames)
    }

    /// Puts a record into the frame that grows; where it does not fit, that frame is sealed first.
    pub(super) fn push(&mut self, record: &Record, now: Instant, writing: &mut Writing) -> Result<(), PushError> {
        let position = self.open.len().checked_sub(1);
        let position = match position {
            Some(position) if self.fits(&self.open[position], record) => position,
            full => {
                if let Some(position) = full {
                    self.seal(position, writing)?;
                }
                self.begin(now)?
            }
        };
        Ok(self.open[position].push(record)?)
    }

    fn fits(&self, frame: &Frame, record: &Record) -> bool {
        let bytes = frame.raw_bytes().saturating_add(record.encoded_len_bound() as u64);
        frame.records() == 0 || (bytes <= self.batch_bytes && frame.records() < self.batch_records)
    }

    fn begin(&mut self, now: Instant) -> io::Result<usize> {
        let encoder = self.idle.pop().map_or_else(|| self.encoder(), Ok)?;
        self.open.push(Frame::begin(self.next_frame, now, encoder)?);
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
            let pieces = Pieces { frame: frame.id, count: frame.pieces };
            let stored = sealed_header(self.next, &frame.contents, pieces);
            self.next = stored.header.last.advanced_by(1);
            writing.sealed.push(stored);
        }
        self.idle.push(frame.into_encoder());
        Ok(())
    }

    fn note_open(&mut self, writing: &mut Writing) {
        let open = self.open.iter().filter(|frame| frame.pieces > 0).map(|frame| frame.id).collect();
        let frames = OpenFrames { next: self.next_frame, open };
        if frames != self.stored {
            writing.frames = Some(frames.clone());
            self.stored = frames;
        }
    }
}

fn end_piece(frame: &mut Frame, writing: &mut Writing) -> io::Result<()> {
    if let Some((number, contents, stored)) = frame.end_piece()? {
        writing.pieces.push(NewPiece { frame: frame.id, number, contents, stored });
    }
    Ok(())
}

/// The header of the batch that these pieces are and that begins with `first`. The spool id is the caller's to put in.
pub(super) fn sealed_header(first: Sequence, contents: &Contents, pieces: Pieces) -> StoredHeader {
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
        pieces: Some(pieces),
    }
}
