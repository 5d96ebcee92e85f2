//! Streams over one TCP connection under TLS 1.3, for networks that let no UDP through.
//!
//! Why not a crate: the link needs a reason with the close, word that a stream has arrived, bounds that widen once the relay is
//! known, and pings on a clock; see `docs/decisions/`.
//!
//! ```text
//! streams ──▶ State (windows, bounds; no input or output) ◀──▶ driver ◀──▶ TLS ◀──▶ TCP
//! ```
//!
//! | task | owner | its queue | when full | at the end |
//! | --- | --- | --- | --- | --- |
//! | driver, one a connection | the last handle | `State`: outgoing data, answers | writers wait; the peer is not read | sends Close, waits up to [`Patience::farewell`] for the peer to go |
//!
//! Invariants: see `state`; and
//! - A peer is given up when for [`Patience::idle`] it neither sends anything nor takes what waits for it, or when it does not
//!   take a piece of `PIECE_BYTES` in that time: a line may be as slow as that, 8 KiB in 9 s, and lose nothing.
//! - What waits in the system's buffer is bounded (`UNSENT_BYTES`), so that a Ping is not behind a minute's worth of data,
//!   and whoever receives data says so every `CONFIRM_INTERVAL`, however long a frame takes.
//!
//! Streams share one TCP connection: a lost packet holds all of them up, which a fallback may.

mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_rustls::TlsStream;

use super::ConnectionLost;
use crate::wire::CloseCode;
use frame::{HEADER_BYTES, Header, Kind, MAX_BODY, MAX_REASON};
use state::{Side, State};

pub use stream::{MuxReceiver, MuxSender};

/// Read from the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Written to the socket at once, as a TLS record of its own. A peer must take as much within [`Patience::idle`].
const PIECE_BYTES: usize = 8 * 1024;
/// What the system may hold for us that it has not sent yet. What is sent and not acknowledged is not among it, so this slows
/// no line down.
const UNSENT_BYTES: u32 = 16 * 1024;
/// How often the sender of data hears that it arrives: well below any [`Patience::idle`].
const CONFIRM_INTERVAL: Duration = Duration::from_secs(1);

/// What a peer may make us hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Streams at once.
    pub streams: u32,
    /// Unread bytes of each; at least 64 KiB, which the protocol gives unasked.
    pub stream_window: u32,
}

/// How long a peer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A peer that is silent for so long, or takes nothing, is gone.
    pub idle: Duration,
    /// How often it is asked for a sign of life.
    pub keep_alive: Duration,
    /// How long closing may take.
    pub farewell: Duration,
}

/// A connection over TCP. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Mux {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    remote: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    protocol: Option<Vec<u8>>,
}

/// What handles, streams and the driver share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something waits for the socket, or the socket may be read again.
    work: Notify,
    /// A stream may be opened or accepted.
    streams: Notify,
    lost: watch::Sender<Option<ConnectionLost>>,
    /// What the peer is to be told, where we closed.
    farewell: Mutex<Option<(u32, String)>>,
    is_gone: watch::Sender<bool>,
    /// So much has been answered that the socket may be read again.
    is_uncongested: Notify,
    /// When the peer last made room for something that waited for it.
    taken_at: Mutex<Instant>,
}

/// How a piece got out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Into a buffer: it says nothing of the peer.
    AtOnce,
    /// After the peer had made room.
    AfterWaiting,
}

// === impl Bounds ===

impl Bounds {
    /// Of a peer that has proved nothing yet: one stream.
    pub const STRANGER: Self = Self { streams: state::FIRST_STREAMS, stream_window: state::FIRST_CREDIT };

    /// `streams` streams among which `window_bytes` are shared. The protocol gives each 64 KiB unasked, so together the windows
    /// are `window_bytes`, or 64 KiB a stream where that is more.
    #[must_use]
    pub fn sharing(streams: u32, window_bytes: u32) -> Self {
        Self { streams, stream_window: (window_bytes / streams.max(1)).max(state::FIRST_CREDIT) }
    }
}

