//! Any decompressed batch: the reader ends; records that it read are read again from what they encode to.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use picket_common::record::RecordReader;

fuzz_target!(|batch: &[u8]| {
    let records: Vec<_> = RecordReader::new(Bytes::copy_from_slice(batch)).map_while(Result::ok).collect();
    let mut encoded = Vec::new();
    for record in &records {
        record.encode_into(&mut encoded).expect("what was read can be written");
    }
    let again: Vec<_> =
        RecordReader::new(Bytes::from(encoded)).collect::<Result<_, _>>().expect("what we wrote is a batch");
    assert_eq!(again, records);
});
