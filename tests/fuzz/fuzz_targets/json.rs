//! Any bytes, read as an event's payload: an error or a document; a document written out is JSON of bounded depth that reads as the same
//! document without any further repair. What the strict reader takes, `serde_json` takes too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::tree::{Document, MAX_DEPTH, PythonFloats, Value, read};

fuzz_target!(|text: &[u8]| {
    if read(text).is_ok() {
        serde_json::from_slice::<serde_json::Value>(text).expect("what the strict reader takes is JSON");
    }
    for floats in [PythonFloats::Refuse, PythonFloats::Accept] {
        let Ok(document) = Document::read(text, floats) else { continue };
        assert!(depth(&document.value) <= MAX_DEPTH, "deeper than the bound");
        let written = document.to_json();
        serde_json::from_slice::<serde_json::Value>(&written).expect("what was written is JSON");
        let again = Document::read(&written, PythonFloats::Refuse).expect("what was written is a payload");
        assert_eq!(again.value, document.value);
        assert_eq!(again.to_json(), written, "written twice is written once");
    }
});

/// Levels of arrays and objects.
fn depth(value: &Value<'_>) -> usize {
    let below = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(object) => object.iter().map(|(_, value)| depth(value)).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}
