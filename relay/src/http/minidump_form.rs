//! What crash reporters upload with a minidump, as an envelope.
//!
//! | part | becomes |
//! | --- | --- |
//! | file `upload_file_minidump` | the dump; where it is a multipart body itself (old Electron), the part of that name in it |
//! | files `__sentry-event`, `__sentry-breadcrumb1`, `__sentry-breadcrumb2` | MessagePack for the event (`crash`) |
//! | file `view-hierarchy.json` | a view hierarchy |
//! | other files | attachments |
//! | parts that are no files | form data for the event (`crash::form`) |

use std::io::Read as _;

use picket_common::envelope::{AttachmentHeader, Envelope, Item};
use picket_common::multipart::MAX_BOUNDARY_BYTES;

use super::large_body::{Consumer as _, read_refusal};
use super::upload::{Form, Upload, UploadedFile};
use crate::crash::{self, BREADCRUMBS, EVENT_PAYLOAD, MINIDUMP, VIEW_HIERARCHY, Workshop};
use crate::refusal::Refusal;
use crate::staging::Content;

/// The part that holds the dump.
pub(crate) const DUMP_PART: &str = "upload_file_minidump";
/// How a dump is called that has no name.
const DUMP_NAME: &str = "minidump.dmp";

/// The envelope of an upload, with its crash taken apart. Blocking.
///
/// # Errors
/// 400 if there is no dump, or what is in its place is none; what taking it apart refuses.
pub(crate) fn of_upload(form: Form) -> Result<(Envelope, Workshop), Refusal> {
    let Form { files, fields, mut workshop } = form;
    let mut dump = None;
    let mut items = Vec::new();
    for file in files {
        if file.header.name == DUMP_PART && dump.is_none() {
            dump = Some(file);
        } else {
            items.push(attachment(file, &mut workshop));
        }
    }
    let dump = dump.ok_or_else(missing)?;
    if !fields.is_empty() {
        items.push(crash::form_data_item(&fields));
    }
    let filename = dump.header.filename.clone();
    let (content, workshop) = unnested(dump.content, workshop)?;
    envelope(content, filename.as_deref(), items, workshop)
}

/// The envelope of a dump that is a body of its own. Blocking.
///
/// # Errors
/// As [`of_upload`].
pub(crate) fn of_dump(content: Content, workshop: Workshop) -> Result<(Envelope, Workshop), Refusal> {
    envelope(content, None, Vec::new(), workshop)
}

fn envelope(
    content: Content,
    filename: Option<&str>,
    others: Vec<Item>,
    mut workshop: Workshop,
) -> Result<(Envelope, Workshop), Refusal> {
    let filename = filename.filter(|name| !name.is_empty()).unwrap_or(DUMP_NAME);
    let header = AttachmentHeader {
        attachment_type: Some(MINIDUMP),
        filename: Some(filename),
        content_type: Some("application/x-dmp"),
    };
    let item = workshop.attachment(header, content);
    let dump = crash::unpacked_dump(item, &mut workshop)?;
    if !crash::has_dump_magic(&dump).map_err(|failure| read_refusal(&failure))? {
        return Err(Refusal::malformed("invalid_minidump", "invalid minidump: it begins neither with MDMP nor PMDM"));
    }
    let mut envelope = Envelope::empty();
    envelope.push(dump);
    others.into_iter().for_each(|item| envelope.push(item));
    Ok((crash::expand(envelope, &mut workshop)?, workshop))
}

fn attachment(file: UploadedFile, workshop: &mut Workshop) -> Item {
    let UploadedFile { header, content } = file;
    let is_called = |name: &str| header.name == name || header.filename.as_deref() == Some(name);
    let attachment_type = if is_called("__sentry-event") {
        Some(EVENT_PAYLOAD)
    } else if is_called("__sentry-breadcrumb1") || is_called("__sentry-breadcrumb2") {
        Some(BREADCRUMBS)
    } else if is_called("view-hierarchy.json") {
        Some(VIEW_HIERARCHY)
    } else {
        None
    };
    let filename = header.filename.as_deref().unwrap_or(&header.name);
    let content_type = header.content_type.as_deref();
    workshop.attachment(AttachmentHeader { attachment_type, filename: Some(filename), content_type }, content)
}

/// The dump within a multipart body that stands in its place; other content as it is.
fn unnested(content: Content, workshop: Workshop) -> Result<(Content, Workshop), Refusal> {
    let start = content.read_range(0..MAX_BOUNDARY_BYTES as u64 + 4).map_err(|failure| read_refusal(&failure))?;
    let Some(boundary) = first_boundary(&start) else { return Ok((content, workshop)) };
    let mut upload = Upload::new(boundary, Some(DUMP_PART), workshop)?;
    let mut reader = content.reader();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut piece).map_err(|failure| read_refusal(&failure))? {
            0 => break,
            count => upload.push(&piece[..count])?,
        }
    }
    let Form { files, workshop, .. } = upload.finish()?;
    let dump = files.into_iter().find(|file| file.header.name == DUMP_PART).ok_or_else(missing)?;
    Ok((dump.content, workshop))
}

/// The boundary in the first line of a multipart body.
fn first_boundary(start: &[u8]) -> Option<&str> {
    let rest = start.strip_prefix(b"--")?;
    let end = memchr::memmem::find(rest, b"\r\n")?;
    std::str::from_utf8(&rest[..end]).ok().filter(|boundary| !boundary.is_empty())
}

fn missing() -> Refusal {
    let detail = format!("missing minidump: expected a file part called {DUMP_PART}");
    Refusal::malformed("missing_minidump_upload", detail)
}
