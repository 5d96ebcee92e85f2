//! Intake with real QUIC clients on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod batches;
mod fixture;
mod joining;
mod sessions;
