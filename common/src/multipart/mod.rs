//! Multipart bodies (`multipart/form-data`, RFC 7578 and RFC 2046 §5.1), taken apart as they arrive.
//!
//! ```text
//! preamble CRLF--boundary CRLF headers CRLF CRLF data CRLF--boundary CRLF … CRLF--boundary-- epilogue
//!          ▲ the first CRLF may be missing
//! ```
//!
//! [`Parser::push`] is given the body piece by piece, in pieces of any size, and tells what it finds as [`Event`]s at once.
//!
//! Invariants:
//! - it holds no more than the piece it was given, [`MAX_HEADER_BYTES`] and a boundary, however long a part is;
//! - what it tells does not depend on how the body was cut into pieces (property test);
//! - the data of all parts, their headers and the boundaries are the body: nothing is told twice or left out.
//!
//! What it does not do: hold parts, limit their number or size, or decode transfer encodings (RFC 7578 §4.7 forbids them).

mod header;
#[cfg(test)]
mod tests;

use memchr::memmem::Finder;

pub use header::{PartHeader, boundary_of};

/// Longest headers of a part. Crash reporters send about 200 bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Longest boundary. RFC 2046 allows 70 characters; some clients are more generous.
pub const MAX_BOUNDARY_BYTES: usize = 200;
/// Most blanks between a boundary and the end of its line.
const MAX_PADDING_BYTES: usize = 1024;

/// What a body consists of, in its order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A part begins.
    Begin(PartHeader),
    /// The next bytes of the part's data.
    Data(&'a [u8]),
    /// The part is complete.
    End,
}

/// Why a body is no multipart body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The content type names no boundary, or one that can't be.
    #[error("expected a boundary of 1 to {MAX_BOUNDARY_BYTES} characters in the content type")]
    Boundary,
    /// Something else than the end of a line follows a boundary.
    #[error("a boundary is not followed by the end of its line")]
    AfterBoundary,
    /// The headers of a part have no end.
    #[error("the headers of a part are longer than {MAX_HEADER_BYTES} bytes")]
    HeaderTooLong,
    /// The headers of a part can't be read.
    #[error("the headers of a part are not valid: expected Content-Disposition with a name")]
    Header,
    /// The body ends before its last boundary.
    #[error("the body ends before its last boundary")]
    Incomplete,
}

/// Takes one body apart.
#[derive(Debug)]
pub struct Parser {
    /// CRLF, two dashes and the boundary.
    delimiter: Finder<'static>,
    state: State,
    /// What was given and is not told yet.
    pending: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    AfterBoundary,
    Header,
    Data,
    Epilogue,
}

/// Whether more can be told before more is given.
enum Progress {
    Made,
    NeedsMore,
}

// === impl Parser ===

impl Parser {
    /// A parser for bodies with this boundary.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`] if it is empty or too long.
    pub fn new(boundary: &str) -> Result<Self, MultipartError> {
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
            return Err(MultipartError::Boundary);
        }
        let delimiter = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // As if the body began with a line break, so that the first boundary is found like all others.
        Ok(Self { delimiter, state: State::Preamble, pending: b"\r\n".to_vec() })
    }

    /// Takes the next piece of the body and tells what is in it.
    ///
    /// # Errors
    /// [`MultipartError`], or what `tell` returns; the parser is of no use then.
    pub fn push<E: From<MultipartError>>(
        &mut self,
        piece: &[u8],
        tell: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pending.extend_from_slice(piece);
        let pending = std::mem::take(&mut self.pending);
        let mut rest: &[u8] = &pending;
        while let Progress::Made = self.step(&mut rest, tell)? {}
        let told = pending.len() - rest.len();
        self.pending = pending;
        self.pending.drain(..told);
        // A part's headers or a boundary, at most; the capacity of a large piece is not kept for them.
        self.pending.shrink_to(MAX_HEADER_BYTES);
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`MultipartError::Incomplete`] if it is not at its end.
    pub fn finish(self) -> Result<(), MultipartError> {
        if self.state == State::Epilogue { Ok(()) } else { Err(MultipartError::Incomplete) }
    }

    fn step<E: From<MultipartError>>(
        &mut self,
        rest: &mut &[u8],
        tell: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Progress, E> {
        match self.state {
            State::Preamble => Ok(self.up_to_boundary(rest).1),
            State::AfterBoundary => Ok(self.after_boundary(rest)?),
            State::Header => self.header(rest, tell),
            State::Data => {
                let (data, progress) = self.up_to_boundary(rest);
                if !data.is_empty() {
                    tell(Event::Data(data))?;
                }
                if matches!(progress, Progress::Made) {
                    tell(Event::End)?;
                }
                Ok(progress)
            }
            State::Epilogue => {
                *rest = &[];
                Ok(Progress::NeedsMore)
            }
        }
    }

    /// What comes before the next boundary, as far as it is certain; `Made` if the boundary was found and passed.
    fn up_to_boundary<'a>(&mut self, rest: &mut &'a [u8]) -> (&'a [u8], Progress) {
        if let Some(at) = self.delimiter.find(rest) {
            let before = &rest[..at];
            *rest = &rest[at + self.delimiter.needle().len()..];
            self.state = State::AfterBoundary;
            return (before, Progress::Made);
        }
        // The last bytes may be the beginning of a boundary.
        let certain = rest.len().saturating_sub(self.delimiter.needle().len() - 1);
        let (before, after) = rest.split_at(certain);
        *rest = after;
        (before, Progress::NeedsMore)
    }

    fn after_boundary(&mut self, rest: &mut &[u8]) -> Result<Progress, MultipartError> {
        if rest.starts_with(b"--") {
            self.state = State::Epilogue;
            return Ok(Progress::Made);
        }
        let padding = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
        if padding > MAX_PADDING_BYTES {
            return Err(MultipartError::AfterBoundary);
        }
        match &rest[padding..] {
            [b'\r', b'\n', ..] => {
                // The line break stays: where a part has no headers, it is the one before the empty line.
                *rest = &rest[padding..];
                self.state = State::Header;
                Ok(Progress::Made)
            }
            [] | [b'\r'] => Ok(Progress::NeedsMore),
            [b'-'] if padding == 0 => Ok(Progress::NeedsMore),
            _ => Err(MultipartError::AfterBoundary),
        }
    }

    fn header<E: From<MultipartError>>(
        &mut self,
        rest: &mut &[u8],
        tell: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<Progress, E> {
        let within = &rest[..rest.len().min(MAX_HEADER_BYTES)];
        let Some(end) = memchr::memmem::find(within, b"\r\n\r\n") else {
            if rest.len() >= MAX_HEADER_BYTES {
                return Err(MultipartError::HeaderTooLong.into());
            }
            return Ok(Progress::NeedsMore);
        };
        let header = PartHeader::read(&rest[..end]).ok_or(MultipartError::Header)?;
        *rest = &rest[end + 4..];
        self.state = State::Data;
        tell(Event::Begin(header))?;
        Ok(Progress::Made)
    }
}