// === impl Mux ===

impl Mux {
    /// A connection over which this side opens streams. Must be called within a tokio runtime.
    #[must_use]
    pub fn client(stream: TlsStream<TcpStream>, remote: SocketAddr, patience: Patience) -> Self {
        Self::start(Side::Opens, stream, remote, patience)
    }

    /// A connection over which the peer opens streams, [`Bounds::STRANGER`] until it is admitted.
    #[must_use]
    pub fn server(stream: TlsStream<TcpStream>, remote: SocketAddr, patience: Patience) -> Self {
        Self::start(Side::Accepts, stream, remote, patience)
    }

    fn start(side: Side, stream: TlsStream<TcpStream>, remote: SocketAddr, patience: Patience) -> Self {
        let tls = stream.get_ref().1;
        let certificate =
            tls.peer_certificates().and_then(|chain| chain.first()).map(|first| first.clone().into_owned());
        let protocol = tls.alpn_protocol().map(<[u8]>::to_vec);
        bound_unsent(stream.get_ref().0, remote);
        let shared = Arc::new(Shared::new(side));
        tokio::spawn(drive(Arc::clone(&shared), stream, patience));
        Self { handle: Arc::new(Handle { shared, remote, certificate, protocol }) }
    }

    pub(super) fn id(&self) -> usize {
        Arc::as_ptr(&self.handle).addr()
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.handle.remote
    }

    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.handle.certificate.as_ref()
    }

    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.handle.protocol.as_deref()
    }

    pub(super) async fn open(&self) -> Result<(MuxSender, MuxReceiver), ConnectionLost> {
        let id = self.handle.shared.stream(State::open).await?;
        Ok(stream::pair(&self.handle, id))
    }

    pub(super) async fn accept(&self) -> Result<(MuxSender, MuxReceiver), ConnectionLost> {
        let id = self.handle.shared.stream(State::accept).await?;
        Ok(stream::pair(&self.handle, id))
    }

    pub(super) fn admit(&self, bounds: Bounds) {
        self.handle.shared.lock().admit(bounds);
        self.handle.shared.work.notify_one();
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.handle.shared.close(code, reason);
    }

    pub(super) fn close_reason(&self) -> Option<ConnectionLost> {
        self.handle.shared.lost.borrow().clone()
    }

    pub(super) async fn closed(&self) -> ConnectionLost {
        let mut lost = self.handle.shared.lost.subscribe();
        // The sender lives as long as this handle.
        let found = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        found.unwrap_or(ConnectionLost::Local)
    }

    pub(super) async fn farewell(&self) {
        let mut is_gone = self.handle.shared.is_gone.subscribe();
        let _ = is_gone.wait_for(|is_gone| *is_gone).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(CloseCode::Done.as_u32(), "");
    }
}

// === impl Shared ===

impl Shared {
    fn new(side: Side) -> Self {
        Self {
            state: Mutex::new(State::new(side, Bounds::STRANGER)),
            work: Notify::new(),
            streams: Notify::new(),
            lost: watch::Sender::new(None),
            farewell: Mutex::new(None),
            is_gone: watch::Sender::new(false),
            is_uncongested: Notify::new(),
            taken_at: Mutex::new(Instant::now()),
        }
    }

