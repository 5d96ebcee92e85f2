//! Unreal Engine crash reports: a zlib stream of a container of files (`picket_common::unreal`).

use std::io;

use picket_common::envelope::{AttachmentHeader, Item};
use picket_common::unreal::{self, UnrealFile};

use super::{APPLE_REPORT, CrashError, MINIDUMP, Workshop, pour, reader};
use crate::staging::Content;

/// Most files in a container; as many attachments as an envelope may have are more than the engine writes.
const MAX_FILES: usize = 30;

/// The files of a report as attachments. The inflated container is staged once, and its large files are parts of it. Blocking.
///
/// # Errors
/// [`CrashError`] if it is damaged or inflates to more than attachments may have together.
pub(super) fn files(report: &Item, workshop: &mut Workshop) -> Result<Vec<Item>, CrashError> {
    let most = workshop.limits.max_attachments_bytes.as_u64();
    let container = workshop
        .unpack(report, most, |_, sink| pour(flate2::read::ZlibDecoder::new(reader(report)), sink, "unreal_report"))?;
    let files = unreal::files(container.len(), MAX_FILES, |range| container.read_range(range))?;
    files.into_iter().map(|file| attachment(&file, &container, workshop)).collect()
}

fn attachment(file: &UnrealFile, container: &Content, workshop: &mut Workshop) -> Result<Item, CrashError> {
    let content = container.part(file.range.clone());
    let (attachment_type, content_type) = kind(&file.name, &content)?;
    let header = AttachmentHeader { attachment_type, filename: Some(&file.name), content_type: Some(content_type) };
    // A small part of a staged container is not worth records of its own.
    if let Content::Staged(_) = content
        && content.len() <= super::MEMORY_BYTES as u64
    {
        let mut sink = workshop.sink(content.len());
        let bytes = content.read_range(0..content.len())?;
        sink.write(&bytes).map_err(|failure| CrashError::of_sink(failure, "unreal_report"))?;
        let content = sink.finish().map_err(|failure| CrashError::of_sink(failure, "unreal_report"))?;
        return Ok(workshop.attachment(header, content));
    }
    Ok(workshop.attachment(header, content))
}

/// Attachment type and media type of a file, by its name, else by how it begins.
fn kind(name: &str, content: &Content) -> io::Result<(Option<&'static str>, &'static str)> {
    if name == "CrashContext.runtime-xml" {
        return Ok((Some("unreal.context"), "text/xml"));
    }
    if name.ends_with(".log") {
        return Ok((Some("unreal.logs"), "text/plain"));
    }
    let start = content.read_range(0..20)?;
    Ok(if start.starts_with(b"MDMP") || start.starts_with(b"PMDM") {
        (Some(MINIDUMP), "application/x-dmp")
    } else if start.starts_with(b"Incident Identifier:") {
        (Some(APPLE_REPORT), "text/plain")
    } else {
        (None, "application/octet-stream")
    })
}
