//! Any JSON as each kind of item that is normalised: refused or normalised; what was normalised is JSON, and normalising it again,
//! as it was written, changes nothing.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use picket_common::normalise::{ClientHints, EventContext, IpInference, normalise_event, normalise_feedback};
use picket_common::timestamp::Timestamp;
use picket_common::tree::{Document, PythonFloats};

fuzz_target!(|text: &[u8]| {
    let context = EventContext {
        event_id: None,
        received_at: Timestamp::from_millis(1_750_000_000_000),
        sent_at: None,
        client_address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        ip_inference: IpInference::Allowed,
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        client_hints: ClientHints::default(),
        client: Some("raven-python/6.10.0"),
        retention_days: 90,
    };
    let kinds = [normalise_event, normalise_feedback];
    for normalise in kinds {
        let Ok(mut document) = Document::read(text, PythonFloats::Accept) else { return };
        if normalise(&mut document, &context).is_err() {
            continue;
        }
        let written = document.to_json();
        let mut again = Document::read(&written, PythonFloats::Refuse).expect("what was written is JSON");
        normalise(&mut again, &context).expect("what was normalised is taken again");
        let rewritten = again.to_json();
        assert_eq!(String::from_utf8_lossy(&rewritten), String::from_utf8_lossy(&written));
    }
});
