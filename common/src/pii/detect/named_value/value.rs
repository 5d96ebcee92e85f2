//! Where the value ends that begins after a name.
//!
//! ```text
//! "…"  '…'  \"…\"  """…"""  u'…'  @"…"      a literal: between its quotes
//! Some("…")  SecretStr('…')  string(6) "…"   the literal inside
//! […]  {…}  (…)                              to the bracket that closes; brackets in literals are not counted
//! \n  indented                               the line below, and with `|` or `>` the block
//! Basic dXNl…                                a scheme and its credentials
//! word                                       to a blank or a sign that separates
//! ```

use std::ops::Range;

use super::super::is_word;
use super::plain::{FILLER, is_cut_replacement};

/// How far a closing quote or bracket is looked for. What is longer is cut there, and what remains is looked at as text.
pub(super) const VALUE_BYTES_MAX: usize = 64 * 1024;

/// How much is taken behind a bracket that nothing closes: the text may have been cut, or the bracket may be prose.
const UNCLOSED_BYTES_MAX: usize = 8 * 1024;

/// How far a literal of a source line may reach.
const LITERAL_BYTES_MAX: usize = 4 * 1024;

/// A shorter value of a setting in source text may be the name of a variable.
const SETTING_BYTES_MIN: usize = 6;

/// Types and variables have fewer digits in their names: `Uint8Array`, `sha256`.
const SPACED_SETTING_DIGITS_MIN: usize = 4;

/// The longest replacement that a bracket opens.
const REPLACEMENT_BYTES_MAX: usize = 16;

/// How far the name of a function or type may reach, and a line that is looked through.
const LOOK_BYTES_MAX: usize = 256;

/// Letters and signs before a quote that say what kind of literal it opens, in any of a dozen languages.
const LITERAL_PREFIXES: &[u8] = b"bBuUrRfFLNxX@$&*#";

/// Words that announce credentials in a header (RFC 9110 §11.1): the value is what follows.
const SCHEMES: [&[u8]; 6] = [b"basic", b"bearer", b"digest", b"negotiate", b"token", b"apikey"];

const BLANKS: &[u8] = b" \t";

/// The value after a separator, without its quotes. `name_start` is where the name before it begins.
pub(super) fn value_after(bytes: &[u8], separator: usize, name_start: usize) -> Range<usize> {
    // `==`, `=>`, `:=`, then space.
    let signs_end = skip(bytes, separator + 1, b"=>");
    let start = skip(bytes, signs_end, BLANKS);
    let is_key = bytes[separator] == b':' && signs_end == separator + 1;
    match bytes.get(start) {
        Some(b'\n' | b'\r') if bytes[signs_end - 1] == b'>' => {
            value_at(bytes, skip(bytes, start, b" \t\r\n"), name_start)
        }
        Some(b'\n' | b'\r' | b'|' | b'>') if is_key => {
            block_below(bytes, start, name_start).unwrap_or_else(|| value_at(bytes, start, name_start))
        }
        _ => value_at(bytes, start, name_start),
    }
}

/// The value that begins here.
pub(super) fn value_at(bytes: &[u8], start: usize, name_start: usize) -> Range<usize> {
    if let Some(inside) = quoted(bytes, start).or_else(|| prefixed(bytes, start)).or_else(|| wrapped(bytes, start)) {
        return inside;
    }
    match bytes.get(start) {
        Some(b'[' | b'{' | b'(') => bracketed(bytes, start),
        _ => start..bare_end(bytes, start, name_start),
    }
}

/// A literal of source text after a separator: on one line, alone or as what a type is made of.
pub(super) fn literal_after(bytes: &[u8], separator: usize) -> Option<Range<usize>> {
    let start = skip(bytes, skip(bytes, separator + 1, b"=>"), BLANKS);
    let line = up_to(bytes, start, LITERAL_BYTES_MAX);
    let literal = quoted(line, start).or_else(|| prefixed(line, start));
    let of_type = || wrapped(line, start).filter(|inside| line[start..inside.start].iter().any(u8::is_ascii_uppercase));
    let literal = literal.or_else(of_type).filter(|inside| inside.end < line.len());
    literal.filter(|inside| !line[start..inside.end].contains(&b'\n'))
}

