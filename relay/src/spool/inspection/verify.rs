//! Whether everything that is stored is what was written. Reads all of it.

use picket_common::ids::Sequence;
use serde::Serialize;

use super::super::error::SpoolError;
use super::super::frame::{Contents, PIECE_HEADER};
use super::super::reader::checked;
use super::super::store::{RawHeader, StoredHeader, is_damage};
use super::blobs::Blobs;
use super::records::records;
use super::{ALL, Inspection};

/// In what way something is damaged, by what is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// A batch whose header or payload is not what was written.
    Batch,
    /// The files can't be read any further.
    Files,
    /// Batches whose sequences contradict each other.
    Sequences,
    /// A batch that no reader finds.
    Lane,
    /// A piece of a large payload is gone.
    Blob,
    /// Bytes that belong to no batch: a header is gone.
    Orphans,
}

impl Damage {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Batch => {
                "a running relay sets the batch aside when it comes to send it, counts its records as dropped \
                 (spool_quarantined), and sends the rest; check the disk"
            }
            Self::Files => {
                "stop the relay, copy the spool directory to a disk that is well and try there; what can't be read is lost: \
                 with the directory moved away the relay makes a new one and takes events again"
            }
            Self::Sequences => "stop the relay, move the spool directory away and keep it; a new one is made",
            Self::Lane => "restart the relay: it finds the batch by its header and puts it back",
            Self::Blob => "the event is sent without that item; check the disk",
            Self::Orphans => "the records in them can't be sent; check the disk",
        }
    }
}

/// One piece of damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In what way.
    pub damage: Damage,
    /// The batch where it is, if it is in one.
    pub first: Option<Sequence>,
    /// What was found.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

/// What a verification came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Batches that were read, those that grow and tombstones included.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Places where sequences are not there. They were acknowledged: batches may leave in any order.
    pub gaps: u64,
    /// Batches set aside; not damage of today.
    pub quarantined_batches: u64,
    /// How much damage was found.
    pub findings: u64,
}

/// A verification under way.
struct Verification<'a, F> {
    inspection: &'a Inspection,
    verdict: Verdict,
    blobs: Blobs,
    /// Where the next batch begins if nothing was acknowledged.
    expected: Option<Sequence>,
    pieces: u64,
    found: F,
}

impl Inspection {
    /// Reads everything and checks every checksum, that it unpacks to what its header says, and that nothing contradicts anything
    /// else. Damage is handed over as it is found.
    ///
    /// # Errors
    /// What `found` says, or [`SpoolError`] where the files can't be read for another reason than damage.
    pub fn verify<E: From<SpoolError>>(&self, found: impl FnMut(Finding) -> Result<(), E>) -> Result<Verdict, E> {
        let (verdict, blobs) = (Verdict::default(), Blobs::default());
        let mut verification = Verification { inspection: self, verdict, blobs, expected: None, pieces: 0, found };
        verification.batches()?;
        verification.growing()?;
        verification.orphans()?;
        verification.quarantine()?;
        Ok(verification.verdict)
    }
}

