//! What one request may cost, and what becomes of parts that cost more or can't be read.

use picket_common::category::DataCategory;

use super::*;
use crate::tally::Tally;

/// A map that holds a list of as many nulls as fit into so many bytes.
fn nulls(bytes: usize) -> Vec<u8> {
    let count = bytes - 8;
    let head = [&[0x81, 0xa1, b'a', 0xdd][..], &u32::try_from(count).unwrap().to_be_bytes()].concat();
    [head, vec![0xc0; count]].concat()
}

/// What was dropped: reason and number of items.
fn dropped(workshop: &mut Workshop) -> Vec<(String, u64)> {
    let dropped = workshop.take_dropped();
    let count = |tally: &Tally| {
        let of_items = tally.iter().filter(|(category, _)| *category == DataCategory::AttachmentItem);
        of_items.map(|(_, quantity)| quantity).sum()
    };
    dropped.iter().map(|(_, reason, tally)| (reason.to_string(), count(tally))).collect()
}

fn envelope_of(items: Vec<Item>) -> Envelope {
    let mut envelope = Envelope::empty();
    items.into_iter().for_each(|item| envelope.push(item));
    envelope
}

#[test]
fn thirty_files_of_one_byte_values_are_decoded_within_one_allowance_and_the_crash_is_kept() {
    let (_directory, mut workshop) = workshop();
    // Were any two of the files decoded at once, or one of them whole, this would not do.
    workshop.decoding = MemoryBudget::new(allowance::MAX_DECODED_BYTES);
    let mut items = vec![attachment(MINIDUMP, "x.dmp", DUMP)];
    items.extend((0..29).map(|_| attachment(BREADCRUMBS, "b", nulls(1024 * 1024))));
    let envelope = expand(envelope_of(items), &mut workshop).unwrap();
    assert_eq!(event(&envelope)["exception"]["values"][0]["mechanism"]["type"], "minidump");
    assert_eq!(envelope.items().len(), 2);
    let dropped = dropped(&mut workshop);
    assert_eq!(dropped.len(), 29);
    assert!(dropped.iter().all(|dropped| *dropped == ("invalid_attachment".to_owned(), 1)), "{dropped:?}");
}

#[test]
fn a_crash_waits_its_turn_when_there_is_no_memory_to_decode_it() {
    let (_directory, mut workshop) = workshop();
    workshop.decoding = MemoryBudget::new(1024 * 1024);
    for items in [
        vec![attachment(EVENT_PAYLOAD, "e", nulls(100_000))],
        vec![attachment(BREADCRUMBS, "b", nulls(100_000))],
        vec![attachment(MINIDUMP, "x.dmp", DUMP), form(&[("a", &"x".repeat(100_000))])],
    ] {
        let refused = expand(envelope_of(items), &mut workshop);
        assert!(matches!(refused, Err(CrashError::NoMemory)), "{refused:?}");
    }
    assert_eq!(workshop.decoding.used(), 0);
}

#[test]
fn an_event_of_nothing_but_braces_is_refused_before_it_is_a_hundred_times_as_large() {
    let braces = format!("{{\"a\":[{}{{}}]}}", "{\"\":0},".repeat(140_000));
    let refused = expanded(vec![attachment(MINIDUMP, "x.dmp", DUMP), Item::new(ItemType::Event, Bytes::from(braces))]);
    assert!(matches!(&refused, Err(CrashError::TooMuch { what, .. }) if **what == *"event"), "{refused:?}");
}

#[test]
fn numbers_and_sizes_are_checked_before_anything_is_unpacked() {
    let too_large = |items: Vec<Item>| match expanded(items) {
        Err(CrashError::Refused(Refusal::TooLarge { what, .. })) => what,
        other => unreachable!("{other:?}"),
    };
    // None of these can be unpacked at all, which would be told as damage.
    let damaged = || attachment(MINIDUMP, "x.dmp.gz", &b"\x1f\x8b\x08nonsense"[..]);
    assert_eq!(&*too_large((0..31).map(|_| damaged()).collect()), "attachment");
    let event = || Item::new(ItemType::Event, Bytes::from_static(b"{}"));
    assert_eq!(&*too_large(vec![event(), event(), damaged()]), "event", "one of two events would vanish");
}

#[test]
fn what_is_unpacked_has_one_limit_for_all_of_it() {
    let dump = gzip(&[DUMP, &vec![0; 1_500_000]].concat());
    for (dumps, passes) in [(2, true), (3, false), (20, false)] {
        let (_directory, mut workshop) = workshop();
        workshop.limits.max_attachment_bytes = picket_common::config::ByteSize::mib(2);
        workshop.limits.max_attachments_bytes = picket_common::config::ByteSize::mib(4);
        let staging = workshop.staging.clone();
        let items = (0..dumps).map(|_| attachment(MINIDUMP, "x.dmp.gz", dump.clone())).collect();
        let expanded = expand(envelope_of(items), &mut workshop);
        assert_eq!(expanded.is_ok(), passes, "{dumps}");
        if let Err(failure) = expanded {
            assert!(matches!(&failure, CrashError::TooMuch { what, .. } if **what == *"attachment"), "{failure}");
            assert_eq!(staging.used(), 0);
        }
    }
}

