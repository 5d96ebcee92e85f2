//! Any body: an error or an envelope; an envelope written out and read again is the same, and is as long as it said.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use picket_common::envelope::{Envelope, MAX_ITEMS};

fuzz_target!(|body: &[u8]| {
    let Ok(envelope) = Envelope::parse(Bytes::copy_from_slice(body), MAX_ITEMS) else { return };
    let _ = (envelope.dsn(), envelope.sent_at());
    let mut written = Vec::new();
    envelope.write_to(&mut written).expect("writing to memory");
    assert_eq!(written.len(), envelope.serialized_len());
    let again = Envelope::parse(Bytes::from(written.clone()), MAX_ITEMS).expect("what we wrote is an envelope");
    assert_eq!(again.items().len(), envelope.items().len());
    let mut rewritten = Vec::new();
    again.write_to(&mut rewritten).expect("writing to memory");
    assert_eq!(rewritten, written);
});
