//! A batch that still grows: one zstd frame, fed by several commits, written in pieces.
//!
//! ```text
//! commit 1        commit 2        …  sealed
//! ┌─────────────┬─────────────┬───┬──────────┐
//! │ piece 0     │ piece 1     │ … │ 01 00 00 │   = the payload that is sent: one zstd frame
//! └─────────────┴─────────────┴───┴──────────┘
//! stored piece := records: u32 | raw bytes: u64 | oldest, newest received_at in ms: 2 x u64 | CRC-32C: u32 | flushed bytes of zstd
//! ```
//! (integers big endian; the checksum is of the flushed bytes)
//!
//! Invariants:
//! - what a commit feeds is flushed to the end in its piece, so the pieces of an interrupted frame decompress to all records that
//!   were answered;
//! - the end of a frame is the same three bytes whatever is in it ([`FRAME_END`]). So whoever seals given pieces, this process or
//!   the one after a crash, gets the same bytes and the same checksum, and what may have been sent is never cut otherwise;
//! - memory is one compression context and the records of one commit.
//!
//! What it does not do: write anything, give sequences, decide when a frame is sealed.

use std::io;
use std::time::Instant;

use picket_common::record::{Record, RecordError};
use picket_common::timestamp::Timestamp;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use super::store::OpenFrame;

/// How every frame ends: an empty last raw block (RFC 8878 §3.1.1.2), which is what zstd writes at the end of a frame that was just
/// flushed and has no checksum of its own. It is not stored.
pub(super) const FRAME_END: [u8; 3] = [1, 0, 0];
/// Bytes of a stored piece before its part of the frame.
pub(super) const PIECE_HEADER: usize = 32;

/// What a piece, or all pieces of a frame, consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) records: u64,
    /// Before compression.
    pub(super) raw_bytes: u64,
    /// After it, without the frame's end.
    pub(super) bytes: u64,
    /// CRC-32C of these bytes.
    pub(super) crc32c: u32,
    /// The earliest `received_at`.
    pub(super) oldest: Timestamp,
    /// The latest `received_at`.
    pub(super) newest: Timestamp,
}

impl Contents {
    pub(super) const NOTHING: Self = Self {
        records: 0,
        raw_bytes: 0,
        bytes: 0,
        crc32c: 0,
        oldest: Timestamp::from_millis(u64::MAX),
        newest: Timestamp::EPOCH,
    };

    /// What this and what comes after it are together.
    pub(super) fn followed_by(self, next: Self) -> Self {
        let length = usize::try_from(next.bytes).unwrap_or(usize::MAX);
        Self {
            records: self.records + next.records,
            raw_bytes: self.raw_bytes + next.raw_bytes,
            bytes: self.bytes + next.bytes,
            crc32c: crc32c::crc32c_combine(self.crc32c, next.crc32c, length),
            oldest: self.oldest.min(next.oldest),
            newest: self.newest.max(next.newest),
        }
    }

    /// Length and checksum of the whole frame that has these contents and its end.
    pub(super) fn ended(&self) -> (u64, u32) {
        (self.bytes + FRAME_END.len() as u64, crc32c::crc32c_append(self.crc32c, &FRAME_END))
    }

    fn encode(&self) -> [u8; PIECE_HEADER] {
        let mut header = [0; PIECE_HEADER];
        // A commit has a few thousand records at most.
        header[..4].copy_from_slice(&u32::try_from(self.records).unwrap_or(u32::MAX).to_be_bytes());
        header[4..12].copy_from_slice(&self.raw_bytes.to_be_bytes());
        header[12..20].copy_from_slice(&self.oldest.as_millis().to_be_bytes());
        header[20..28].copy_from_slice(&self.newest.as_millis().to_be_bytes());
        header[28..].copy_from_slice(&self.crc32c.to_be_bytes());
        header
    }

