#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use picket_common::pii::detect::{
    BearerCheck, CardCheck, Case, CustomPattern, HomePath, IpCheck, KeyPattern, NameProfile, SensitiveNames,
};
use proptest::prelude::*;

use super::*;

fn rule(id: &'static str, kind: RuleKind, redaction: Redaction) -> CompiledRule {
    CompiledRule { id: Cow::Borrowed(id), remark_id: Cow::Borrowed(id), kind, redaction }
}

fn text_rule(id: &'static str, detector: Detector, redaction: Redaction) -> CompiledRule {
    rule(id, RuleKind::Text(detector), redaction)
}

fn with_text(text: &'static str) -> Redaction {
    Redaction::Replace(Cow::Borrowed(text))
}

fn pattern(id: &'static str, expression: &str, redaction: Redaction) -> CompiledRule {
    let compiled = CustomPattern::new(expression, &[], Case::Sensitive).unwrap();
    text_rule(id, Detector::Pattern(Arc::new(compiled)), redaction)
}

fn run(text: &str, rules: &[CompiledRule]) -> Option<RedactedText> {
    redact(text, None, rules.iter())
}

fn meta_of(redacted: &RedactedText) -> Meta {
    Meta { remarks: redacted.remarks.clone(), original_length: Some(redacted.original_chars), ..Meta::default() }
}

#[test]
fn spans_are_replaced_with_exact_byte_offsets() {
    let rules = [
        text_rule("@email", Detector::Email, with_text("[email]")),
        text_rule("@ip", Detector::Ip(IpCheck::Form), Redaction::Mask),
    ];
    let redacted = run("für a@b.de und 10.0.0.1: ok", &rules).unwrap();
    let text = redacted.text.clone().unwrap();
    assert_eq!(text, "für [email] und ********: ok");
    assert_eq!(
        redacted.remarks,
        [Remark::span("@email", RemarkKind::Substituted, 5, 12), Remark::span("@ip", RemarkKind::Masked, 17, 25)]
    );
    assert_eq!(&text[17..25], "********");
    assert_eq!(redacted.original_chars, 27);
}

#[test]
fn masks_count_characters_and_hashes_have_forty_digits() {
    let masked = run("ab日本c", &[pattern("p", "日本", Redaction::Mask)]).unwrap();
    assert_eq!(masked.text.as_deref(), Some("ab**c"));
    assert_eq!(masked.remarks, [Remark::span("p", RemarkKind::Masked, 2, 4)]);
    let hashed = run("ab日本c", &[pattern("p", "日本", Redaction::Hash)]).unwrap();
    let text = hashed.text.unwrap();
    assert_eq!(text.len(), 3 + 40);
    assert!(text[2..42].bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)));
}

#[test]
fn removed_spans_leave_an_empty_range_where_they_were() {
    let redacted =
        run("a 10.0.0.1 b 10.0.0.2", &[text_rule("@ip", Detector::Ip(IpCheck::Form), Redaction::Remove)]).unwrap();
    assert_eq!(redacted.text.as_deref(), Some("a  b "));
    assert_eq!(
        redacted.remarks,
        [Remark::span("@ip", RemarkKind::Removed, 2, 2), Remark::span("@ip", RemarkKind::Removed, 5, 5)]
    );
}

/// A removed user name made the next directory the user's, and so on to the end of the path; a removed pair made a new one of
/// what stood around it, and a second run went on where the first had stopped.
#[test]
fn what_a_rule_removes_does_not_lay_bare_what_stands_around_it() {
    let user_path = text_rule("@userpath:remove", Detector::UserPath(HomePath::Anywhere), Redaction::Remove);
    for (rule, text, expected) in [
        (user_path, "/home/jane/project/src/app/main.py", "/home//project/src/app/main.py"),
        (pattern("ab", "ab", Redaction::Remove), "aaaaaaaabbbbbbbb", "aaaaaaabbbbbbb"),
        (pattern("ab", "ab", Redaction::Default), "abab aabb", " ab"),
        (pattern("ab", "ab", with_text("")), "aaabbb", "aabb"),
        (pattern("other", "[^a-z]", Redaction::Remove), "a1b2c", "abc"),
    ] {
        let rules = [rule];
        let once = run(text, &rules).unwrap();
        assert_eq!(once.text.as_deref(), Some(expected), "{text}");
        assert_eq!(redact(expected, Some(&meta_of(&once)), rules.iter()), None, "a second run over {text}");
    }
}

#[test]
fn what_is_redacted_is_not_scrubbed_again_by_a_later_rule() {
    let rules = [
        text_rule("@email", Detector::Email, with_text("[email]")),
        pattern("z", "email|x", with_text("!")),
        text_rule(
            "zz",
            Detector::PairValue(Arc::new(KeyPattern::new("email", Case::Ignored).unwrap())),
            with_text("?"),
        ),
    ];
    let redacted = run("x a@b.de", &rules).unwrap();
    assert_eq!(redacted.text.as_deref(), Some("! [email]"));
    assert_eq!(
        redacted.remarks,
        [Remark::span("z", RemarkKind::Substituted, 0, 1), Remark::span("@email", RemarkKind::Substituted, 2, 9)]
    );
}

