//! Any bytes as an Unreal crash report: an error or files that lie within it, one after the other.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use picket_common::unreal;

fuzz_target!(|container: &[u8]| {
    let read =
        |range: std::ops::Range<u64>| Ok(Bytes::copy_from_slice(&container[range.start as usize..range.end as usize]));
    let Ok(files) = unreal::files(container.len() as u64, 100, read) else { return };
    assert!(files.len() <= 100);
    let mut end = 0;
    for file in files {
        assert!(file.range.start >= end && file.range.end >= file.range.start);
        end = file.range.end;
    }
    assert!(end <= container.len() as u64);
});
