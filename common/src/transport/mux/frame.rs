//! The multiplexer's frames.
//!
//! ```text
//! frame := kind: u8 | stream: u32 BE | number: u32 BE | body
//!          └──────────────── HEADER_BYTES ──────────┘   `number` bytes of Data and Close, nothing else has one
//!
//! kind      stream   number          says
//! Data      id       length          bytes of the stream; the first frame of the next id opens it
//! Finish    id       0               no more bytes follow
//! Arrived   id       0               everything up to Finish is here
//! Reset     id       0               no more bytes follow, and what came is not whole
//! Stop      id       0               more bytes are not wanted
//! Credit    id       bytes           so many more may be sent on this stream
//! Streams   0        count           so many more streams may be opened
//! Ping      0        0               answer with Pong
//! Pong      0        0               answer to Ping
//! Close     code     length          the connection is closed; the body is the reason, UTF-8
//! ```

/// Bytes of a frame before its body.
pub(super) const HEADER_BYTES: usize = 9;
/// Most bytes of a body.
pub(super) const MAX_BODY: usize = 16 * 1024;
/// Most bytes of a reason to close.
pub(super) const MAX_REASON: usize = 1024;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 0,
    Finish = 1,
    Arrived = 2,
    Reset = 3,
    Stop = 4,
    Credit = 5,
    Streams = 6,
    Ping = 7,
    Pong = 8,
    Close = 9,
}

/// A frame without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    pub(super) number: u32,
}

/// The bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidFrame {
    #[error("frame kind {0} is not known")]
    Kind(u8),
    #[error("a frame of {0} bytes is too long")]
    Length(u32),
}

// === impl Header ===

impl Header {
    pub(super) const fn new(kind: Kind, stream: u32, number: u32) -> Self {
        Self { kind, stream, number }
    }

    /// How many bytes of body follow.
    pub(super) const fn body_bytes(self) -> usize {
        match self.kind {
            Kind::Data | Kind::Close => self.number as usize,
            _ => 0,
        }
    }

    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1..5].copy_from_slice(&self.stream.to_be_bytes());
        bytes[5..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, InvalidFrame> {
        let [kind, s0, s1, s2, s3, n0, n1, n2, n3] = bytes;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Finish,
            2 => Kind::Arrived,
            3 => Kind::Reset,
            4 => Kind::Stop,
            5 => Kind::Credit,
            6 => Kind::Streams,
            7 => Kind::Ping,
            8 => Kind::Pong,
            9 => Kind::Close,
            other => return Err(InvalidFrame::Kind(other)),
        };
        let header = Self::new(kind, u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([n0, n1, n2, n3]));
        let bound = if kind == Kind::Close { MAX_REASON } else { MAX_BODY };
        if header.body_bytes() > bound {
            return Err(InvalidFrame::Length(header.number));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_read_as_a_frame_is_written_as_it_came(bytes: [u8; HEADER_BYTES]) {
            if let Ok(header) = Header::decode(bytes) {
                prop_assert_eq!(header.encode(), bytes);
                prop_assert!(header.body_bytes() <= MAX_BODY);
            }
        }

        #[test]
        fn frames_of_the_known_kinds_are_read_back(kind in 0_u8..10, stream: u32, number in 0_u32..=1024) {
            let mut bytes = Header::new(Kind::Ping, stream, number).encode();
            bytes[0] = kind;
            prop_assert_eq!(Header::decode(bytes).unwrap().encode(), bytes);
        }
    }
}