#[test]
fn only_the_newest_breadcrumbs_are_kept_and_older_ones_cost_nothing() {
    let crumb = |number: usize| packed(&json!({"timestamp": number, "message": "x".repeat(2_000)}));
    let file = |from: usize| (from..from + 400).flat_map(crumb).collect::<Vec<_>>();
    let list: Vec<u8> = [vec![0xdc, 0, 50], (2_000..2_050).flat_map(crumb).collect()].concat();
    let (_directory, mut workshop) = workshop();
    // Less than one file takes.
    workshop.decoding = MemoryBudget::new(4 * 1024 * 1024);
    let items = vec![
        attachment(BREADCRUMBS, "2", file(1_000)),
        attachment(BREADCRUMBS, "3", list),
        attachment(BREADCRUMBS, "1", file(0)),
    ];
    let event = event(&expand(envelope_of(items), &mut workshop).unwrap());
    let crumbs = event["breadcrumbs"]["values"].as_array().unwrap();
    let times: Vec<_> = crumbs.iter().map(|crumb| crumb["timestamp"].as_u64().unwrap()).collect();
    assert_eq!(times, (1_350..1_400).chain(2_000..2_050).collect::<Vec<_>>());
    assert!(dropped(&mut workshop).is_empty());
}

#[test]
fn a_part_that_is_too_long_or_no_message_pack_is_counted_and_one_that_was_cut_off_is_used() {
    let cut = packed(&json!({"message": "whole"}));
    let cut = [&cut[..], &cut[..4]].concat();
    let (_directory, mut workshop) = workshop();
    let envelope = expand(
        envelope_of(vec![
            attachment(EVENT_PAYLOAD, "long", vec![0xc0; 1024 * 1024 + 1]),
            attachment(EVENT_PAYLOAD, "none", "\u{1}nonsense"),
            attachment(BREADCRUMBS, "cut", cut),
            attachment(MINIDUMP, "x.dmp", DUMP),
        ]),
        &mut workshop,
    );
    let errors = event(&envelope.unwrap())["errors"].clone();
    let names: Vec<_> = errors.as_array().unwrap().iter().map(|error| error["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["long", "none", "cut"]);
    let counted = ("invalid_attachment".to_owned(), 1);
    assert_eq!(dropped(&mut workshop), [counted.clone(), counted]);
}

#[test]
fn maps_as_keys_of_maps_do_not_double_with_each_level() {
    let bytes = vec![0x81; 90];
    let envelope = expanded(vec![attachment(EVENT_PAYLOAD, "x", [bytes, vec![0xc0; 91]].concat())]).unwrap();
    assert_eq!(event(&envelope)["errors"][0]["name"], "x");
}

#[test]
fn every_form_of_message_pack_is_read() {
    let table: [(rmpv::Value, Value); 12] = [
        (rmpv::Value::Nil, json!(null)),
        (rmpv::Value::from(u64::MAX), json!(u64::MAX)),
        (rmpv::Value::from(300), json!(300)),
        (rmpv::Value::from(70_000), json!(70_000)),
        (rmpv::Value::from(-1), json!(-1)),
        (rmpv::Value::from(-200), json!(-200)),
        (rmpv::Value::from(-70_000), json!(-70_000)),
        (rmpv::Value::from(i64::MIN), json!(i64::MIN)),
        (rmpv::Value::F32(1.5), json!(1.5)),
        (rmpv::Value::F64(f64::NAN), json!(null)),
        (rmpv::Value::Binary(b"a\xff".to_vec()), json!("a\u{fffd}")),
        (rmpv::Value::Ext(1, vec![0; 5]), json!(null)),
    ];
    let long = "y".repeat(70_000);
    let lists = vec![rmpv::Value::from(long.as_str()); 20];
    let mut pairs: Vec<_> =
        table.iter().zip(0..).map(|((packed, _), key)| (rmpv::Value::from(key), packed.clone())).collect();
    pairs.push((rmpv::Value::from("x".repeat(300)), rmpv::Value::Map(vec![(true.into(), rmpv::Value::Array(lists))])));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &rmpv::Value::Map(vec![("extra".into(), rmpv::Value::Map(pairs))])).unwrap();
    let (_directory, mut workshop) = workshop();
    workshop.limits.max_event_bytes = picket_common::config::ByteSize::mib(8);
    let envelope = expand(envelope_of(vec![attachment(EVENT_PAYLOAD, "x", bytes)]), &mut workshop).unwrap();
    let extra = &event(&envelope)["extra"];
    for ((_, expected), key) in table.iter().zip(0..) {
        assert_eq!(&extra[key.to_string()], expected);
    }
    assert_eq!(extra["x".repeat(300)]["true"][19], long);
}
