//! The multiplexer's state, without any input or output: what each frame and each call of a stream does to it.
//!
//! Invariants:
//! - A stream's unread bytes never exceed the credit that was given for it; a peer that sends more ends the connection.
//! - The aggregator holds at most [`Bounds::streams`] streams; a place is given again once both directions have ended and
//!   nobody here holds the stream.
//! - Outgoing data is bounded by [`QUEUE_BYTES`], and of each stream by an equal share of it, at most one frame's: so the
//!   queue's order is a round of the streams that have something to say, and none waits for more than one round; frames that only answer are bounded by [`MAX_ANSWERS`], beyond which the
//!   driver reads no more.

use std::collections::{HashMap, VecDeque};
use std::task::{Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::Bounds;
use super::frame::{Header, Kind, MAX_BODY};

/// What each side may send on a new stream unasked.
pub(super) const FIRST_CREDIT: u32 = 64 * 1024;
/// Streams a client may open unasked: the control stream, or the request to join.
pub(super) const FIRST_STREAMS: u32 = 1;
/// Data that waits for the socket; writers wait beyond it. A quarter of a second at 1 MB/s.
pub(super) const QUEUE_BYTES: usize = 256 * 1024;
/// Frames without data that wait for the socket. A peer that causes more without reading them is not read from meanwhile.
pub(super) const MAX_ANSWERS: usize = 1024;

/// Who opens streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The relay, which does.
    Opens,
    /// The aggregator, which does not.
    Accepts,
}

/// The peer does what the protocol does not allow; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("a stream beyond those allowed was opened")]
    TooManyStreams,
    #[error("a frame is for a stream that was never opened")]
    NoSuchStream,
    #[error("more was sent on a stream than its window allows")]
    Overflow,
    #[error("more was sent on a stream after its end")]
    AfterEnd,
}

/// How a stream's direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    Finished,
    Reset,
}

/// Whether the program here still holds a direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
}

#[derive(Debug)]
struct Stream {
    sending: Direction,
    receiving: Direction,
    sender: Held,
    receiver: Held,
    /// The peer has said that it has everything.
    has_arrived: bool,
    /// The peer wants no more.
    is_stopped: bool,
    send_credit: u32,
    /// Bytes of it that wait for the socket.
    queued_bytes: usize,
    /// Most bytes unread; fixed when the stream is opened.
    window: u32,
    /// What the peer may still send.
    receive_credit: u32,
    /// Read since the last Credit.
    read_bytes: u32,
    unread: BytesMut,
    read_waker: Option<Waker>,
    write_waker: Option<Waker>,
    arrived_waker: Option<Waker>,
}

/// Something for the socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) header: Header,
    pub(super) body: Bytes,
}

/// What a read gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(Bytes),
    End,
    /// The peer reset the stream.
    Reset,
}

/// The peer wants no more of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

#[derive(Debug)]
pub(super) struct State {
    side: Side,
    bounds: Bounds,
    streams: HashMap<u32, Stream>,
    /// Ids are never used again: at a thousand batches a second they last for seven weeks, and then the relay connects anew.
    next: u32,
    may_open: u32,
    opened: VecDeque<u32>,
    answers: VecDeque<Header>,
    data: VecDeque<Outgoing>,
    data_bytes: usize,
    /// Streams whose sending direction is open here: among them the queue is shared.
    senders: usize,
    /// One answer is enough for many Pings.
    is_pong_due: bool,
    is_over: bool,
}

// === impl State ===

impl State {
    pub(super) fn new(side: Side, bounds: Bounds) -> Self {
        Self {
            side,
            bounds,
            streams: HashMap::new(),
            next: 0,
            may_open: FIRST_STREAMS,
            opened: VecDeque::new(),
            answers: VecDeque::new(),
            data: VecDeque::new(),
            data_bytes: 0,
            senders: 0,
            is_pong_due: false,
            is_over: false,
        }
    }

    // What the program does.

    /// Opens a stream if the peer allows one now.
    pub(super) fn open(&mut self) -> Option<u32> {
        if self.is_over {
            return None;
        }
        self.may_open = self.may_open.checked_sub(1)?;
        Some(self.insert())
    }

    /// A stream that the peer opened.
    pub(super) fn accept(&mut self) -> Option<u32> {
        self.opened.pop_front()
    }

    /// Allows the peer more than the first stream.
    pub(super) fn admit(&mut self, bounds: Bounds) {
        let more = bounds.streams.saturating_sub(self.bounds.streams);
        self.bounds = bounds;
        if more > 0 {
            self.answers.push_back(Header::new(Kind::Streams, 0, more));
        }
    }

    pub(super) fn ping(&mut self) {
        self.answers.push_back(Header::new(Kind::Ping, 0, 0));
    }

    /// Says that what the peer sends arrives, also where it all is of one frame or of a stream that nobody reads.
    pub(super) const fn confirm(&mut self) {
        self.is_pong_due = true;
    }

    /// Most bytes of one stream in the queue.
    fn share(&self) -> usize {
        (QUEUE_BYTES / self.senders.max(1)).clamp(1, MAX_BODY)
    }

