//! Any text: an error or a join token, which has an address and a secret; written out it is the same token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::wire::join::JoinToken;

fuzz_target!(|text: &str| {
    let Ok(token) = text.parse::<JoinToken>() else { return };
    assert!(!token.addresses.is_empty() && !token.secret.is_empty());
    let again: JoinToken = token.to_string().parse().expect("what we wrote is a token");
    assert!(again == token);
});
