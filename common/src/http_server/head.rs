//! Waiting for the head of a request, with as little memory as that takes.
//!
//! hyper takes 16 KiB for a connection as soon as it looks at it, and keeps them while the connection is idle. So it gets to see a
//! connection only when a whole head is there (or more than a head may have, which it refuses). Until then there are the bytes that
//! have come, and nothing where none have.
//!
//! Invariant: all unfinished heads together take at most [`HEADS_BYTES`]. Where that is used up, the longest idle connections give
//! way, and what is unread waits in the kernel.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::sleep;

use super::seats::{LOOK_AGAIN, Seats};

/// Most bytes of all unfinished heads together: a kilobyte each if all of 16 384 connections are in the middle of one.
const HEADS_BYTES: usize = 16 * 1024 * 1024;
/// What is read at a time, on the stack: most heads are shorter, and there is often some of the body with them.
const READ_BYTES: usize = 8 * 1024;

/// What all unfinished heads take.
#[derive(Debug, Default)]
pub(super) struct HeadBytes(AtomicUsize);

/// A part of it.
#[derive(Debug)]
struct Held<'a> {
    all: &'a HeadBytes,
    bytes: usize,
}

// === impl HeadBytes ===

impl HeadBytes {
    const fn hold_nothing(&self) -> Held<'_> {
        Held { all: self, bytes: 0 }
    }
}

impl Held<'_> {
    /// Whether there is room for so many more, which are held then. Relaxed: the counter guards an amount, no other memory.
    fn grow_by(&mut self, more: usize) -> bool {
        let grow = |held: usize| held.checked_add(more).filter(|&sum| sum <= HEADS_BYTES);
        let is_room = self.all.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok();
        self.bytes += if is_room { more } else { 0 };
        is_room
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads until there is a whole head, or `most` bytes; what came with it is there too. `carried` has been read before. `None` if the
/// client has closed the connection.
///
/// # Errors
/// What reading returns.
pub(super) async fn whole_head<Stream: AsyncRead + Unpin>(
    stream: &mut Stream,
    carried: &[u8],
    most: usize,
    all: &HeadBytes,
    seats: &Seats,
) -> io::Result<Option<Bytes>> {
    let mut held = all.hold_nothing();
    let mut head = carried.to_vec();
    let mut looked_at = 0;
    loop {
        if head.len() >= most || is_whole(&head, looked_at) {
            return Ok(Some(Bytes::from(head)));
        }
        while !held.grow_by(head.len() - held.bytes) {
            seats.make_room_now_and_then();
            sleep(LOOK_AGAIN).await;
        }
        looked_at = head.len();
        if !poll_fn(|context| poll_more(stream, &mut head, context)).await? {
            return Ok(None);
        }
    }
}

/// Appends what has come; false at the end.
fn poll_more<Stream: AsyncRead + Unpin>(
    stream: &mut Stream,
    head: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    let mut bytes = [0; READ_BYTES];
    let mut buffer = ReadBuf::new(&mut bytes);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    let read = buffer.filled();
    head.reserve_exact(read.len());
    head.extend_from_slice(read);
    Poll::Ready(Ok(!read.is_empty()))
}

/// Whether there is an empty line behind another one. Up to `looked_at` there was none. Lines may end without a carriage return,
/// and there may be empty ones in front, as hyper has it (RFC 9112 §2.2).
fn is_whole(head: &[u8], looked_at: usize) -> bool {
    let start = head.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    // The last line feed that was seen may be followed by an empty line now.
    let from = start.max(looked_at.saturating_sub(2));
    let tail = head.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'\n', tail).any(|at| {
        let rest = &tail[at + 1..];
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn read(pieces: Vec<Vec<u8>>, most: usize) -> (Option<Bytes>, usize) {
        let (mut client, mut server) = tokio::io::duplex(64 * 1024);
        for piece in pieces {
            client.write_all(&piece).await.unwrap();
        }
        drop(client);
        let all = HeadBytes::default();
        let head = whole_head(&mut server, b"", most, &all, &Seats::new(1, Duration::ZERO)).await.unwrap();
        (head, all.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (text, is_whole_head) in [
            ("", false),
            ("\r\n\r\n", false),
            ("GET / HTTP/1.1\r\n", false),
            ("GET / HTTP/1.1\r\n\r", false),
            ("GET / HTTP/1.1\r\nhost: here\r\n", false),
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\n\n", true),
            ("\r\n\r\nGET / HTTP/1.1\n\r\n", true),
            ("GET / HTTP/1.1\r\nhost: here\r\n\r\nbody", true),
        ] {
            assert_eq!(is_whole(text.as_bytes(), 0), is_whole_head, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_no_error_and_gives_back_what_it_held() {
        assert_eq!(read(vec![b"GET / HT".to_vec()], 1000).await, (None, 0));
    }

    #[tokio::test]
    async fn what_is_longer_than_a_head_may_be_is_not_waited_for() {
        let (head, held) = read(vec![vec![b'x'; 9000]], 8192).await;
        assert!(head.unwrap().len() >= 8192);
        assert_eq!(held, 0);
    }

    proptest! {
        #[test]
        fn the_end_is_found_wherever_the_pieces_are_cut(
            text in "(\r\n){0,2}[a-c]{1,3}(\r?\n[a-c]{1,3}){0,3}\r?\n\r?\n",
            cut in any::<prop::sample::Index>(),
        ) {
            let cut = cut.index(text.len());
            prop_assert!(is_whole(text.as_bytes(), 0));
            // As if the first part had been looked at without success.
            prop_assert!(is_whole(text.as_bytes(), cut));
            prop_assert!(!is_whole(&text.as_bytes()[..text.len() - 1], 0));
        }
    }
}