/// The value of a setting in source text: `name=value` with letters and digits mixed, as in shells; with blanks, as in YAML, a
/// longer one with more digits than names of variables and types have. Nothing that code goes on after.
pub(super) fn setting_after(bytes: &[u8], separator: usize) -> Option<Range<usize>> {
    let start = skip(bytes, separator + 1, BLANKS);
    let is_close = start == separator + 1
        && bytes[separator] == b'='
        && bytes[..separator].last().is_some_and(|before| !BLANKS.contains(before));
    let of_value = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+/!@#%^*~=".contains(&byte);
    let end = skip_while(up_to(bytes, start, LOOK_BYTES_MAX), start, of_value);
    let value = &bytes[start..end];
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_code = matches!(bytes.get(end), Some(b'.' | b'(' | b'[' | b':')) || value.starts_with(b"=");
    let is_long_enough = match is_close {
        true => value.len() >= SETTING_BYTES_MIN && digits >= 1,
        false => value.len() >= 2 * SETTING_BYTES_MIN && digits >= SPACED_SETTING_DIGITS_MIN,
    };
    (is_long_enough && value.iter().any(u8::is_ascii_alphabetic) && !is_code).then_some(start..end)
}

pub(super) fn skip(bytes: &[u8], at: usize, skipped: &[u8]) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|byte| !skipped.contains(byte)).map_or(bytes.len(), |offset| at + offset)
}

pub(super) fn line_end(bytes: &[u8], at: usize) -> usize {
    memchr::memchr2(b'\r', b'\n', &bytes[at..]).map_or(bytes.len(), |offset| at + offset)
}

pub(super) fn up_to(bytes: &[u8], from: usize, count: usize) -> &[u8] {
    &bytes[..bytes.len().min(from + count)]
}

/// What stands between the quotes that open here. One that is not closed reaches as far as is looked.
pub(super) fn quoted(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let quote_at = skip(bytes, start, b"\\");
    let quote = *bytes.get(quote_at).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))?;
    let text = up_to(bytes, quote_at, VALUE_BYTES_MAX);
    let repeated = text[quote_at..].iter().take(3).take_while(|&&byte| byte == quote).count();
    let escapes = quote_at - start;
    let opens = match repeated {
        3 => {
            let from = quote_at + 3;
            let end = memchr::memmem::find(&text[from..], &[quote; 3]).map_or(text.len(), |offset| from + offset);
            return Some(from..end);
        }
        // Quotes doubled in a table or a statement; else an empty text.
        2 if text.get(quote_at + 2).is_some_and(|&byte| is_word(byte)) => quote_at + 2,
        _ => quote_at + 1,
    };
    let doubling = if opens == quote_at + 1 { Doubling::IsQuote } else { Doubling::Closes };
    let end = closing_quote(text, opens, quote, escapes, doubling).map_or(text.len(), |closing| closing.start);
    Some(opens..end)
}

/// What stands between the quotes of `u'…'` and the like, if they are closed: an open one may close what began before.
fn prefixed(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let prefix = bytes.get(start..)?.iter().take(3).take_while(|byte| LITERAL_PREFIXES.contains(byte)).count();
    let inside = if prefix == 0 { None } else { quoted(bytes, start + prefix) }?;
    (inside.end < bytes.len() && !inside.is_empty()).then_some(inside)
}

/// The literal in `Name("…")`, `Name::new(b"…")`, `string(6) "…"`.
fn wrapped(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let of_name = |byte: &u8| is_word(*byte) || b":.<>&".contains(byte);
    let name = bytes.get(start..)?.iter().take(LOOK_BYTES_MAX).take_while(|byte| of_name(byte)).count();
    let bracket = start + name;
    if name == 0 || bytes.get(bracket) != Some(&b'(') {
        return None;
    }
    let inner = skip(bytes, bracket + 1, BLANKS);
    let closed = |inside: Range<usize>| (inside.end < bytes.len()).then_some(inside);
    if let Some(inside) = quoted(bytes, inner).and_then(closed).or_else(|| prefixed(bytes, inner)) {
        return Some(inside);
    }
    let length_end = skip(bytes, inner, b"0123456789");
    (length_end > inner && bytes.get(length_end) == Some(&b')'))
        .then(|| quoted(bytes, skip(bytes, length_end + 1, BLANKS)))?
}

