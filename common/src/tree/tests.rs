#![allow(clippy::unwrap_used)]
use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

fn lenient(text: &[u8], floats: PythonFloats) -> (Value<'_>, MetaTree) {
    let mut meta = MetaTree::default();
    let value = read_lenient(text, &mut meta, floats).unwrap();
    (value, meta)
}

fn document(text: &str) -> Document<'_> {
    Document::read(text.as_bytes(), PythonFloats::Refuse).unwrap()
}

#[test]
fn strings_without_escapes_are_borrowed() {
    let value = read(br#"{"plain":"text","escaped":"a\nb"}"#).unwrap();
    assert!(matches!(value.get("plain"), Some(Value::String(Cow::Borrowed("text")))));
    assert!(matches!(value.get("escaped"), Some(Value::String(Cow::Owned(text))) if text == "a\nb"));
}

#[test]
fn what_is_read_is_written_again() {
    let text = r#"{"a":[1,-2,1.5,18446744073709551615,true,false,null],"b":{"":"é\u0001\"\\"},"c":{}}"#;
    assert_eq!(read(text.as_bytes()).unwrap().to_json(), text);
    assert_eq!(document(text).to_json(), text.as_bytes());
}

#[test]
fn of_equal_keys_the_last_wins() {
    assert_eq!(read(br#"{"a":1,"b":2,"a":3}"#).unwrap().to_json(), r#"{"b":2,"a":3}"#);
    let many: String = (0..100).map(|number| format!("\"k{}\":{number},", number % 50)).collect();
    let value = read(format!("{{{}\"end\":0}}", many).as_bytes()).unwrap().into_owned();
    assert_eq!(value.as_object().unwrap().len(), 51);
    assert_eq!(value.get("k7").unwrap(), &Value::from(57_u64));
}

#[test]
fn each_known_fault_is_repaired_with_an_error_at_its_path() {
    let table: [(&[u8], &str, &str); 9] = [
        (b"{\"a\":\"x\xff\"}", "x\u{fffd}", "Unicode"),
        (br#"{"a":"x\ud83d"}"#, "x\u{fffd}", "Unicode"),
        (br#"{"a":"\ud83d\u0041"}"#, "\u{fffd}A", "Unicode"),
        (br#"{"a":"\udc00\ud83d\ude00"}"#, "\u{fffd}\u{1f600}", "Unicode"),
        (br#"{"a":"\u0000"}"#, "\u{fffd}", "NUL"),
        (b"{\"a\":\"x\0\"}", "x\u{fffd}", "NUL"),
        (br#"{"a":1e999}"#, "", "double"),
        (br#"{"a":-Infinity}"#, "", "number"),
        (br#"{"a":NaN}"#, "", "number"),
    ];
    for (text, expected, reason) in table {
        assert!(read(text).is_err(), "{text:?}");
        let (value, meta) = lenient(text, PythonFloats::Accept);
        let a = value.get("a").unwrap();
        assert_eq!(a.as_str().unwrap_or_default(), expected, "{text:?}");
        let said = meta.get(&Path::ROOT.key("a")).unwrap();
        assert!(said.errors[0].data[0].1.as_str().unwrap().contains(reason), "{text:?}: {said:?}");
        assert_eq!(said.errors[0].kind, "invalid_data");
    }
}

#[test]
fn a_repaired_key_keeps_its_value() {
    let (value, meta) = lenient(br#"{"k\ud800":{"b":1}}"#, PythonFloats::Refuse);
    assert_eq!(value.get("k\u{fffd}").unwrap().to_json(), r#"{"b":1}"#);
    assert!(!meta.child("k\u{fffd}").unwrap().meta.is_empty());
}

#[test]
fn what_is_nested_too_deep_becomes_text() {
    let deep = format!("{{\"a\":{}\"]\"{},\"b\":1}}", "[".repeat(100_000), "]".repeat(100_000));
    let document = document(&deep);
    assert_eq!(document.value.get("b"), Some(&Value::from(1_u64)));
    let written = document.to_json();
    assert!(written.len() < 4096, "{}", written.len());
    assert!(String::from_utf8(written).unwrap().contains("nested too deep"));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    for (text, offset) in [
        ("", 0),
        ("{", 1),
        ("{}{}", 2),
        (r#"{"a":}"#, 5),
        (r#"{"a":NaN}"#, 5),
        ("{'a':1}", 1),
        (r#"{"a" 1}"#, 5),
        (r#"["a"#, 2),
        (r#"["\x"]"#, 4),
        ("[01]", 1),
        ("[1,]", 3),
        ("[tru]", 1),
        ("[-]", 1),
    ] {
        let error = Document::read(text.as_bytes(), PythonFloats::Refuse).unwrap_err();
        assert_eq!(error.offset, offset, "{text}: {error}");
    }
}

#[test]
fn annotations_are_taken_from_the_event_and_put_back() {
    let text = r#"{"user":{"email":"[email]"},"_meta":{"user":{"email":{"":{"rem":[["@email","s",0,7],["x","x"]],"err":["a",["b",{"c":1}]],"len":15,"val":[1]}}}}}"#;
    let read = document(text);
    let said = read.meta.get(&Path::ROOT.key("user").key("email")).unwrap();
    assert_eq!(said.remarks[0], Remark::span("@email", RemarkKind::Substituted, 0, 7));
    assert_eq!(said.remarks[1], Remark::whole("x", RemarkKind::Removed));
    assert_eq!(said.original_length, Some(15));
    assert_eq!(read.to_json(), text.as_bytes());
}

#[test]
fn annotations_of_another_form_are_left_out() {
    let read = document(r#"{"a":1,"_meta":{"a":{"":{"rem":[["x","?"],5],"err":[7],"len":-1}},"b":"c"}}"#);
    assert!(read.meta.is_empty());
    assert_eq!(read.to_json(), br#"{"a":1}"#);
}

#[test]
fn a_path_reads_from_the_root() {
    let values = Path::ROOT.key("exception");
    let values = values.key("values");
    let first = values.index(0);
    let value = first.key("value");
    assert_eq!(value.to_string(), "exception.values.0.value");
    assert_eq!(value.upwards().next(), Some(Segment::Key("value")));
    assert_eq!(value.depth(), 4);
    assert_eq!(Path::ROOT.to_string(), "");
}

#[test]
fn an_object_keeps_the_order_of_its_keys() {
    let mut object: Object<'_> = [("b", 1_u64), ("a", 2)].into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    assert_eq!(object.insert("b", 3_u64), Some(Value::from(1_u64)));
    object.insert("c", Value::Null);
    object.remove("a");
    assert_eq!(Value::from(object).to_json(), r#"{"b":3,"c":null}"#);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        "[^\0]{0,10}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            proptest::collection::hash_map("[^\0]{0,5}", inner, 0..6)
                .prop_map(|map| serde_json::Value::from_iter(map.into_iter())),
        ]
    })
}

proptest! {
    #[test]
    fn both_readers_agree_with_the_library(value in json()) {
        let text = value.to_string();
        let strict = read(text.as_bytes()).unwrap();
        let (repaired, meta) = lenient(text.as_bytes(), PythonFloats::Refuse);
        prop_assert_eq!(&strict, &repaired);
        prop_assert!(meta.is_empty());
        let written: serde_json::Value = serde_json::from_str(&strict.to_json()).unwrap();
        prop_assert_eq!(written, value);
    }

    #[test]
    fn numbers_are_those_of_the_library(text in "-?[0-9]{1,22}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{1,3})?") {
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(number) => prop_assert_eq!(read(text.as_bytes()).unwrap().to_json(), number.to_string()),
            Err(_) => prop_assert!(read(text.as_bytes()).is_err()),
        }
    }

    #[test]
    fn strings_are_those_of_the_library(text in r#""([a-zé€ ]|\\[nt"\\/u]|\\u[0d][08c][03][01]|[\x01\x1f]){0,12}""#) {
        let written = text.as_bytes();
        let nul = text.contains("\\u0000");
        match serde_json::from_str::<String>(&text) {
            Ok(string) if !nul => prop_assert_eq!(read(written).unwrap(), Value::from(string)),
            _ => prop_assert!(read(written).is_err()),
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic_and_what_is_read_can_be_read_again(
        text in proptest::collection::vec(prop_oneof![
            Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b':'), Just(b','), Just(b'\\'),
            Just(b'u'), Just(b'd'), Just(b'8'), Just(b'0'), Just(b'-'), Just(b'.'), Just(b'e'), any::<u8>(),
        ], 0..60)
    ) {
        let library = serde_json::from_slice::<serde_json::Value>(&text).ok();
        let strict = read(&text).ok();
        let has_nul = strict.is_none() && String::from_utf8_lossy(&text).contains("\\u0000");
        prop_assert!(strict.is_some() == library.is_some() || has_nul, "{strict:?} {library:?}");
        if let Some((strict, library)) = strict.zip(library) {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&strict.to_json()).unwrap(), library);
        }
        let mut meta = MetaTree::default();
        if let Ok(value) = read_lenient(&text, &mut meta, PythonFloats::Accept) {
            let written = value.to_json();
            prop_assert_eq!(read(written.as_bytes()).unwrap(), value);
        }
    }
}

/// Found by fuzzing: it was written as what is said about the object, beside what was, and was gone when it was read.
#[test]
fn what_is_said_about_a_value_under_an_empty_key_is_not_written() {
    for text in [r#"{"":"\u0000"}"#, r#"{"a":{"":"\u0000"},"b":"\u0000"}"#] {
        let document = Document::read(text.as_bytes(), PythonFloats::Refuse).unwrap();
        let written = document.to_json();
        let again = Document::read(&written, PythonFloats::Refuse).unwrap();
        assert_eq!(String::from_utf8(again.to_json()).unwrap(), String::from_utf8(written).unwrap());
    }
}
