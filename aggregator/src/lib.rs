//! Picket's aggregator: takes batches from relays, groups events into issues, writes them to ClickHouse and serves the
//! pages, the API and the administrative commands.
//!
//! The way of an event, top to bottom; a stage calls the next and nothing reaches back:
//!
//! ```text
//! intake (verify, dedupe) ▸ journal (RocksDB, fsync) ▸ ack
//!        journal ▸ process (decode ▸ symbolicate ▸ group ▸ issue ▸ insert plan ▸ ClickHouse) ▸ cursor
//!                                          query ▸ api, web, admin
//! ```

pub mod accounts;
pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod database;
mod durable_file;
pub mod events;
pub mod fleet;
pub mod intake;
pub mod issues;
pub mod journal;
pub mod metrics;
pub mod nodes;
pub mod process;
pub mod projects;
pub mod query;
pub mod quota;
pub mod server;
pub mod status;
pub mod stores;
pub mod web;
