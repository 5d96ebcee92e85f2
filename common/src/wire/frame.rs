//! Length-delimited JSON frames.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer ended the stream between frames: not a fault.
    #[error("the peer closed the stream")]
    Closed,
    /// The stream broke or ended inside a frame.
    #[error("reading or writing a frame failed: {0}")]
    Io(#[from] std::io::Error),
    /// The announced length is over the bound for this place in the protocol.
    #[error("a frame of {length} bytes is over the bound of {bound}")]
    TooLong {
        /// What the length says.
        length: usize,
        /// The bound.
        bound: usize,
    },
    /// The JSON does not fit the message.
    #[error("a frame is not the message expected here: {0}")]
    Message(#[from] serde_json::Error),
}

/// Reads one frame of at most `bound` bytes.
///
/// # Errors
/// [`FrameError::Closed`] where the stream ends before the first byte; the others as they say. Memory is taken as bytes
/// arrive, so a false length costs nothing.
pub async fn read_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    bound: usize,
) -> Result<T, FrameError> {
    let mut prefix = [0; 4];
    let first = stream.read(&mut prefix[..1]).await?;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let length = u32::from_be_bytes(prefix) as usize;
    if length > bound {
        return Err(FrameError::TooLong { length, bound });
    }
    let mut json = Vec::new();
    let read = stream.take(length as u64).read_to_end(&mut json).await?;
    if read < length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(serde_json::from_slice(&json)?)
}

/// Writes one frame of at most `bound` bytes.
///
/// # Errors
/// [`FrameError::TooLong`] where the message is over the bound; I/O errors of the stream.
pub async fn write_frame<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
    bound: usize,
) -> Result<(), FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    if length > bound {
        return Err(FrameError::TooLong { length, bound });
    }
    let prefix = u32::try_from(length).map_err(|_| FrameError::TooLong { length, bound })?;
    frame[..4].copy_from_slice(&prefix.to_be_bytes());
    stream.write_all(&frame).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], bound: usize) -> Result<serde_json::Value, FrameError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stream = bytes;
        runtime.block_on(read_frame(&mut stream, bound))
    }

    #[tokio::test]
    async fn frames_follow_each_other_and_a_closed_stream_is_told_apart() {
        let mut stream = Vec::new();
        write_frame(&mut stream, &"one", 100).await.unwrap();
        write_frame(&mut stream, &2, 100).await.unwrap();
        let mut stream = stream.as_slice();
        assert_eq!(read_frame::<String>(&mut stream, 100).await.unwrap(), "one");
        assert_eq!(read_frame::<u8>(&mut stream, 100).await.unwrap(), 2);
        assert!(matches!(read_frame::<u8>(&mut stream, 100).await, Err(FrameError::Closed)));
    }

    #[test]
    fn a_false_length_is_refused_before_memory_is_taken() {
        assert!(matches!(read(&[0xff; 8], 100), Err(FrameError::TooLong { .. })));
        assert!(matches!(read(&[0, 0, 0, 9, b'1'], 100), Err(FrameError::Io(_))));
        assert!(matches!(read(&[0, 0], 100), Err(FrameError::Io(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes, 32);
        }
    }
}
