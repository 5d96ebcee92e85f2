//! The multiplexer's state under any frames and any use, for `tests/fuzz`: built with `--cfg fuzzing` only.
//!
//! ```text
//! input := side: u8 | step*
//! step  := action: u8 | (id: u8 | length: u8)?      what the program here does, from [`PROGRAM`] on
//!        | frame                                    what the peer sends, else: header and body as on the wire
//! ```

use std::task::{Poll, Waker};

use super::Bounds;
use super::frame::{HEADER_BYTES, Header, Kind};
use super::state::{FIRST_CREDIT, MAX_ANSWERS, QUEUE_BYTES, Read, Side, State};

/// First byte of a step from which on it is an action of the program.
const PROGRAM: u8 = 0x80;
const ADMITTED: Bounds = Bounds { streams: 4, stream_window: 96 * 1024 };
/// Answers that one step may add at most: an opened stream's credit, its end's, and a place given again.
const ANSWERS_OF_A_STEP: usize = 4;

/// Plays the input and checks the invariants of [`super::state`] after each step.
///
/// # Panics
/// If one does not hold: unread bytes beyond the credit given, streams beyond the bound, queues beyond theirs.
#[expect(clippy::panic, reason = "a fuzz target tells what it finds by panicking")]
pub fn play(input: &[u8]) {
    let Some((&side, mut rest)) = input.split_first() else { return };
    let side = if side & 1 == 0 { Side::Accepts } else { Side::Opens };
    let mut state = State::new(side, Bounds::STRANGER);
    let mut bounds = Bounds::STRANGER;
    while let Some(&first) = rest.first() {
        let step = if first >= PROGRAM {
            use_it(side, &mut state, &mut bounds, &mut rest)
        } else {
            hear(&mut state, &mut rest)
        };
        if step.is_none() {
            break;
        }
        let (unread, queued, answers) = (state.unread_bytes(), state.queued_bytes(), state.answers());
        let streams = state.streams();
        let window = bounds.stream_window.max(FIRST_CREDIT) as usize;
        let is_within = unread <= streams * window
            && queued <= QUEUE_BYTES
            && answers <= MAX_ANSWERS + ANSWERS_OF_A_STEP
            && (side == Side::Opens || streams <= bounds.streams as usize);
        if !is_within {
            panic!("{streams} streams, {unread} bytes unread, {queued} queued, {answers} answers under {bounds:?}");
        }
        // As the driver does, which reads nothing while so much waits.
        if state.is_congested() {
            drain(&mut state);
        }
    }
    state.end();
    assert_eq!(state.queued_bytes(), 0, "nothing is sent after the end");
}

/// A frame of the peer; `None` where the driver would end the connection.
fn hear(state: &mut State, rest: &mut &[u8]) -> Option<()> {
    let (header, after) = rest.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::decode(*header).ok()?;
    let (body, after) = after.split_at_checked(header.body_bytes())?;
    *rest = after;
    if header.kind == Kind::Close {
        return None;
    }
    state.hear(header, body).ok()
}

/// Something that the program does with a stream.
fn use_it(side: Side, state: &mut State, bounds: &mut Bounds, rest: &mut &[u8]) -> Option<()> {
    let ([action, id, length], after) = rest.split_first_chunk::<3>()?;
    *rest = after;
    let (id, length) = (u32::from(*id), usize::from(*length) * 256);
    let waker = Waker::noop();
    match action % 10 {
        0 => drop(state.accept()),
        // Only the relay does.
        1 if side == Side::Opens => drop(state.open()),
        1 => {}
        2 => {
            state.admit(ADMITTED);
            *bounds = ADMITTED;
        }
        3 => {
            if let Poll::Ready(Read::Bytes(bytes)) = state.read(id, length, waker) {
                assert!(bytes.len() <= length, "more was read than was asked for");
            }
        }
        4 => {
            if let Poll::Ready(Ok(written)) = state.write(id, &vec![7; length], waker) {
                assert!(written <= length, "more was written than there was");
            }
        }
        5 => state.finish(id),
        6 => state.drop_sender(id),
        7 => state.drop_receiver(id),
        8 => drop(state.arrived(id, waker)),
        _ => drain(state),
    }
    Some(())
}

/// What the socket is given are frames, and nothing else.
fn drain(state: &mut State) {
    let mut buffer = Vec::new();
    state.take_outgoing(&mut buffer, usize::MAX);
    let mut rest = buffer.as_slice();
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let body = Header::decode(*header).map(Header::body_bytes);
        assert!(body.is_ok_and(|body| body <= after.len()), "what is sent is no frame");
        rest = &after[body.unwrap_or_default()..];
    }
    assert!(rest.is_empty(), "what is sent ends within a frame");
}