    /// What a stored piece says of itself; `None` if it is too short to be one.
    pub(super) fn of_stored(piece: &[u8]) -> Option<Self> {
        let (header, bytes) = piece.split_first_chunk::<PIECE_HEADER>()?;
        let (records, rest) = header.split_first_chunk::<4>()?;
        let (raw_bytes, rest) = rest.split_first_chunk::<8>()?;
        let (oldest, rest) = rest.split_first_chunk::<8>()?;
        let (newest, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            records: u64::from(u32::from_be_bytes(*records)),
            raw_bytes: u64::from_be_bytes(*raw_bytes),
            bytes: bytes.len() as u64,
            crc32c: u32::from_be_bytes(*rest.first_chunk()?),
            oldest: Timestamp::from_millis(u64::from_be_bytes(*oldest)),
            newest: Timestamp::from_millis(u64::from_be_bytes(*newest)),
        })
    }
}

/// A frame that still takes records.
pub(super) struct Frame {
    /// Names its pieces on disk, and says which lane it is of.
    pub(super) on_disk: OpenFrame,
    /// When its first record came.
    pub(super) begun_at: Instant,
    /// Pieces ended so far.
    pub(super) pieces: u32,
    /// What is in them.
    pub(super) contents: Contents,
    encoder: Encoder<'static>,
    /// The records since the last piece, encoded.
    raw: Vec<u8>,
    /// What they are; the compressed size is not known yet.
    pending: Contents,
}

impl Frame {
    /// Begins a frame with a context from [`Self::into_encoder`] or a new one.
    pub(super) fn begin(
        on_disk: OpenFrame,
        begun_at: Instant,
        mut encoder: Encoder<'static>,
        level: i32,
    ) -> io::Result<Self> {
        encoder.reinit()?;
        encoder.set_parameter(CParameter::CompressionLevel(level))?;
        let (contents, pending) = (Contents::NOTHING, Contents::NOTHING);
        Ok(Self { on_disk, begun_at, pieces: 0, contents, encoder, raw: Vec::new(), pending })
    }

    /// Takes a record into the next piece.
    ///
    /// # Errors
    /// [`RecordError`] if the record can't be encoded; the frame is then as before.
    pub(super) fn push(&mut self, record: &Record) -> Result<(), RecordError> {
        let before = self.raw.len();
        if let Err(error) = record.encode_into(&mut self.raw) {
            self.raw.truncate(before);
            return Err(error);
        }
        let received_at = record.header.received_at;
        self.pending.records += 1;
        self.pending.raw_bytes = self.raw.len() as u64;
        self.pending.oldest = self.pending.oldest.min(received_at);
        self.pending.newest = self.pending.newest.max(received_at);
        Ok(())
    }

    /// Records in it, those of the next piece included.
    pub(super) const fn records(&self) -> u64 {
        self.contents.records + self.pending.records
    }

    /// Raw bytes in it, those of the next piece included.
    pub(super) const fn raw_bytes(&self) -> u64 {
        self.contents.raw_bytes + self.pending.raw_bytes
    }

    /// Ends the piece: compresses and flushes the records since the last one. `None` if there are none; else the number of
    /// the piece, what it is, and its bytes as they are to be stored.
    pub(super) fn end_piece(&mut self) -> io::Result<Option<(u32, Contents, Vec<u8>)>> {
        if self.pending.records == 0 {
            return Ok(None);
        }
        let mut stored = Vec::with_capacity(PIECE_HEADER + zstd::zstd_safe::compress_bound(self.raw.len()));
        stored.resize(PIECE_HEADER, 0);
        compress_and_flush(&mut self.encoder, &self.raw, &mut stored)?;
        let mut piece = std::mem::replace(&mut self.pending, Contents::NOTHING);
        piece.bytes = (stored.len() - PIECE_HEADER) as u64;
        piece.crc32c = crc32c::crc32c(&stored[PIECE_HEADER..]);
        stored[..PIECE_HEADER].copy_from_slice(&piece.encode());
        // Also gives back what an outsized record took.
        self.raw = Vec::new();
        let number = self.pieces;
        self.pieces += 1;
        self.contents = self.contents.followed_by(piece);
        Ok(Some((number, piece, stored)))
    }

    /// The context, for the next frame.
    pub(super) fn into_encoder(self) -> Encoder<'static> {
        self.encoder
    }
}