impl<E: From<SpoolError>, F: FnMut(Finding) -> Result<(), E>> Verification<'_, F> {
    fn report(&mut self, damage: Damage, first: Option<Sequence>, problem: String) -> Result<(), E> {
        self.verdict.findings += 1;
        (self.found)(Finding { damage, first, problem, remedy: damage.remedy() })
    }

    /// Damage is reported, other errors end it.
    fn report_or_end(&mut self, error: SpoolError) -> Result<(), E> {
        match error {
            SpoolError::Storage { action, source } if is_damage(&source) => {
                self.report(Damage::Files, None, format!("can't {action}: {source}"))
            }
            other => Err(other.into()),
        }
    }

    fn batches(&mut self) -> Result<(), E> {
        for raw in self.inspection.store.headers(ALL.0, ALL.1) {
            match raw {
                Ok(raw) => self.batch(&raw)?,
                Err(error) => self.report_or_end(error)?,
            }
        }
        Ok(())
    }

    fn batch(&mut self, raw: &RawHeader) -> Result<(), E> {
        self.verdict.batches += 1;
        let stored = match raw.parse() {
            Ok(stored) => stored,
            Err(problem) => return self.report_unless_gone(raw, problem),
        };
        self.follow(&stored)?;
        if !self.inspection.store.is_in_lane(stored.lane, raw.first)? {
            self.report(Damage::Lane, Some(raw.first), "the batch is in no lane".to_owned())?;
        }
        match self.payload(&stored)? {
            Ok(missing) => missing.map_or(Ok(()), |missing| self.report(Damage::Blob, Some(raw.first), missing)),
            Err(problem) => self.report_unless_gone(raw, problem),
        }
    }

    /// Sequences ascend and do not overlap, and end before the one that is given next.
    fn follow(&mut self, stored: &StoredHeader) -> Result<(), E> {
        let header = &stored.header;
        self.pieces += stored.pieces.map_or(0, |pieces| u64::from(pieces.count));
        if let Some(expected) = self.expected {
            if header.first < expected {
                let problem = format!("it begins at {}, the batch before it ends behind that", header.first);
                self.report(Damage::Sequences, Some(header.first), problem)?;
            }
            self.verdict.gaps += u64::from(header.first > expected);
        }
        if header.last >= self.inspection.next {
            let problem =
                format!("it ends at {}, but the next sequence is stored as {}", header.last, self.inspection.next);
            self.report(Damage::Sequences, Some(header.first), problem)?;
        }
        self.expected = Some(header.last.advanced_by(1));
        Ok(())
    }

    /// Checks a payload. Inside: what is missing for its records, or in what way it is damaged.
    fn payload(&mut self, stored: &StoredHeader) -> Result<Result<Option<String>, String>, E> {
        let payload = match self.inspection.store.payload(stored) {
            Ok(payload) => payload,
            // A file that is gone: the relay that runs deleted it, or it is damage.
            Err(SpoolError::Storage { source, .. }) => Err(source.to_string()),
            Err(error) => return Err(error.into()),
        };
        let read = payload.and_then(|payload| checked(stored.header.clone(), payload));
        let read = read.and_then(|batch| records(&stored.header, &batch.payload));
        let records = match read {
            Ok(records) => records,
            Err(problem) => return Ok(Err(problem)),
        };
        self.verdict.records += records.len() as u64;
        self.verdict.bytes += stored.header.payload_bytes;
        let (gaps, mut missing) = (self.verdict.gaps, None);
        for (record, number) in records.iter().zip(0..) {
            let sequence = stored.header.first.advanced_by(number);
            missing = missing.or(self.blobs.note(sequence, gaps, &record.header, record.body.len() as u64));
        }
        Ok(Ok(missing))
    }

    /// A batch that was acknowledged while it was looked at is no damage.
    fn report_unless_gone(&mut self, raw: &RawHeader, problem: String) -> Result<(), E> {
        let again = Inspection::open(&self.inspection.directory)?;
        let is_there = again.store.header(raw.first)?.is_some_and(|present| present.json == raw.json);
        if is_there { self.report(Damage::Batch, Some(raw.first), problem) } else { Ok(()) }
    }

    fn growing(&mut self) -> Result<(), E> {
        let growing = match self.inspection.growing() {
            Ok(growing) => growing,
            Err(error) => return self.report_or_end(error),
        };
        for stored in growing {
            self.verdict.batches += 1;
            self.pieces += stored.pieces.map_or(0, |pieces| u64::from(pieces.count));
            let frame = stored.pieces.map_or(0, |pieces| pieces.frame);
            let read = match self.damaged_piece(frame)? {
                Some(problem) => Err(problem),
                None => self.payload(&stored)?,
            };
            if let Err(problem) = read {
                self.report(Damage::Batch, None, format!("a batch that grows is damaged: {problem}"))?;
            }
        }
        Ok(())
    }

    /// The header of a batch that grows is made of its pieces, so each of these is held against its own checksum.
    fn damaged_piece(&self, frame: u64) -> Result<Option<String>, E> {
        for piece in self.inspection.store.pieces(frame) {
            let read = |source| SpoolError::Storage { action: "read a growing batch", source };
            let (number, piece) = piece.map_err(read)?;
            let Some(contents) = Contents::of_stored(&piece) else {
                return Ok(Some(format!("piece {number} is cut off")));
            };
            if crc32c::crc32c(&piece[PIECE_HEADER..]) != contents.crc32c {
                return Ok(Some(format!("the checksum of piece {number} does not match")));
            }
        }
        Ok(None)
    }

    fn orphans(&mut self) -> Result<(), E> {
        match self.inspection.store.count_pieces() {
            Ok(pieces) if pieces > self.pieces => {
                let problem = format!("{} stored pieces belong to no batch", pieces - self.pieces);
                self.report(Damage::Orphans, None, problem)
            }
            Ok(_) => Ok(()),
            // RocksDB reads what it counts, and stumbles over what was found before.
            Err(error) if error.is_damage() && self.verdict.findings > 0 => Ok(()),
            Err(error) => self.report_or_end(error),
        }
    }

    fn quarantine(&mut self) -> Result<(), E> {
        for entry in self.inspection.store.quarantine() {
            match entry {
                Ok(_) => self.verdict.quarantined_batches += 1,
                Err(error) => self.report_or_end(error)?,
            }
        }
        Ok(())
    }
}
