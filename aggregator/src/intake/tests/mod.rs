//! Intake with real clients on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod batches;
mod fixture;
mod identity;
mod joining;
mod sessions;
mod tcp;
mod windows;
