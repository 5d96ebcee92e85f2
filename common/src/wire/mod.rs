//! The link protocol between relay and aggregator, version 1.
//!
//! ```text
//! connection, ALPN "picket-link/1", mutual TLS 1.3
//! ├─ control stream (bidirectional, opened by the relay)     frames of JSON, see `control`
//! │     relay ─▶ Hello, Confirm   aggregator ─▶ Welcome (or Forked, see `lineage`), Aggregators, ProjectConfigs (again on every change)
//! │     relay ─▶ Statistics …     aggregator ─▶ Window, Goodbye
//! │     relay ─▶ Renew            aggregator ─▶ Renewed or RenewRefused: a certificate for a new key
//! │     relay ─▶ Trusts           aggregator ─▶ Authorities, where it holds others
//! └─ one bidirectional stream a batch, opened by the relay   see `batch`
//!       relay ─▶ frame(BatchHeader) payload FIN
//!       aggregator ─▶ frame(BatchReply) FIN                  Ack only after its journal is on disk
//!
//! connection, ALPN "picket-join/1", no client certificate
//! └─ one bidirectional stream: relay ─▶ frame(JoinRequest) FIN, aggregator ─▶ frame(JoinReply) FIN
//!
//! frame := length: u32 BE | JSON of that many bytes
//! ```
//!
//! A connection is QUIC, or TLS 1.3 over TCP on the same port number where UDP does not get through; then the streams, the word
//! that one has arrived, and the code and reason of a close are frames of [`crate::transport::mux`]. Nothing above differs.
//!
//! Room to grow: both sides ignore keys and message types that they don't know; a change that an old side must not
//! ignore gets a new ALPN name. What this module does not do: open connections, keep state, decide anything.

pub mod batch;
pub mod close;
pub mod control;
pub mod frame;
pub mod join;
pub mod lineage;

pub use batch::{BatchHeader, BatchReply, NackReason};
pub use close::CloseCode;
pub use control::{FromAggregator, FromRelay};
pub use frame::{FrameError, read_frame, write_frame};

/// ALPN name of connections that carry batches.
pub const ALPN_LINK: &[u8] = b"picket-link/1";
/// ALPN name of connections on which a relay joins.
pub const ALPN_JOIN: &[u8] = b"picket-join/1";
/// The protocol version spoken in [`FromRelay::Hello`] and [`FromAggregator::Welcome`].
pub const PROTOCOL_VERSION: u32 = 1;
/// The name in every aggregator's certificate. Fixed, because relays trust the authority, not an address.
pub const SERVER_NAME: &str = "picket-aggregator";

/// Longest control frame: a snapshot of about 50 000 projects.
pub const MAX_CONTROL_FRAME: usize = 16 * 1024 * 1024;
/// Longest batch header, batch reply or join frame.
pub const MAX_SMALL_FRAME: usize = 64 * 1024;
/// Most compressed bytes a batch may have. A relay seals far smaller ones; one record alone may come near.
pub const MAX_BATCH_PAYLOAD: usize = 256 * 1024 * 1024;
/// Most bytes a batch may decompress to.
pub const MAX_BATCH_RAW: usize = 512 * 1024 * 1024;
