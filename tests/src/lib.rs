//! The harness of the end-to-end and fault tests: it runs the real binaries as an operator would, on loopback, and looks at
//! them only through what operators, SDKs and API clients see.
//!
//! ```text
//! test ──▶ Installation ── Aggregator ── Program: picket-aggregator ┐ logs, ports and data in one temporary directory
//!   │                  └── Relay ─────── Program: picket-relay      ┘
//!   ├──▶ Load, Ingest: posts envelopes, writes into the Ledger what was answered
//!   └──▶ Api, Browser, StoredEvents: what came out, compared with the Ledger
//! ```
//!
//! What it promises:
//! - A missing binary, SDK or library is a failure that names the make target which makes it, never a silent skip.
//! - Nothing waits by sleeping: [`wait::eventually`] polls a condition until a deadline and says what it last saw.
//! - Every process is killed by its pid when its owner is dropped; the end of its log is printed if the test fails.
//! - Randomness comes from a seed that is printed; `PICKET_TEST_SEED` repeats a run.
//! - One installation at a time in a test binary: an aggregator takes some 300 MB, and times are asserted.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `PICKET_BIN_DIR` | where `picket-relay` and `picket-aggregator` are; default: the target directory's profile of this test |
//! | `PICKET_FAILPOINT_BIN_DIR` | the same, built with failpoints; default `<target directory>/failpoints` |
//! | `PICKET_CACHE_DIR` | where `packaging/setup.sh` put libchdb and the SDKs; default `~/.cache/picket` |
//! | `PICKET_TEST_SEED` | seed of the random choices |
//! | `PICKET_SOAK` | set: the whole of the fault tests, not a sample (`make soak`) |

// The whole crate is test code: a broken assumption is a failed test, and the panic is its message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

pub mod aggregator;
pub mod api;
pub mod bad_network;
pub mod browser;
pub mod bystander;
pub mod clickhouse_server;
pub mod encode;
pub mod event;
pub mod executable;
pub mod faulty_clickhouse;
pub mod http;
pub mod ingest;
pub mod installation;
pub mod ledger;
pub mod load;
pub mod loop_disk;
pub mod observed;
pub mod oracle;
pub mod planted;
pub mod port;
pub mod postgres_server;
pub mod program;
pub mod random;
pub mod relay;
pub mod sdk;
pub mod soak;
pub mod stored_events;
pub mod troubled_syncs;
pub mod wait;