    fn taken_at(&self) -> Instant {
        *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_taken(&self) {
        *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Fills `buffer` with what is to be sent next, and lets the reader go on where that makes room.
    fn take_outgoing(&self, buffer: &mut Vec<u8>) {
        let mut state = self.lock();
        state.take_outgoing(buffer, PIECE_BYTES);
        if !state.is_congested() {
            self.is_uncongested.notify_one();
        }
    }

    /// Waits until what the peer has caused is answered so far that more may be read.
    async fn uncongested(&self) {
        while self.lock().is_congested() {
            // The writer gives up on a peer that takes nothing, so this ends.
            self.is_uncongested.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between any two calls, so a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a stream that `take` finds.
    async fn stream(&self, take: impl Fn(&mut State) -> Option<u32>) -> Result<u32, ConnectionLost> {
        loop {
            let changed = self.streams.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(lost) = self.lost.borrow().clone() {
                return Err(lost);
            }
            if let Some(id) = take(&mut self.lock()) {
                return Ok(id);
            }
            changed.await;
        }
    }

    /// Ends the connection for everybody here; the first reason counts.
    fn end(&self, reason: ConnectionLost) {
        let is_first = self.lost.send_if_modified(|lost| {
            let is_first = lost.is_none();
            lost.get_or_insert(reason);
            is_first
        });
        if is_first {
            self.lock().end();
            self.streams.notify_waiters();
            self.work.notify_one();
        }
    }

    fn close(&self, code: u32, reason: &str) {
        let mut reason = reason.to_owned();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        if self.lost.borrow().is_none() {
            *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason));
        }
        self.end(ConnectionLost::Local);
    }

    fn take_farewell(&self) -> Option<(u32, String)> {
        self.farewell.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn bound_unsent(stream: &TcpStream, remote: SocketAddr) {
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
        // Pings wait longer then; nothing else depends on it.
        tracing::debug!(%remote, %error, "unsent bytes of a connection can't be bounded");
    }
}

/// Moves bytes between the socket and the state until the connection ends, then says why if it was us.
async fn drive<S: AsyncRead + AsyncWrite>(shared: Arc<Shared>, stream: S, patience: Patience) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let is_between_frames = carry(&shared, &mut reader, &mut writer, patience).await;
    if is_between_frames {
        let _ = timeout(patience.farewell, say_farewell(&shared, &mut reader, &mut writer)).await;
    }
    shared.is_gone.send_replace(true);
}

/// Returns, after the connection's end, whether the farewell would be read as a frame of its own.
async fn carry<S: AsyncRead + AsyncWrite>(
    shared: &Shared,
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    patience: Patience,
) -> bool {
    let mut lost = shared.lost.subscribe();
    let writing = write(shared, writer, patience);
    tokio::pin!(writing);
    tokio::select! {
        ended = read(shared, reader, patience) => shared.end(ended),
        ended = &mut writing => {
            let is_closed_here = ended == ConnectionLost::Local;
            shared.end(ended);
            return is_closed_here;
        }
        () = keep_alive(shared, patience) => {}
        _ = lost.wait_for(Option::is_some) => {}
    }
    // The writer stops at the next frame.
    timeout(patience.farewell, writing).await.is_ok_and(|ended| ended == ConnectionLost::Local)
}

/// Never returns.
async fn keep_alive(shared: &Shared, patience: Patience) {
    let mut ticks = interval(patience.keep_alive);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Where the last one could not be sent yet, a further one says nothing new.
        if !shared.lock().is_congested() {
            shared.lock().ping();
            shared.work.notify_one();
        }
    }
}

async fn read<R: AsyncRead + Unpin>(shared: &Shared, reader: &mut R, patience: Patience) -> ConnectionLost {
    let reader = tokio::io::BufReader::with_capacity(READ_BYTES, reader);
    let mut frames = Frames { shared, reader, idle: patience.idle, confirmed_at: Instant::now() };
    let mut body = vec![0; MAX_BODY];
    loop {
        shared.uncongested().await;
        let header = match frames.next(&mut body).await {
            Ok(header) => header,
            Err(lost) => return lost,
        };
        let body = &body[..header.body_bytes()];
        if header.kind == Kind::Close {
            return ConnectionLost::Closed { code: header.stream, reason: String::from_utf8_lossy(body).into_owned() };
        }
        let heard = shared.lock().hear(header, body);
        if let Err(violation) = heard {
            shared.close(CloseCode::Protocol.as_u32(), &violation.to_string());
            return ConnectionLost::Local;
        }
        shared.work.notify_one();
        shared.streams.notify_waiters();
    }
}

/// What the peer sends, frame by frame.
struct Frames<'a, R> {
    shared: &'a Shared,
    reader: R,
    idle: Duration,
    confirmed_at: Instant,
}

