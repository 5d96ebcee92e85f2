//! Any bytes on a batch's stream: an error or a header; a header that is taken covers as many records as it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::wire::{BatchHeader, MAX_BATCH_PAYLOAD, MAX_SMALL_FRAME, read_frame};

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    // Reading from memory is always ready, so this needs no runtime.
    let read = futures_executor::block_on(read_frame::<BatchHeader>(&mut stream, MAX_SMALL_FRAME));
    let Ok(header) = read else { return };
    if header.validate().is_ok() {
        assert!(header.records() >= 1 && header.payload_bytes <= MAX_BATCH_PAYLOAD as u64);
        assert_eq!(header.last.get() - header.first.get() + 1, header.records());
    }
});
