//! A scrubbed stream that is read: the form in which large attachments go from staging to the spool.

use std::io::{self, Read};

use super::AttachmentScrubber;

/// How much is read from the source at a time.
const READ_BYTES: usize = 64 * 1024;

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

/// Reads a source through a scrubber. Blocking, as its source is.
#[derive(Debug)]
pub struct ScrubbingReader<R, S = AttachmentScrubber> {
    source: R,
    /// `None` once the source has ended.
    scrubber: Option<S>,
    input: Box<[u8]>,
    ready: Vec<u8>,
    given: usize,
}

impl<R: Read, S: ScrubStream> ScrubbingReader<R, S> {
    /// Puts a scrubber behind a source.
    pub fn new(source: R, scrubber: S) -> Self {
        let input = vec![0; READ_BYTES].into_boxed_slice();
        Self { source, scrubber: Some(scrubber), input, ready: Vec::new(), given: 0 }
    }

    /// Reads on until something is ready or the source has ended.
    fn refill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        while self.ready.is_empty()
            && let Some(mut scrubber) = self.scrubber.take()
        {
            let count = match self.source.read(&mut self.input) {
                Ok(count) => count,
                Err(failure) => {
                    self.scrubber = Some(scrubber);
                    return Err(failure);
                }
            };
            if count == 0 {
                scrubber.finish(&mut self.ready);
            } else {
                scrubber.push(&self.input[..count], &mut self.ready);
                self.scrubber = Some(scrubber);
            }
        }
        Ok(())
    }
}

impl<R: Read, S: ScrubStream> Read for ScrubbingReader<R, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.refill()?;
        }
        let count = buffer.len().min(self.ready.len() - self.given);
        buffer[..count].copy_from_slice(&self.ready[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}