#[test]
fn a_hit_across_redacted_text_takes_what_is_free_of_it() {
    let rules = [text_rule("@email", Detector::Email, with_text("[email]")), pattern("z", "<.*>", with_text("#"))];
    let redacted = run("a <x a@b.de y> b", &rules).unwrap();
    assert_eq!(redacted.text.as_deref(), Some("a #[email]# b"));
}

#[test]
fn rules_on_the_whole_text_replace_or_null_it() {
    let filter = text_rule("@password:filter", Detector::Password, with_text("[Filtered]"));
    let redacted = run("my password is ü", &[filter]).unwrap();
    assert_eq!(redacted.text.as_deref(), Some("[Filtered]"));
    assert_eq!(redacted.remarks, [Remark::span("@password:filter", RemarkKind::Substituted, 0, 10)]);
    assert_eq!(redacted.original_chars, 16);
    let nulled = run("x", &[rule("@anything:remove", RuleKind::Anything, Redaction::Remove)]).unwrap();
    assert_eq!(nulled.text, None);
    assert_eq!(nulled.remarks, [Remark::whole("@anything:remove", RemarkKind::Removed)]);
    assert_eq!(run("x", &[rule("new", RuleKind::Anything, Redaction::Unknown)]), None);
}

#[test]
fn remarks_from_before_are_kept_and_moved() {
    let meta = Meta {
        remarks: vec![
            Remark::whole("!old", RemarkKind::Annotated),
            Remark::span("!limit", RemarkKind::Substituted, 12, 15),
            Remark::span("!lie", RemarkKind::Substituted, 0, 99),
        ],
        original_length: Some(400),
        ..Meta::default()
    };
    let rules = [text_rule("@ip", Detector::Ip(IpCheck::Form), with_text("[ip]"))];
    let redacted = redact("at 10.0.0.1 ...", Some(&meta), rules.iter()).unwrap();
    assert_eq!(redacted.text.as_deref(), Some("at [ip] ..."));
    assert_eq!(
        redacted.remarks,
        [
            Remark::whole("!old", RemarkKind::Annotated),
            Remark::span("@ip", RemarkKind::Substituted, 3, 7),
            Remark::span("!limit", RemarkKind::Substituted, 8, 11),
        ]
    );
    assert_eq!(redacted.original_chars, 400);
}

#[test]
fn a_rule_that_matches_a_key_replaces_the_whole_text_once() {
    let filter = text_rule("@password:filter", Detector::Password, with_text("[Filtered]"));
    let redacted = redact_whole("hunter2", None, &filter).unwrap();
    assert_eq!(redacted.text.as_deref(), Some("[Filtered]"));
    assert_eq!(redact_whole("[Filtered]", Some(&meta_of(&redacted)), &filter), None);
}

fn some_rules() -> Vec<CompiledRule> {
    let names = Arc::new(SensitiveNames::new(NameProfile::Strict));
    vec![
        text_rule("a", Detector::Email, with_text("[email]")),
        text_rule("b", Detector::Ip(IpCheck::Form), Redaction::Remove),
        text_rule("c", Detector::CreditCard(CardCheck::Issuer), Redaction::Mask),
        text_rule("d", Detector::NamedValue(Arc::clone(&names)), with_text("[Filtered]")),
        text_rule("dd", Detector::NamedPhrase(names), with_text("[Filtered]")),
        text_rule("ddd", Detector::KnownToken, with_text("[token]")),
        pattern("e", "[xü]+", Redaction::Hash),
        pattern("ee", "日1|01", Redaction::Remove),
        text_rule("f", Detector::Bearer(BearerCheck::Word), with_text("Bearer [token]")),
    ]
}

proptest! {
    #[test]
    fn a_second_run_changes_nothing_and_remarks_fit(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a@b.de", "10.0.0.1", "4111111111111111", "password=", "token: ", "x", "ü", " ", "1", ".", "bearer ", "\"", "日", "0",
            "--password ", "<password>", "</password>", "password is ", "hunter2", "Authorization: ", "Cookie: sid=", ";", "u'", "(",
            "[\"token\",", "AKIAABCDEFGHIJKLMNOP", "\n  ",
        ]), 0..12)
    ) {
        let (text, rules) = (pieces.concat(), some_rules());
        let Some(once) = redact(&text, None, rules.iter()) else { return Ok(()) };
        let now = once.text.clone().unwrap();
        let mut end = 0;
        for remark in &once.remarks {
            let (start, stop) = remark.range.unwrap();
            prop_assert!(start >= end && now.get(start..stop).is_some());
            end = stop;
        }
        prop_assert_eq!(redact(&now, Some(&meta_of(&once)), rules.iter()), None, "{} became {}", text, now);
    }
}
