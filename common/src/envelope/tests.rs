#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn parse(text: &'static str) -> Result<Envelope, EnvelopeError> {
    Envelope::parse(Bytes::from_static(text.as_bytes()), MAX_ITEMS)
}

fn written(envelope: &Envelope) -> String {
    let mut out = Vec::new();
    envelope.write_to(&mut out).unwrap();
    assert_eq!(out.len(), envelope.serialized_len());
    String::from_utf8(out).unwrap()
}

#[test]
fn headers_payloads_and_unknown_keys_survive_byte_for_byte() {
    let text = "{\"event_id\":\"fc6d8c0c43fc4630ad850ee518f1b9d0\",\"zebra\": [1, 2]}\n\
                {\"type\":\"event\",\"length\":9,\"x\":null}\n{\"a\":\n 1}\n\
                {\"type\":\"sparkle\"}\nno length, to the newline\n";
    let envelope = parse(text).unwrap();
    assert_eq!(envelope.items().len(), 2);
    assert_eq!(&envelope.items()[0].payload()[..], b"{\"a\":\n 1}");
    assert_eq!(envelope.items()[1].item_type(), &ItemType::Unknown("sparkle".into()));
    assert_eq!(written(&envelope), text);
}

#[test]
fn the_last_newline_may_be_missing() {
    for text in ["{}", "{}\n", "{}\n{\"type\":\"event\"}", "{}\n{\"type\":\"event\"}\n", "{}\n{\"type\":\"event\"}\n{}"]
    {
        assert!(parse(text).is_ok(), "{text:?}");
    }
    assert_eq!(parse("{}").unwrap().items().len(), 0);
    assert_eq!(&parse("{}\n{\"type\":\"event\",\"length\":2}\n{}").unwrap().items()[0].payload()[..], b"{}");
}

#[test]
fn white_space_before_a_header_is_tolerated() {
    let envelope = parse(" \n{}\n \t{\"type\":\"event\"}\nx").unwrap();
    assert_eq!(&envelope.items()[0].payload()[..], b"x");
}

#[test]
fn each_framing_fault_refuses_the_whole_envelope() {
    assert!(matches!(parse(""), Err(EnvelopeError::Empty)));
    assert!(matches!(parse("  \n"), Err(EnvelopeError::Empty)));
    assert!(matches!(parse("[]\n"), Err(EnvelopeError::Header { .. })));
    assert!(matches!(parse("{\"event_id\":\"nope\"}\n"), Err(EnvelopeError::Header { .. })));
    assert!(matches!(
        parse("{\"event_id\":\"00000000000000000000000000000000\"}\n"),
        Err(EnvelopeError::Header { .. })
    ));
    assert!(matches!(parse("{}\r\n"), Err(EnvelopeError::MissingNewline { offset: 2 })));
    assert!(matches!(parse("{}\n\n"), Err(EnvelopeError::UnexpectedEnd { index: 0, .. })));
    assert!(matches!(parse("{}\n{\"length\":1}\nx"), Err(EnvelopeError::ItemHeader { .. })));
    assert!(matches!(
        parse("{}\n{\"type\":\"event\",\"length\":10}\nshort"),
        Err(EnvelopeError::PayloadTooShort { announced: 10, available: 5, .. })
    ));
    assert!(matches!(parse("{}\n{\"type\":\"event\",\"length\":1}\nxy"), Err(EnvelopeError::MissingNewline { .. })));
    assert!(matches!(
        parse("{}\n{\"type\":\"event\",\"length\":18446744073709551615}\n"),
        Err(EnvelopeError::PayloadTooShort { .. })
    ));
}

#[test]
fn a_trailing_blank_line_is_an_unexpected_end() {
    let fault = parse("{}\n{\"type\":\"event\",\"length\":2}\n{}\n\n").unwrap_err();
    assert!(matches!(fault, EnvelopeError::UnexpectedEnd { index: 1, .. }), "{fault}");
}

#[test]
fn the_number_of_items_is_bounded() {
    let mut body = b"{}\n".to_vec();
    for _ in 0..3 {
        body.extend_from_slice(b"{\"type\":\"event\",\"length\":0}\n\n");
    }
    assert!(Envelope::parse(Bytes::from(body.clone()), 3).is_ok());
    assert!(matches!(Envelope::parse(Bytes::from(body), 2), Err(EnvelopeError::TooManyItems { limit: 2 })));
}

#[test]
fn a_header_that_is_a_list_is_none() {
    assert!(matches!(parse("[]\n"), Err(EnvelopeError::Header { .. })));
    for text in ["{}\n[\"event\",2]\n{}", "{}\n[\"event\",2,null,null]\n{}", "{}\n[]\n{}"] {
        assert!(matches!(parse(text), Err(EnvelopeError::ItemHeader { index: 0, .. })), "{text}");
    }
}

