//! Any frames from a peer over TCP, amid any use of the streams: the multiplexer's bounds hold, and what it sends are frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::transport::mux::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::play(bytes));
