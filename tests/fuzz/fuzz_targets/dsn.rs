//! Any text: an error or a DSN; a DSN written out is the same DSN.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::dsn::Dsn;

fuzz_target!(|text: &str| {
    let Ok(dsn) = text.parse::<Dsn>() else { return };
    let again: Dsn = dsn.to_string().parse().expect("what we wrote is a DSN");
    assert_eq!(again, dsn);
});