#[test]
fn a_header_is_bounded_however_long_the_body() {
    let long = "0,".repeat(MAX_HEADER_BYTES);
    let envelope = Envelope::parse(Bytes::from(format!("{{\"sent_at\":[{long}0]}}\n")), MAX_ITEMS);
    assert!(matches!(envelope, Err(EnvelopeError::HeaderTooLong { offset: 0 })));
    let item = format!("{{}}\n{{\"type\":\"event\",\"x\":[{long}0]}}\n");
    assert!(matches!(Envelope::parse(Bytes::from(item), MAX_ITEMS), Err(EnvelopeError::HeaderTooLong { offset: 3 })));
}

#[test]
fn an_event_id_is_set_without_losing_other_keys() {
    let mut envelope = parse("{\"trace\":{\"public_key\":\"k\"}}\n").unwrap();
    envelope.set_event_id("fc6d8c0c43fc4630ad850ee518f1b9d0".parse().unwrap());
    let again = Envelope::parse(Bytes::from(written(&envelope)), MAX_ITEMS).unwrap();
    assert_eq!(again.event_id(), envelope.event_id());
    assert!(written(&envelope).contains("\"trace\":{\"public_key\":\"k\"}"));
}

#[test]
fn a_replaced_payload_gets_its_length() {
    let mut item = Item::new(ItemType::Event, Bytes::from_static(b"{}"));
    item.set_payload(Bytes::from_static(b"{\n}"));
    let mut envelope = Envelope::empty();
    envelope.push(item);
    let again = Envelope::parse(Bytes::from(written(&envelope)), MAX_ITEMS).unwrap();
    assert_eq!(&again.items()[0].payload()[..], b"{\n}");
}

#[test]
fn a_broken_send_time_or_dsn_does_not_cost_the_envelope() {
    let envelope = parse("{\"sent_at\":12,\"dsn\":\"nonsense\"}\n").unwrap();
    assert_eq!(envelope.sent_at(), None);
    assert!(envelope.dsn().is_err());
}

#[test]
fn crash_attachments_create_an_event_and_others_do_not() {
    let kind = |header: &'static str| parse(header).unwrap().items()[0].creates_event();
    assert!(kind("{}\n{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\"}\n"));
    assert!(!kind("{}\n{\"type\":\"attachment\"}\n"));
    assert!(!kind("{}\n{\"type\":\"session\"}\n"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Envelope::parse(Bytes::from(body), 10);
    }

    #[test]
    fn bytes_near_an_envelope_never_panic_and_what_parses_round_trips(
        body in "(\\{\\}|\\{\"event_id\":\"[0-9a-f]{32}\"\\})(\n(\\{\"type\":\"event\"(,\"length\":[0-9])?\\}|[a-z \n]{0,4})){0,8}"
    ) {
        if let Ok(envelope) = Envelope::parse(Bytes::from(body), 20) {
            let once = written(&envelope);
            let again = Envelope::parse(Bytes::from(once.clone()), 20).unwrap();
            prop_assert_eq!(written(&again), once);
        }
    }

    #[test]
    fn any_payloads_with_lengths_round_trip(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
        let mut envelope = Envelope::empty();
        for payload in &payloads {
            envelope.push(Item::new(ItemType::Attachment, Bytes::from(payload.clone())));
        }
        let mut out = Vec::new();
        envelope.write_to(&mut out).unwrap();
        let again = Envelope::parse(Bytes::from(out), MAX_ITEMS).unwrap();
        let read: Vec<_> = again.items().iter().map(|item| item.payload().to_vec()).collect();
        prop_assert_eq!(read, payloads);
    }
}

#[test]
fn a_header_that_cannot_be_held_as_text_keeps_what_is_known_when_it_is_edited() {
    let body =
        "{\"x\":\"\\ud800\"}\n{\"type\":\"attachment\",\"attachment_type\":\"a\",\"filename\":\"\\ud800\"}\nabc\n";
    let mut envelope = Envelope::parse(Bytes::from(body), MAX_ITEMS).unwrap();
    envelope.set_event_id(EventId::from_random([1; 16]));
    let mut items = envelope.take_items();
    items[0].set_payload(Bytes::from_static(b"a longer one"));
    envelope.push(items.remove(0));
    let mut written = Vec::new();
    envelope.write_to(&mut written).unwrap();
    let again = Envelope::parse(Bytes::from(written), MAX_ITEMS).unwrap();
    assert_eq!(again.event_id(), envelope.event_id());
    assert_eq!(again.items()[0].attachment_type(), Some("a"));
    assert_eq!(&again.items()[0].payload()[..], b"a longer one");
}
