//! Multipart uploads: files and form fields, taken in by pieces.
//!
//! Invariants: each file is within the limit of attachments and staged if it is large; names and values of all fields together
//! are within [`MAX_FIELD_BYTES`]; there are at most [`MAX_FILES`] files.

use picket_common::multipart::{Event, MultipartError, Parser, PartHeader};

use super::large_body::{Consumer, sink_refusal};
use crate::crash::Workshop;
use crate::refusal::Refusal;
use crate::staging::{Content, Sink};

/// Most bytes of form fields, with their names.
const MAX_FIELD_BYTES: usize = 1024 * 1024;
/// Most files: as many attachments as an envelope may have.
const MAX_FILES: usize = 30;
/// What a field is charged beside its bytes, so that empty ones are bounded too.
const FIELD_OVERHEAD_BYTES: usize = 64;

/// A file of an upload.
#[derive(Debug)]
pub(crate) struct UploadedFile {
    /// What its headers say.
    pub(crate) header: PartHeader,
    /// Its bytes.
    pub(crate) content: Content,
}

/// What an upload brought.
pub(crate) struct Form {
    /// Parts with a file name, in their order.
    pub(crate) files: Vec<UploadedFile>,
    /// Parts without, in their order.
    pub(crate) fields: Vec<(String, String)>,
    /// For what is done with them next.
    pub(crate) workshop: Workshop,
}

/// Reads an upload.
pub(crate) struct Upload {
    parser: Parser,
    parts: Parts,
}

struct Parts {
    workshop: Workshop,
    /// The name of a part that is a file even without a file name.
    file_part: Option<&'static str>,
    open: Option<OpenPart>,
    files: Vec<UploadedFile>,
    fields: Vec<(String, String)>,
    field_bytes: usize,
}

enum OpenPart {
    File(PartHeader, Sink),
    Field(String, Vec<u8>),
}

// === impl Upload ===

impl Upload {
    /// Reads uploads with this boundary. A part called `file_part` is a file, whether it has a file name or not.
    ///
    /// # Errors
    /// 400 if the boundary can't be one.
    pub(crate) fn new(boundary: &str, file_part: Option<&'static str>, workshop: Workshop) -> Result<Self, Refusal> {
        let parser = Parser::new(boundary).map_err(Refusal::from)?;
        let parts = Parts { workshop, file_part, open: None, files: Vec::new(), fields: Vec::new(), field_bytes: 0 };
        Ok(Self { parser, parts })
    }
}

impl Consumer for Upload {
    type Output = Form;

    fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        let Self { parser, parts } = self;
        parser.push(piece, &mut |event| parts.note(event))
    }

    fn finish(self) -> Result<Form, Refusal> {
        self.parser.finish().map_err(Refusal::from)?;
        let Parts { workshop, files, fields, .. } = self.parts;
        Ok(Form { files, fields, workshop })
    }
}

// === impl Parts ===

impl Parts {
    fn note(&mut self, event: Event<'_>) -> Result<(), Refusal> {
        match event {
            Event::Begin(header) => self.begin(header),
            Event::Data(data) => self.data(data),
            Event::End => self.end(),
        }
    }

    fn begin(&mut self, header: PartHeader) -> Result<(), Refusal> {
        let is_file = header.filename.is_some() || self.file_part.is_some_and(|name| header.name == name);
        self.open = Some(if is_file {
            if self.files.len() == MAX_FILES {
                let detail = format!("too many items of type attachment in one upload: the limit is {MAX_FILES}");
                return Err(Refusal::TooLarge { what: "attachment".into(), detail });
            }
            let limit = self.workshop.limits.max_attachment_bytes.as_u64();
            OpenPart::File(header, self.workshop.sink(limit))
        } else {
            self.charge(header.name.len() + FIELD_OVERHEAD_BYTES)?;
            OpenPart::Field(header.name, Vec::new())
        });
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if let Some(OpenPart::Field(..)) = self.open {
            self.charge(data.len())?;
        }
        match &mut self.open {
            Some(OpenPart::File(_, sink)) => sink.write(data).map_err(|failure| sink_refusal(failure, "attachment"))?,
            Some(OpenPart::Field(_, value)) => value.extend_from_slice(data),
            None => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match self.open.take() {
            Some(OpenPart::File(header, sink)) => {
                let content = sink.finish().map_err(|failure| sink_refusal(failure, "attachment"))?;
                self.files.push(UploadedFile { header, content });
            }
            Some(OpenPart::Field(name, value)) => {
                self.fields.push((name, String::from_utf8_lossy(&value).into_owned()));
            }
            None => {}
        }
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.field_bytes = self.field_bytes.saturating_add(bytes);
        if self.field_bytes > MAX_FIELD_BYTES {
            let detail = format!("item of type form_data is too large: the limit is {MAX_FIELD_BYTES}");
            return Err(Refusal::TooLarge { what: "form_data".into(), detail });
        }
        Ok(())
    }
}

impl From<MultipartError> for Refusal {
    fn from(error: MultipartError) -> Self {
        Self::malformed("invalid_multipart", format!("invalid multipart body: {error}"))
    }
}
