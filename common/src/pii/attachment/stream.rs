//! What every scrubber of a stream can do, so that whoever moves the bytes need not know which kind of file they are.

use super::AttachmentScrubber;

/// What scrubs a stream: bytes go in, as many come out, some of them later.
pub trait ScrubStream {
    /// Takes the next bytes and appends what is ready.
    fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>);
    /// Ends the stream and appends the rest.
    fn finish(self, out: &mut Vec<u8>);
}

impl ScrubStream for AttachmentScrubber {
    fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        Self::push(self, chunk, out);
    }

    fn finish(self, out: &mut Vec<u8>) {
        Self::finish(self, out);
    }
}