/// Appends to `out` what `raw` becomes, up to the last byte.
fn compress_and_flush(encoder: &mut Encoder<'static>, raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut input = InBuffer::around(raw);
    loop {
        let begin = out.len();
        // What the bound does not cover are the frame's header and the ends of blocks.
        out.reserve(1024);
        let mut output = OutBuffer::around_pos(out, begin);
        if input.pos() < raw.len() {
            encoder.run(&mut input, &mut output)?;
        }
        if input.pos() == raw.len() && encoder.flush(&mut output)? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lanes::Lane;
    use super::super::tests::record;
    use super::*;
    use proptest::prelude::*;

    const fn on_disk(frame: u64) -> OpenFrame {
        OpenFrame { frame, lane: Lane::SHARED, entered: None }
    }

    fn frame(level: i32) -> Frame {
        Frame::begin(on_disk(1), Instant::now(), Encoder::new(1).unwrap(), level).unwrap()
    }

    /// The pieces without their headers, and the frame.
    fn pieces_of(commits: &[Vec<Vec<u8>>], level: i32) -> (Vec<Vec<u8>>, Frame) {
        let mut frame = frame(level);
        let mut pieces = Vec::new();
        for commit in commits {
            for body in commit {
                frame.push(&record(body.clone(), 5)).unwrap();
            }
            pieces.extend(frame.end_piece().unwrap().map(|(_, _, stored)| stored[PIECE_HEADER..].to_vec()));
        }
        (pieces, frame)
    }

    proptest! {
        #[test]
        fn the_end_of_a_frame_is_what_zstd_writes_and_each_piece_holds_all_its_records(
            commits in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..4), 1..6),
            level in prop::sample::select(vec![1, 3, 9]),
        ) {
            let (pieces, mut frame) = pieces_of(&commits, level);
            let mut end = Vec::with_capacity(64);
            let mut output = OutBuffer::around(&mut end);
            prop_assert_eq!(frame.encoder.finish(&mut output, true).unwrap(), 0);
            prop_assert_eq!(end, FRAME_END.to_vec());

            let mut expected = Vec::new();
            let mut payload = Vec::new();
            for (piece, commit) in pieces.iter().zip(&commits) {
                commit.iter().for_each(|body| record(body.clone(), 5).encode_into(&mut expected).unwrap());
                payload.extend_from_slice(piece);
                let cut_here = [payload.as_slice(), &FRAME_END].concat();
                prop_assert_eq!(zstd::bulk::decompress(&cut_here, expected.len()).unwrap(), expected.clone());
            }
            payload.extend_from_slice(&FRAME_END);
            prop_assert_eq!(frame.contents.ended(), (payload.len() as u64, crc32c::crc32c(&payload)));
            prop_assert_eq!(frame.contents.raw_bytes, expected.len() as u64);
        }
    }

    #[test]
    fn a_stored_piece_says_what_is_in_it() {
        let mut frame = frame(1);
        frame.push(&record("one", 7)).unwrap();
        frame.push(&record("two", 5)).unwrap();
        let (number, contents, stored) = frame.end_piece().unwrap().unwrap();
        assert_eq!((number, contents.records), (0, 2));
        assert_eq!((contents.oldest.as_millis(), contents.newest.as_millis()), (5, 7));
        assert_eq!(Contents::of_stored(&stored), Some(contents));
        assert_eq!(Contents::of_stored(&stored[..PIECE_HEADER - 1]), None);
        assert!(frame.end_piece().unwrap().is_none(), "nothing came since");
    }

    #[test]
    fn a_context_carries_nothing_into_the_next_frame() {
        let (pieces, used) = pieces_of(&[vec![b"the same text again".to_vec()]], 1);
        let mut again = Frame::begin(on_disk(2), Instant::now(), used.into_encoder(), 1).unwrap();
        again.push(&record("the same text again", 5)).unwrap();
        assert_eq!(again.end_piece().unwrap().unwrap().2[PIECE_HEADER..], pieces[0]);
    }
}