// === impl Frames ===

impl<R: AsyncRead + Unpin> Frames<'_, R> {
    async fn next(&mut self, body: &mut [u8]) -> Result<Header, ConnectionLost> {
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header).await?;
        let header = Header::decode(header).map_err(|error| ConnectionLost::Broken(error.to_string()))?;
        let mut rest = &mut body[..header.body_bytes()];
        while !rest.is_empty() {
            let length = self.read(rest).await?;
            rest = &mut rest[length..];
            self.confirm();
        }
        Ok(header)
    }

    async fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), ConnectionLost> {
        while !bytes.is_empty() {
            let length = self.read(bytes).await?;
            bytes = &mut bytes[length..];
        }
        Ok(())
    }

    /// Reads at least one byte; gives up once the peer has neither sent nor taken anything for `idle`.
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConnectionLost> {
        let reading = self.reader.read(bytes);
        tokio::pin!(reading);
        let mut alive_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                read = &mut reading => return match read? {
                    0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                    length => Ok(length),
                },
                () = sleep_until(alive_at + self.idle) => {}
            }
            let taken_at = self.shared.taken_at();
            if taken_at <= alive_at {
                return Err(ConnectionLost::TimedOut);
            }
            alive_at = taken_at;
        }
    }

    /// A peer whose line is full of its data can't tell otherwise that we are there: our answer to its Ping is behind them.
    /// Only data are confirmed, as two sides that confirm each other's confirmations would never be quiet.
    fn confirm(&mut self) {
        if self.confirmed_at.elapsed() >= CONFIRM_INTERVAL {
            self.confirmed_at = Instant::now();
            self.shared.lock().confirm();
            self.shared.work.notify_one();
        }
    }
}

/// Returns [`ConnectionLost::Local`] between two frames once the connection has ended.
async fn write<W: AsyncWrite + Unpin>(shared: &Shared, writer: &mut W, patience: Patience) -> ConnectionLost {
    let mut buffer = Vec::with_capacity(PIECE_BYTES + HEADER_BYTES + MAX_BODY);
    loop {
        buffer.clear();
        if shared.lost.borrow().is_some() {
            return ConnectionLost::Local;
        }
        shared.take_outgoing(&mut buffer);
        if buffer.is_empty() {
            shared.work.notified().await;
            continue;
        }
        for piece in buffer.chunks(PIECE_BYTES) {
            match timeout(patience.idle, write_piece(writer, piece)).await {
                Ok(Ok(Written::AfterWaiting)) => shared.note_taken(),
                Ok(Ok(Written::AtOnce)) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) => return ConnectionLost::TimedOut,
            }
        }
    }
}

async fn write_piece<W: AsyncWrite + Unpin>(writer: &mut W, piece: &[u8]) -> std::io::Result<Written> {
    let writing = async {
        writer.write_all(piece).await?;
        writer.flush().await
    };
    tokio::pin!(writing);
    let mut written = Written::AtOnce;
    poll_fn(|cx| {
        let polled = writing.as_mut().poll(cx);
        if polled.is_pending() {
            written = Written::AfterWaiting;
        }
        polled
    })
    .await?;
    Ok(written)
}

/// Sends Close, if it was us, and waits for the peer to end its direction: a socket that is closed with unread bytes in it
/// is reset, and the reset may overtake the reason.
async fn say_farewell<S: AsyncRead + AsyncWrite>(
    shared: &Shared,
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
) -> std::io::Result<()> {
    let farewell = shared.take_farewell();
    if let Some((code, reason)) = &farewell {
        // At most MAX_REASON, so it fits.
        let length = u32::try_from(reason.len()).unwrap_or_default();
        let mut frame = Header::new(Kind::Close, *code, length).encode().to_vec();
        frame.extend_from_slice(reason.as_bytes());
        writer.write_all(&frame).await?;
    }
    writer.shutdown().await?;
    if farewell.is_some() {
        tokio::io::copy(reader, &mut tokio::io::sink()).await?;
    }
    Ok(())
}
