//! The words that relay and aggregator share.
//!
//! What lives here: identifiers, the DSN, the envelope, data categories, outcomes and quotas, the project configuration that is
//! pushed to relays, the link protocol between the two programs, multipart bodies, crash and security reports, TLS identity,
//! configuration loading and telemetry,
//! the HTTP server loop, the supervision of tasks.
//! What does not: anything that only one side does. This crate knows neither side (ARCHITECTURE.md, invariants).

pub mod category;
pub mod config;
pub mod dsn;
pub mod envelope;
pub mod error_text;
pub mod failpoint;
pub mod glob;
pub mod http_server;
pub mod identity;
pub mod ids;
pub mod multipart;
pub mod normalise;
pub mod outcome;
pub mod pii;
pub mod project_config;
pub mod quota;
pub mod record;
pub mod security_report;
pub mod stop_signal;
pub mod supervision;
pub mod tally;
pub mod telemetry;
pub mod timestamp;
pub mod transport;
pub mod tree;
pub mod unreal;
pub mod wire;
