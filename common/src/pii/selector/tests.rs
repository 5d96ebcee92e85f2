#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    text.parse::<Selector>().unwrap().to_string()
}

#[test]
fn every_form_of_the_grammar_is_read() {
    for (text, canonical) in [
        ("foo", "foo"),
        ("foo.bar", "foo.bar"),
        (" foo . bar ", "foo.bar"),
        ("**", "**"),
        ("foo.**.bar", "foo.**.bar"),
        ("foo.*", "foo.*"),
        ("*.cookies.sid", "*.cookies.sid"),
        ("exception.values.0.value", "exception.values.0.value"),
        ("$string", "$string"),
        ("$freeform", "$string"),
        ("$databag", "$object"),
        ("$exception.value", "$error.value"),
        ("$STACKTRACE", "$stack"),
        ("$request.headers.'User-Agent'", "$http.headers.User-Agent"),
        ("'it''s here'.'é'", "'it''s here'.'é'"),
        ("''", "''"),
        ("a|b", "(a || b)"),
        ("a || b && c", "(a || (b && c))"),
        ("(a || b) & c", "((a || b) && c)"),
        ("!a", "!a"),
        ("~(a|b)", "!(a || b)"),
        ("!(!a)", "!(!a)"),
        ("((a))", "a"),
        ("a&!b&c", "(a && !b && c)"),
        ("$minidump.heap_memory", "$minidump.heap_memory"),
        ("$attachments.'log file.txt'", "$attachments.'log file.txt'"),
    ] {
        assert_eq!(shown(text), canonical, "{text}");
    }
}

#[test]
fn an_error_points_at_the_character() {
    for (text, character, word) in [
        ("", 1, "ends where"),
        ("*", 1, "single `*`"),
        ("a || *", 6, "single `*`"),
        ("***", 1, "any number"),
        ("a.**.b.**", 1, "one `**`"),
        ("$strin", 1, "`$strin`"),
        ("é", 1, "expected a key"),
        ("'é'.$nope", 5, "`$nope`"),
        ("'open", 1, "not closed"),
        ("(a", 1, "not closed"),
        ("a)", 2, "never opened"),
        ("a b", 3, "expected `||`"),
        ("0x", 1, "in quotes"),
        ("a..b", 3, "expected a key"),
        ("a ||", 5, "ends where"),
        ("!!a", 2, "expected a key"),
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert_eq!(error.character, character, "{text}: {error}");
        assert!(error.problem.contains(word), "{text}: {error}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(DEPTH_MAX).parse::<Selector>().is_ok());
    assert!(nested(DEPTH_MAX + 1).parse::<Selector>().is_err());
    assert!("(".repeat(SELECTOR_BYTES_MAX).parse::<Selector>().is_err());
    assert!("a".repeat(SELECTOR_BYTES_MAX + 1).parse::<Selector>().is_err());
}

#[test]
fn specific_paths_name_what_they_select() {
    for (text, specific) in [
        ("tags.server", true),
        ("$user.email", true),
        ("exception.values.*.value", true),
        ("stack.$frame", false),
        ("$string", false),
        ("tags.$string", false),
        ("**", false),
        ("tags.**", false),
        ("$minidump.$stack_memory", true),
    ] {
        let Selector::Path(path) = text.parse::<Selector>().unwrap() else { panic!("{text} is a path") };
        assert_eq!(path.is_specific(), specific, "{text}");
    }
}

#[test]
fn every_type_is_found_by_its_name() {
    for kind in ValueType::all() {
        assert_eq!(ValueType::of_name(kind.name()), Some(kind));
        assert_eq!(TypeSet::of(kind).positions().collect::<Vec<_>>(), [kind as usize]);
    }
}

fn item() -> impl Strategy<Value = SelectorItem> {
    prop_oneof![
        "\\PC{0,6}".prop_map(|key| SelectorItem::Key(key.into())),
        "[a-z_][a-z0-9_-]{0,5}".prop_map(|key| SelectorItem::Key(key.into())),
        (0..26_usize).prop_map(|at| SelectorItem::Type(ValueType::all().nth(at).unwrap())),
        any::<usize>().prop_map(SelectorItem::Index),
        Just(SelectorItem::Wildcard),
        Just(SelectorItem::DeepWildcard),
    ]
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let path = proptest::collection::vec(item(), 1..5)
        .prop_filter_map("a path", |items| SelectorPath::new(items).ok().map(Selector::Path));
    path.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Selector::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Selector::Or),
            inner.prop_map(|inner| Selector::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(selector in any_selector()) {
        prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9$*.'|&!~() é]{0,40}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }
    }
}
