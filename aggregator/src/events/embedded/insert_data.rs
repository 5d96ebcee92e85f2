//! Hands the data of an insert to the engine in an anonymous memory file, never as query text (`statement.rs` says why).
//!
//! The file has no name and lives in memory; the engine opens it as `/proc/self/fd/N` while [`DataFile`] holds it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;

use super::compression::{BlockDecoder, DecodeError, RequestEncoding};

/// The data of an insert as it came over HTTP.
#[derive(Debug)]
pub(super) struct InsertData {
    pub(super) chunks: Vec<Bytes>,
    pub(super) encoding: RequestEncoding,
    /// Bytes after decoding.
    pub(super) limit: usize,
}

/// Why the data could not be handed over.
#[derive(Debug, Error)]
pub(super) enum InsertDataError {
    #[error("cannot decode the data: {0}")]
    Decode(#[from] DecodeError),
    #[error("cannot make a memory file for the data of an insert")]
    File(#[from] io::Error),
}

/// A memory file that holds the decoded data.
#[derive(Debug)]
pub(super) struct DataFile {
    file: File,
}

// === impl InsertData ===

impl InsertData {
    /// Decodes into a memory file; each chunk is freed as soon as it is copied, so the data is not held twice.
    pub(super) fn into_file(self) -> Result<DataFile, InsertDataError> {
        let mut file = File::from(memfd_create("picket-insert", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
        match self.encoding {
            RequestEncoding::Blocks => {
                let mut decoder = BlockDecoder::new(self.limit);
                for chunk in self.chunks {
                    decoder.push(&chunk, &mut file)?;
                }
                decoder.finish()?;
            }
            RequestEncoding::Identity => {
                for chunk in self.chunks {
                    file.write_all(&chunk)?;
                }
            }
        }
        Ok(DataFile { file })
    }
}

// === impl DataFile ===

impl DataFile {
    /// Where this process can open the file, for as long as `self` lives.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn the_file_holds_all_chunks_in_order() {
        let data = InsertData {
            chunks: vec![Bytes::from_static(b"ab\n\n"), Bytes::from_static(b"\0c")],
            encoding: RequestEncoding::Identity,
            limit: 100,
        };

        let file = data.into_file().unwrap();

        assert_eq!(fs::read(file.path()).unwrap(), b"ab\n\n\0c");
    }
}