/// What two quotes in a row are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubling {
    /// One quote inside of the text, as in SQL, where a word goes on after them.
    IsQuote,
    /// Each closes the text, because two opened it.
    Closes,
}

/// The quote that closes: escaped as often as the one that opened, so that JSON inside of JSON is read on its own level.
/// From its escapes to behind it.
fn closing_quote(bytes: &[u8], from: usize, quote: u8, escapes: usize, doubling: Doubling) -> Option<Range<usize>> {
    let mut resume = from;
    for offset in memchr::memchr_iter(quote, &bytes[from..]) {
        let at = from + offset;
        if at < resume {
            continue;
        }
        let escapes_here = bytes[from..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
        let closes = if escapes == 0 { escapes_here % 2 == 0 } else { escapes_here <= escapes };
        let doubled = escapes == 0
            && doubling == Doubling::IsQuote
            && quote == b'\''
            && bytes.get(at + 1) == Some(&quote)
            && bytes.get(at + 2).is_some_and(|&byte| is_word(byte));
        if closes && !doubled {
            return Some(at - escapes.min(escapes_here)..at + 1);
        }
        resume = at + 1 + usize::from(doubled);
    }
    None
}

/// An array, object or tuple.
fn bracketed(bytes: &[u8], start: usize) -> Range<usize> {
    let word = start..bare_word_end(up_to(bytes, start, REPLACEMENT_BYTES_MAX), start);
    if is_cut_replacement(&bytes[word.clone()]) {
        return word;
    }
    let closed = closing_bracket(up_to(bytes, start, VALUE_BYTES_MAX), start);
    start..closed.unwrap_or_else(|| up_to(bytes, start, UNCLOSED_BYTES_MAX).len())
}

/// Behind the bracket that closes the one at `start`. Brackets in literals do not count; a quote opens one where a value begins,
/// so that an apostrophe does not.
pub(super) fn closing_bracket(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut at, mut may_open) = (0_usize, start, true);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' | b'(' => (depth, may_open) = (depth + 1, true),
            b']' | b'}' | b')' if depth == 1 => return Some(at),
            b']' | b'}' | b')' => (depth, may_open) = (depth - 1, false),
            b'"' | b'\'' if may_open => {
                let escapes = bytes[start..at - 1].iter().rev().take_while(|&&byte| byte == b'\\').count();
                at = closing_quote(bytes, at, byte, escapes, Doubling::IsQuote)?.end;
                may_open = false;
            }
            b',' | b':' | b'=' | b'>' => may_open = true,
            b'\\' | b' ' | b'\t' | b'\r' | b'\n' | b'b' | b'u' | b'r' => {}
            _ => may_open = false,
        }
    }
    None
}

/// The end of a word: at a blank, at a sign that separates, at a bracket or quote that closes something around it. Brackets and
/// quotes inside of the word are part of it, and so is what was redacted before.
pub(super) fn bare_word_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, &byte) in bytes[start..].iter().enumerate() {
        let at = start + offset;
        let ends = match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                false
            }
            b')' | b']' | b'}' if depth > 0 => {
                depth -= 1;
                false
            }
            b'"' | b'\'' if !bytes.get(at + 1).is_some_and(|&byte| is_word(byte)) && depth == 0 => {
                // The escapes of a quote that closes are its own.
                return at - bytes[start..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
            }
            _ => byte.is_ascii_whitespace() || (byte < 0x20 && byte != FILLER) || b",;&`)]}<>|".contains(&byte),
        };
        if ends {
            return at;
        }
    }
    bytes.len()
}

