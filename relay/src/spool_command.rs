//! `picket-relay spool status|inspect|verify`: asks the relay that has the spool open, or looks at the files, and prints what it finds
//! as it finds it. Blocking.
//!
//! Lists are printed one entry at a time, as lines or as one JSON array, so memory does not depend on how much is spooled. What clients
//! wrote (names of item types) is printed without control characters.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use picket_common::config::{ByteSize, Span};
use picket_common::ids::{EventId, Sequence};
use picket_common::timestamp::Timestamp;
use serde::Serialize;

use crate::config::RelayConfig;
use crate::spool::inspection::{BatchFacts, Damage, Finding, FoundRecord, Inspection, RecordFacts, Verdict, holder};
use crate::spool::{SpoolError, SpoolStatus};
use crate::status;

/// What `inspect` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All batches.
    Batches,
    /// The batch that has this sequence, and its records.
    Batch(Sequence),
    /// The records of an event.
    Event(EventId),
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// JSON for programs.
    Json,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SpoolCommandError {
    /// The spool can't be looked at.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// What it is asked for is not there.
    #[error("{0}; it may have been acknowledged, or never have been here")]
    NotFound(String),
    /// The answer can't be written.
    #[error("can't write the answer: {0}")]
    Output(#[from] io::Error),
    /// The answer can't be encoded.
    #[error("can't write the answer: {0}")]
    Json(#[from] serde_json::Error),
}

/// The answer of `spool status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpoolReport {
    /// Where the spool is.
    pub directory: PathBuf,
    /// The relay that has it open.
    pub relay_pid: Option<i32>,
    /// How it stands.
    #[serde(flatten)]
    pub spool: SpoolStatus,
}

fn directory(config: &RelayConfig) -> PathBuf {
    config.data_dir.join("spool")
}

/// How the spool of a configuration stands: what the relay says that has it open, else what its files say.
///
/// # Errors
/// [`SpoolCommandError::Spool`] if there is none, or it can't be read.
pub fn report(config: &RelayConfig) -> Result<SpoolReport, SpoolCommandError> {
    let directory = directory(config);
    let relay_pid = holder(&directory)?;
    // Another relay may listen where this one's configuration says.
    let told = relay_pid.and_then(|_| status::ask(config.admin_listen).ok());
    let told = told.filter(|told| i32::try_from(told.pid).ok() == relay_pid).map(|told| told.spool);
    let spool = match told {
        Some(spool) => spool,
        None => Inspection::open(&directory)?.status(&config.spool)?,
    };
    Ok(SpoolReport { directory, relay_pid, spool })
}

/// Prints how the spool stands.
///
/// # Errors
/// As [`report`], or the answer can't be written.
pub fn print_status(
    config: &RelayConfig,
    form: Form,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), SpoolCommandError> {
    let report = report(config)?;
    match form {
        Form::Json => print_json(out, &report),
        Form::Text => Ok(out.write_all(report.screen(now).as_bytes())?),
    }
}

impl SpoolReport {
    /// One screen for people.
    #[must_use]
    pub fn screen(&self, now: Timestamp) -> String {
        let spool = &self.spool;
        let size = |bytes| ByteSize::bytes(bytes).to_string();
        let open = self.relay_pid.map_or_else(|| "by nobody".to_owned(), |pid| format!("by the relay with pid {pid}"));
        let mut lines = vec![
            ("spool", format!("{} (format {})", spool.id, spool.format_version)),
            ("directory", self.directory.display().to_string()),
            ("open", open),
        ];
        let former =
            spool.former_ids.iter().map(|former| ("former id", format!("{} up to {}", former.spool_id, former.up_to)));
        lines.extend(former);
        lines.push(("holds", spool.line(now)));
        lines.extend(spool.lanes.iter().map(|lane| {
            let whose = lane.project.map_or_else(|| "shared".to_owned(), |project| format!("project {project}"));
            ("lane", format!("{whose}: {} batches", lane.batches))
        }));
        lines.push(("quarantine", format!("{} batches, {}", spool.quarantined_batches, size(spool.quarantined_bytes))));
        let free = spool.free_disk_bytes.map_or_else(|| "unknown".to_owned(), size);
        lines.push(("free disk", format!("{free}; takes nothing below {}", size(spool.min_free_bytes))));
        lines.into_iter().map(|(name, value)| format!("{name:<14}{value}\n")).collect()
    }
}

/// Prints what is in the spool.
///
/// # Errors
/// [`SpoolCommandError`]: it can't be read, what was asked for is not there, or the answer can't be written.
pub fn print_inspection(
    config: &RelayConfig,
    wanted: Wanted,
    form: Form,
    now: Timestamp,
    out: impl Write,
) -> Result<(), SpoolCommandError> {
    let inspection = Inspection::open(&directory(config))?;
    let mut out = BufWriter::new(out);
    match wanted {
        Wanted::Batches => print_batches(&inspection, form, now, &mut out)?,
        Wanted::Batch(sequence) => {
            let (batch, records) = inspection
                .batch_with(sequence)?
                .ok_or_else(|| SpoolCommandError::NotFound(format!("no batch has sequence {sequence}")))?;
            print_batch(&batch, &records, form, now, &mut out)?;
        }
        Wanted::Event(event_id) => print_event(&inspection, event_id, form, now, &mut out)?,
    }
    Ok(out.flush()?)
}

fn print_batches(
    inspection: &Inspection,
    form: Form,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), SpoolCommandError> {
    if form == Form::Text {
        writeln!(out, "{BATCH_HEAD}")?;
        return inspection.batches(|batch| Ok(writeln!(out, "{}", batch_line(&batch, now))?));
    }
    let mut list = JsonList::begin(out)?;
    inspection.batches(|batch| list.entry(&batch))?;
    list.end("\n")
}

fn print_batch(
    batch: &BatchFacts,
    records: &[RecordFacts],
    form: Form,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), SpoolCommandError> {
    if form == Form::Json {
        return print_json(out, &serde_json::json!({ "batch": batch, "records": records }));
    }
    writeln!(out, "{BATCH_HEAD}\n{}", batch_line(batch, now))?;
    records.iter().try_for_each(|record| Ok(writeln!(out, "{}", record_line(record, now))?))
}

fn print_event(
    inspection: &Inspection,
    event_id: EventId,
    form: Form,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<(), SpoolCommandError> {
    let mut found = 0;
    if form == Form::Text {
        inspection.records_of_event(event_id, |FoundRecord { batch, record }| {
            found += 1;
            Ok::<_, SpoolCommandError>(writeln!(
                out,
                "{BATCH_HEAD}\n{}\n{}",
                batch_line(&batch, now),
                record_line(&record, now)
            )?)
        })?;
    } else {
        let mut list = JsonList::begin(out)?;
        inspection.records_of_event(event_id, |record| {
            found += 1;
            list.entry(&record)
        })?;
        list.end("\n")?;
    }
    if found == 0 {
        return Err(SpoolCommandError::NotFound(format!("no record has event {event_id}")));
    }
    Ok(())
}

/// Reads everything, prints what is damaged, and says what it came to.
///
/// # Errors
/// [`SpoolCommandError`]: it can't be read for another reason than damage, or the answer can't be written.
pub fn print_verification(config: &RelayConfig, form: Form, out: impl Write) -> Result<Verdict, SpoolCommandError> {
    let mut out = BufWriter::new(out);
    let directory = directory(config);
    let verdict = match form {
        Form::Text => verify(&directory, |finding| {
            let place = finding.first.map_or_else(String::new, |first| format!("batch {first}: "));
            Ok(writeln!(out, "damaged: {place}{}\n  {}", one_line(&finding.problem), finding.remedy)?)
        })?,
        Form::Json => {
            out.write_all(b"{\"findings\":")?;
            let mut list = JsonList::begin(&mut out)?;
            let verdict = verify(&directory, |finding| list.entry(&finding))?;
            list.end(",\n")?;
            let clean = verdict.findings == 0;
            writeln!(out, "\"clean\":{clean},\"checked\":{}}}", serde_json::to_string(&verdict)?)?;
            verdict
        }
    };
    if form == Form::Text {
        writeln!(out, "{}", verdict_line(&verdict))?;
    }
    out.flush()?;
    Ok(verdict)
}

/// A spool that can't even be opened is damaged too.
fn verify(
    directory: &Path,
    mut found: impl FnMut(Finding) -> Result<(), SpoolCommandError>,
) -> Result<Verdict, SpoolCommandError> {
    match Inspection::open(directory) {
        Ok(inspection) => inspection.verify(found),
        Err(error) if error.is_damage() => {
            let damage = Damage::Files;
            found(Finding { damage, first: None, problem: error.to_string(), remedy: damage.remedy() })?;
            Ok(Verdict { findings: 1, ..Verdict::default() })
        }
        Err(error) => Err(error.into()),
    }
}

fn verdict_line(verdict: &Verdict) -> String {
    let Verdict { batches, records, bytes, gaps, quarantined_batches, findings } = verdict;
    let result =
        if *findings == 0 { "everything is as it was written".to_owned() } else { format!("{findings} damaged") };
    format!(
        "{result}: {records} records in {batches} batches, {}; {gaps} gaps of what was acknowledged; {quarantined_batches} batches \
         set aside",
        ByteSize::bytes(*bytes)
    )
}

const BATCH_HEAD: &str = "      first        last  state        records         raw      stored  oldest  lane";

fn batch_line(batch: &BatchFacts, now: Timestamp) -> String {
    let last = batch.last.map_or_else(|| "?".to_owned(), |last| last.to_string());
    let age = batch
        .oldest_received_at
        .map_or_else(|| "-".to_owned(), |oldest| Span::secs(now.since(oldest).as_secs()).to_string());
    let lane = batch.project.map_or_else(|| "shared".to_owned(), |project| project.to_string());
    let why = [&batch.reason, &batch.detail].into_iter().flatten().map(|text| format!("  {}", one_line(text)));
    format!(
        "{:>11} {last:>11}  {:<11} {:>8} {:>11} {:>11} {age:>7}  {lane}{}",
        batch.first.to_string(),
        batch.state.as_str(),
        batch.records,
        batch.raw_bytes,
        batch.bytes,
        why.collect::<String>()
    )
}

fn record_line(record: &RecordFacts, now: Timestamp) -> String {
    let age = Span::secs(now.since(record.received_at).as_secs());
    let event = record.event_id.map_or_else(|| "no event".to_owned(), |id| format!("event {id}"));
    let mut line =
        format!("  record {}: project {}, {event}, {} bytes, {age} old", record.sequence, record.project, record.bytes);
    for item in &record.items {
        line.push_str(&format!(", {} of {} bytes", one_line(&item.item_type), item.bytes));
    }
    if let Some(chunk) = record.chunk {
        line.push_str(&format!(", piece of blob {:?} from byte {}", chunk.blob_id, chunk.offset));
    }
    for blob in &record.blobs {
        line.push_str(&format!(", item {} is blob {:?} of {} bytes", blob.item, blob.blob_id, blob.bytes));
    }
    line
}

/// Without control characters, so that nothing that a client or a damaged disk wrote moves a terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn print_json(out: &mut impl Write, value: &impl Serialize) -> Result<(), SpoolCommandError> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

/// A JSON array that is written entry by entry.
struct JsonList<'a, W> {
    out: &'a mut W,
    separator: &'static str,
}

impl<'a, W: Write> JsonList<'a, W> {
    fn begin(out: &'a mut W) -> io::Result<Self> {
        out.write_all(b"[")?;
        Ok(Self { out, separator: "\n" })
    }

    fn entry(&mut self, value: &impl Serialize) -> Result<(), SpoolCommandError> {
        self.out.write_all(self.separator.as_bytes())?;
        self.separator = ",\n";
        Ok(serde_json::to_writer(&mut *self.out, value)?)
    }

    fn end(self, after: &str) -> Result<(), SpoolCommandError> {
        Ok(write!(self.out, "]{after}")?)
    }
}
