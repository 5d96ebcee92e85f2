//! Any text: an error or a selector that, written out, is read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::pii::Selector;

fuzz_target!(|text: &str| {
    let Ok(selector) = text.parse::<Selector>() else { return };
    let written = selector.to_string();
    assert_eq!(written.parse::<Selector>().as_ref(), Ok(&selector), "{written}");
});
