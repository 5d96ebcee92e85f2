//! Which annotations are believed: a client can write anything into `_meta`, and what is believed to be redacted is not looked at
//! again.
//!
//! | annotation | is believed if |
//! | --- | --- |
//! | `[rule, …]` | `rule` can be the id of a rule; else it is forgotten |
//! | `[rule, letter, start, end]` | the text there is what a rule leaves: a replacement of this project's rules, stars, a hash, nothing, or the `...` at the end of a cut text; else it is about the value as a whole |
//! | `err` | its kind is a word; else it becomes [`UNKNOWN_ERROR`] |
//!
//! Invariant: what is believed once, is believed again after scrubbing.
//!
//! What it does not do: scrub what annotations quote; the walk does that.

use picket_common::pii::ruleset::FILTERED;
use picket_common::tree::{Meta, MetaTree, Remark, RemarkKind, Value};

use super::fields::Fields;
use super::plan::Plan;

/// Longest id of a rule and longest kind of error; people choose short ones.
const WORD_BYTES_MAX: usize = 100;
/// What cut texts end in, and the rule that says so.
const ELLIPSIS: &str = "...";
const LIMIT: &str = "!limit";
/// Digits of a hash.
const HASH_BYTES: usize = 40;
/// Stands for an error whose kind is no word: it could be anything that was typed into a form.
const UNKNOWN_ERROR: &str = "unknown_error";

/// Leaves what can be believed of what is said about a value and everything below.
pub(super) fn leave_what_is_believed(node: &mut MetaTree, value: Option<&Value<'_>>, plan: &Plan) {
    settle(&mut node.meta, value.and_then(Value::as_str), plan);
    let fields = Fields::of(value, node.children().count());
    for (segment, child) in node.children_mut() {
        leave_what_is_believed(child, fields.get(segment), plan);
    }
}

fn settle(meta: &mut Meta, text: Option<&str>, plan: &Plan) {
    meta.remarks.retain(|remark| is_rule_id(&remark.rule));
    for remark in &mut meta.remarks {
        if let Some((start, end)) = remark.range
            && remark.kind != RemarkKind::Annotated
            && !text.is_some_and(|text| is_redacted(text, start, end, remark, plan))
        {
            remark.range = None;
        }
    }
    for error in meta.errors.iter_mut().filter(|error| !is_error_kind(&error.kind)) {
        error.kind = UNKNOWN_ERROR.into();
    }
}

/// Whether a part of a text is what a rule leaves.
fn is_redacted(text: &str, start: usize, end: usize, remark: &Remark, plan: &Plan) -> bool {
    let Some(left) = text.get(start..end) else { return false };
    match remark.kind {
        RemarkKind::Annotated | RemarkKind::Encrypted => false,
        RemarkKind::Removed => left.is_empty(),
        RemarkKind::Masked => left.bytes().all(|byte| byte == b'*'),
        RemarkKind::Pseudonymised => {
            left.len() == HASH_BYTES && left.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
        }
        RemarkKind::Substituted if remark.rule == LIMIT => left == ELLIPSIS && end == text.len(),
        RemarkKind::Substituted => left == FILTERED || plan.puts(left),
    }
}

/// Whether a text can be the id of a rule, as people name rules: no sentence, nothing with a value in it, no mail address.
fn is_rule_id(text: &str) -> bool {
    let name = text.strip_prefix(['@', '!']).unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.');
    text.len() <= WORD_BYTES_MAX && name.bytes().all(fits)
}

/// Whether a text can be the kind of an error: `invalid_data`.
fn is_error_kind(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= WORD_BYTES_MAX && text.bytes().all(fits)
}
