//! Paths of programs, libraries and sources: the file's name stays, because symbols and sources are found by it.
//!
//! ```text
//! C:\Users\Jane Doe\app.exe          https://shop.example/pay.js?token=…
//! └─ directory ────┘└ name ┘         └─ directory ──────┘└ name ┘└ query: any text
//! ```

use picket_common::pii::ScrubProfile;
use picket_common::tree::{Meta, Remark};

use super::super::plan::{Applying, PlannedRule};
use super::super::text::RedactedText;
use super::{Part, Walk, redact_text};

impl<'p> Walk<'p> {
    /// Applies rules to directory and query.
    pub(super) fn image_path(
        &self,
        text: &str,
        meta: Option<&Meta>,
        applying: &Applying<'p>,
        by_key: Option<usize>,
    ) -> Option<RedactedText> {
        let query_at = query_start(text);
        let name_at = text[..query_at].rfind(['/', '\\']).map_or(0, |separator| separator + 1);
        let (directory, query) = (&text[..name_at], &text[query_at..]);
        let (directory_meta, query_meta) = (spans_within(meta, 0, name_at), spans_within(meta, query_at, text.len()));
        let new_directory = redact_directory(directory, &directory_meta, self.rules_of_part(applying), by_key);
        let new_query = match query {
            "" => None,
            _ => redact_text(query, Some(&query_meta), &self.query_rules(applying), by_key),
        };
        if new_directory.is_none() && new_query.is_none() {
            return None;
        }
        let known = meta.map_or(&[][..], |meta| &meta.remarks);
        let mut whole = Joined {
            text: String::with_capacity(text.len()),
            remarks: known.iter().filter(|remark| remark.range.is_none()).cloned().collect(),
        };
        whole.append(directory, directory_meta, new_directory);
        whole.text.push_str(&text[name_at..query_at]);
        whole.append(query, query_meta, new_query);
        let original_chars = meta.and_then(|meta| meta.original_length).unwrap_or_else(|| text.chars().count() as u64);
        Some(RedactedText { text: Some(whole.text), remarks: whole.remarks, original_chars })
    }

    /// Under the strict profile, what is done to any text too: the rules for paths pass over mail and IP addresses, which file
    /// names look like. Not where the project excludes the path from all rules.
    fn query_rules(&self, applying: &Applying<'p>) -> Vec<&'p PlannedRule> {
        let mut rules = self.rules_of_part(applying).to_vec();
        let is_open = self.part != Part::Advanced && applying.rules.len() > applying.advanced;
        if self.profile == ScrubProfile::Strict && is_open {
            for planned in self.plan.rules_of_any_text() {
                if !rules.iter().any(|known| known.rule.is_same_as(&planned.rule)) {
                    rules.push(planned);
                }
            }
        }
        rules
    }
}

/// A path put together again.
struct Joined {
    text: String,
    remarks: Vec<Remark>,
}

impl Joined {
    /// Appends a part: as it was, or what became of it.
    fn append(&mut self, part: &str, meta: Meta, redacted: Option<RedactedText>) {
        let base = self.text.len();
        let remarks = match redacted {
            None => {
                self.text.push_str(part);
                meta.remarks
            }
            Some(redacted) => {
                self.text.push_str(redacted.text.as_deref().unwrap_or_default());
                redacted.remarks
            }
        };
        let moved = |(start, end)| (start + base, end + base);
        self.remarks.extend(remarks.into_iter().map(|remark| Remark { range: remark.range.map(moved), ..remark }));
    }
}

/// Where the query or fragment of a URL begins; the text's end if there is none. `\\?\` opens a path of Windows, and directories
/// are called `C#`.
fn query_start(text: &str) -> usize {
    let Some(first) = text.find(['?', '#']) else { return text.len() };
    let is_url = text[..first].contains("://");
    let bytes = text.as_bytes();
    let opens = |at: usize| match bytes[at] {
        b'?' => at == 0 || bytes[at - 1] != b'\\',
        b'#' => is_url,
        _ => false,
    };
    (first..bytes.len()).find(|&at| opens(at)).unwrap_or(bytes.len())
}

/// What is said about spans of a part of a text, for the part alone.
fn spans_within(meta: Option<&Meta>, start: usize, end: usize) -> Meta {
    let remarks = meta.map_or(&[][..], |meta| &meta.remarks);
    let within = remarks.iter().filter_map(|remark| {
        let (from, to) = remark.range.filter(|(from, to)| start <= *from && *to <= end)?;
        Some(Remark { range: Some((from - start, to - start)), ..remark.clone() })
    });
    Meta { remarks: within.collect(), ..Meta::default() }
}

/// Applies rules to a directory with the separator that closes it, which tells where a name with spaces in it ends. The separator
/// is not part of what is replaced as a whole.
fn redact_directory(
    directory: &str,
    meta: &Meta,
    rules: &[&PlannedRule],
    by_key: Option<usize>,
) -> Option<RedactedText> {
    let separator = directory.chars().next_back()?;
    let closed = redact_text(directory, Some(meta), rules, by_key)?;
    if closed.text.as_ref().is_none_or(|text| text.ends_with(separator)) {
        return Some(closed);
    }
    let bare = &directory[..directory.len() - separator.len_utf8()];
    let mut redacted = redact_text(bare, Some(meta), rules, by_key)?;
    if let Some(text) = &mut redacted.text {
        text.push(separator);
    }
    Some(redacted)
}