    /// Takes as much of `bytes` as credit, queue and the stream's share of it allow.
    pub(super) fn write(&mut self, id: u32, bytes: &[u8], waker: &Waker) -> Poll<Result<usize, Stopped>> {
        let (share, room) = (self.share(), QUEUE_BYTES.saturating_sub(self.data_bytes));
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Err(Stopped)) };
        if stream.is_stopped || stream.sending != Direction::Open {
            return Poll::Ready(Err(Stopped));
        }
        let room = room.min(share.saturating_sub(stream.queued_bytes));
        let length = bytes.len().min(room).min(stream.send_credit as usize);
        // At most MAX_BODY, so it fits.
        let number = u32::try_from(length).unwrap_or_default();
        if number == 0 && !bytes.is_empty() {
            stream.write_waker = Some(waker.clone());
            return Poll::Pending;
        }
        stream.send_credit -= number;
        stream.queued_bytes += length;
        self.data_bytes += length;
        let body = Bytes::copy_from_slice(&bytes[..length]);
        self.data.push_back(Outgoing { header: Header::new(Kind::Data, id, number), body });
        Poll::Ready(Ok(length))
    }

    pub(super) fn finish(&mut self, id: u32) {
        self.end_sending(id, Direction::Finished, Kind::Finish);
    }

    fn end_sending(&mut self, id: u32, direction: Direction, kind: Kind) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.sending == Direction::Open {
            stream.sending = direction;
            self.senders = self.senders.saturating_sub(1);
            // Behind the data before it.
            self.data.push_back(Outgoing { header: Header::new(kind, id, 0), body: Bytes::new() });
        }
    }

    /// Ready when the peer has everything or wants no more.
    pub(super) fn arrived(&mut self, id: u32, waker: &Waker) -> Poll<()> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(()) };
        if stream.has_arrived || stream.is_stopped || stream.sending == Direction::Reset {
            return Poll::Ready(());
        }
        stream.arrived_waker = Some(waker.clone());
        Poll::Pending
    }

    pub(super) fn drop_sender(&mut self, id: u32) {
        self.end_sending(id, Direction::Reset, Kind::Reset);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sender = Held::No;
        }
        self.forget_ended(id);
    }

    /// Takes at most `most` bytes.
    pub(super) fn read(&mut self, id: u32, most: usize, waker: &Waker) -> Poll<Read> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Read::Reset) };
        if stream.unread.is_empty() {
            return match stream.receiving {
                Direction::Finished => Poll::Ready(Read::End),
                Direction::Reset => Poll::Ready(Read::Reset),
                Direction::Open => {
                    stream.read_waker = Some(waker.clone());
                    Poll::Pending
                }
            };
        }
        let length = stream.unread.len().min(most);
        let bytes = stream.unread.split_to(length).freeze();
        stream.read_bytes = stream.read_bytes.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        if stream.receiving == Direction::Open && stream.read_bytes >= stream.window / 2 {
            let more = std::mem::take(&mut stream.read_bytes);
            stream.receive_credit = stream.receive_credit.saturating_add(more);
            self.answers.push_back(Header::new(Kind::Credit, id, more));
        }
        Poll::Ready(Read::Bytes(bytes))
    }

    pub(super) fn drop_receiver(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.receiver == Held::Yes && stream.receiving == Direction::Open {
            self.answers.push_back(Header::new(Kind::Stop, id, 0));
        }
        stream.receiver = Held::No;
        stream.unread = BytesMut::new();
        self.forget_ended(id);
    }

    // What the peer does.

    /// Acts on a frame other than Close.
    pub(super) fn hear(&mut self, header: Header, body: &[u8]) -> Result<(), Violation> {
        match header.kind {
            Kind::Data | Kind::Finish | Kind::Reset => return self.hear_stream(header, body),
            Kind::Ping => self.is_pong_due = true,
            Kind::Streams if self.side == Side::Opens => self.may_open = self.may_open.saturating_add(header.number),
            Kind::Pong | Kind::Close | Kind::Streams => {}
            Kind::Arrived | Kind::Stop | Kind::Credit => {
                // Answers overtake data, so this may be the first that is heard of a stream.
                if header.stream >= self.next {
                    self.hear_opening(header.stream)?;
                }
                // Else it has ended meanwhile.
                if let Some(stream) = self.streams.get_mut(&header.stream) {
                    stream.hear_answer(header);
                }
                if header.kind == Kind::Stop {
                    // Tells the peer that nothing more comes, unless it has been told.
                    self.end_sending(header.stream, Direction::Reset, Kind::Reset);
                    self.forget_ended(header.stream);
                }
            }
        }
        Ok(())
    }

    fn hear_stream(&mut self, header: Header, body: &[u8]) -> Result<(), Violation> {
        let id = header.stream;
        if id >= self.next {
            self.hear_opening(id)?;
        }
        // A stream that ended here before its last frames came.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.receiving != Direction::Open {
            return Err(Violation::AfterEnd);
        }
        match header.kind {
            Kind::Data => {
                stream.receive_credit = stream.receive_credit.checked_sub(header.number).ok_or(Violation::Overflow)?;
                if stream.receiver == Held::Yes {
                    stream.unread.extend_from_slice(body);
                }
            }
            Kind::Finish => {
                stream.receiving = Direction::Finished;
                self.answers.push_back(Header::new(Kind::Arrived, id, 0));
            }
            _ => {
                stream.receiving = Direction::Reset;
                stream.unread = BytesMut::new();
            }
        }
        wake(&mut stream.read_waker);
        self.forget_ended(id);
        Ok(())
    }

    fn hear_opening(&mut self, id: u32) -> Result<(), Violation> {
        if self.side == Side::Opens {
            return Err(Violation::NoSuchStream);
        }
        // Who opened one first need not be the first to write: the streams in between are open as well.
        while self.next <= id {
            if self.streams.len() >= self.bounds.streams as usize {
                return Err(Violation::TooManyStreams);
            }
            let opened = self.insert();
            self.opened.push_back(opened);
        }
        Ok(())
    }

    fn insert(&mut self) -> u32 {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        let window = self.bounds.stream_window.max(FIRST_CREDIT);
        if window > FIRST_CREDIT {
            self.answers.push_back(Header::new(Kind::Credit, id, window - FIRST_CREDIT));
        }
        let stream = Stream {
            sending: Direction::Open,
            receiving: Direction::Open,
            sender: Held::Yes,
            receiver: Held::Yes,
            has_arrived: false,
            is_stopped: false,
            send_credit: FIRST_CREDIT,
            queued_bytes: 0,
            window,
            receive_credit: window,
            read_bytes: 0,
            unread: BytesMut::new(),
            read_waker: None,
            write_waker: None,
            arrived_waker: None,
        };
        self.streams.insert(id, stream);
        self.senders += 1;
        id
    }

    /// Gives a stream's place to the next once nothing more can happen on it.
    fn forget_ended(&mut self, id: u32) {
        let has_ended = self.streams.get(&id).is_some_and(|stream| {
            let is_held = stream.sender == Held::Yes || stream.receiver == Held::Yes;
            !is_held && stream.sending != Direction::Open && stream.receiving != Direction::Open
        });
        if !has_ended {
            return;
        }
        self.streams.remove(&id);
        if self.side == Side::Accepts {
            self.answers.push_back(Header::new(Kind::Streams, 0, 1));
        }
    }

    // What the driver does.

    /// Whether so much waits to be answered that reading more would be unwise.
    pub(super) fn is_congested(&self) -> bool {
        self.answers.len() > MAX_ANSWERS
    }

    /// Moves what waits for the socket into `buffer`, at most about `most` bytes.
    pub(super) fn take_outgoing(&mut self, buffer: &mut Vec<u8>, most: usize) {
        if std::mem::take(&mut self.is_pong_due) {
            buffer.extend_from_slice(&Header::new(Kind::Pong, 0, 0).encode());
        }
        while buffer.len() < most
            && let Some(header) = self.answers.pop_front()
        {
            buffer.extend_from_slice(&header.encode());
        }
        let before = self.data_bytes;
        while buffer.len() < most
            && let Some(outgoing) = self.data.pop_front()
        {
            self.data_bytes -= outgoing.body.len();
            // Else it was forgotten, and its last bytes still go.
            if let Some(stream) = self.streams.get_mut(&outgoing.header.stream) {
                stream.queued_bytes -= outgoing.body.len();
            }
            buffer.extend_from_slice(&outgoing.header.encode());
            buffer.extend_from_slice(&outgoing.body);
        }
        if self.data_bytes < before {
            let share = self.share();
            let may_write = self.streams.values_mut().filter(|stream| stream.queued_bytes < share);
            // Whoever comes first finds no more room than its share, so the order of waking is nobody's advantage.
            may_write.for_each(|stream| wake(&mut stream.write_waker));
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn unread_bytes(&self) -> usize {
        self.streams.values().map(|stream| stream.unread.len()).sum()
    }

    #[cfg(fuzzing)]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    #[cfg(fuzzing)]
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn queued_bytes(&self) -> usize {
        self.data.iter().map(|outgoing| outgoing.body.len()).sum()
    }

    /// The connection is over: nobody waits any more, and nothing is sent. What has arrived can still be read.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.answers.clear();
        self.data.clear();
        self.data_bytes = 0;
        self.senders = 0;
        self.opened.clear();
        for stream in self.streams.values_mut() {
            if stream.receiving == Direction::Open {
                stream.receiving = Direction::Reset;
            }
            stream.sending = Direction::Reset;
            stream.queued_bytes = 0;
            wake(&mut stream.read_waker);
            wake(&mut stream.write_waker);
            wake(&mut stream.arrived_waker);
        }
    }
}

// === impl Stream ===

impl Stream {
    fn hear_answer(&mut self, header: Header) {
        match header.kind {
            Kind::Arrived => self.has_arrived = true,
            Kind::Credit => self.send_credit = self.send_credit.saturating_add(header.number),
            _ => self.is_stopped = true,
        }
        wake(&mut self.write_waker);
        wake(&mut self.arrived_waker);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