/// The end of a value without quotes: a word, a scheme and its credentials, or what a connection string has up to its `;`.
fn bare_end(bytes: &[u8], start: usize, name_start: usize) -> usize {
    let end = bare_word_end(bytes, start);
    let word = &bytes[start..end];
    if bytes.get(end) != Some(&b' ') {
        return end;
    }
    if !SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
        return connection_value_end(bytes, name_start, end);
    }
    if word.eq_ignore_ascii_case(b"digest") {
        // A list of parameters.
        return line_end(bytes, end);
    }
    match bytes.get(end + 1) {
        Some(b'[') => bracketed(bytes, end + 1).end,
        _ => bare_word_end(bytes, end + 1),
    }
}

/// `Server=db;Password=two words;Encrypt=yes`: blanks are part of a value that stands between semicolons.
fn connection_value_end(bytes: &[u8], name_start: usize, word_end: usize) -> usize {
    let line = up_to(bytes, word_end, LOOK_BYTES_MAX);
    let stop = line[word_end..].iter().position(|byte| b";=\r\n\"'".contains(byte)).map(|offset| word_end + offset);
    let Some(semicolon) = stop.filter(|&stop| line[stop] == b';') else { return word_end };
    let after = skip(line, semicolon + 1, BLANKS);
    let name_end = skip_while(line, after, |byte| is_word(byte) || byte == b' ');
    let goes_on = name_end > after && line.get(name_end) == Some(&b'=');
    let ends = matches!(line.get(after), None | Some(b'"' | b'\'' | b'\r' | b'\n'));
    let before = bytes[..name_start].trim_ascii_end().last();
    let is_listed = matches!(before, Some(b';')) || (ends && matches!(before, None | Some(b'"' | b'\'')));
    if goes_on || is_listed { semicolon } else { word_end }
}

fn skip_while(bytes: &[u8], at: usize, skipped: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|&byte| !skipped(byte)).map_or(bytes.len(), |offset| at + offset)
}

/// What stands below `name:`, further in than the name's line: a line, or all lines of the block that `|` or `>` announces.
fn block_below(bytes: &[u8], start: usize, name_start: usize) -> Option<Range<usize>> {
    let is_block = matches!(bytes[start], b'|' | b'>');
    let first_end = if is_block { skip(bytes, start + 1, b"+- \t") } else { start };
    let from = first_end + usize::from(bytes.get(first_end) == Some(&b'\r'));
    if bytes.get(from) != Some(&b'\n') {
        return None;
    }
    let floor = name_start.saturating_sub(LOOK_BYTES_MAX);
    let name_line = memchr::memrchr(b'\n', &bytes[floor..name_start]).map_or(floor, |offset| floor + offset + 1);
    let indent = skip(bytes, name_line, BLANKS) - name_line;
    let inside = |line: usize| skip(bytes, line, BLANKS) - line > indent;
    let value_start = skip(bytes, from + 1, BLANKS);
    if !inside(from + 1) {
        return Some(start..start);
    }
    let mut end = line_end(bytes, value_start);
    if !is_block {
        return Some(line_below(bytes, value_start..end));
    }
    // Further lines of the block.
    while end < bytes.len() && end - value_start < VALUE_BYTES_MAX {
        let next = end + 1 + usize::from(bytes[end..].starts_with(b"\r\n"));
        if next >= bytes.len() || !inside(next) {
            break;
        }
        end = line_end(bytes, next);
    }
    Some(value_start..end)
}

/// The value on a line of its own: nothing if the line is itself a name with a value, or a frame of a stack trace.
fn line_below(bytes: &[u8], line: Range<usize>) -> Range<usize> {
    let text = bytes[line.clone()].trim_ascii_end();
    let is_pair = memchr::memchr_iter(b':', text).any(|colon| matches!(text.get(colon + 1), None | Some(b' ')));
    if is_pair || text.starts_with(b"at ") || text.starts_with(b"File ") {
        return line.start..line.start;
    }
    let item = if text.starts_with(b"- ") { line.start + 2 } else { line.start };
    quoted(bytes, item).filter(|inside| inside.end <= line.end).unwrap_or(item..line.start + text.len())
}
