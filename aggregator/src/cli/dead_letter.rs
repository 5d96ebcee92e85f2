//! Dead letters on stdout.

use std::io::Write;

use serde_json::{Value, json};

use super::issue_text::one_line;
use crate::admin::ShownDeadLetter;
use crate::journal::{DeadLetter, DeadLetterTotals};

/// Longest text of what went wrong in a list, in characters.
const LISTED_DETAIL_CHARS: usize = 100;

pub(super) fn json(letter: &DeadLetter) -> Value {
    let (spool, first, last) = letter.origin.map_or((None, None, None), |(spool, first, last)| {
        (Some(spool.to_string()), Some(first.get()), Some(last.get()))
    });
    json!({
        "id": letter.id,
        "set_aside_at": letter.set_aside_at.to_rfc3339(),
        "reason": letter.reason,
        "detail": letter.detail,
        "project_id": letter.project_id,
        "event_id": letter.event_id,
        "spool_id": spool,
        "first": first,
        "last": last,
        "form": letter.form,
        "bytes": letter.bytes,
    })
}

pub(super) fn list_json(letters: &[DeadLetter], totals: DeadLetterTotals) -> Value {
    json!({ "count": totals.count, "bytes": totals.bytes, "letters": letters.iter().map(json).collect::<Vec<_>>() })
}

pub(super) fn shown_json(shown: &ShownDeadLetter) -> Value {
    let mut value = json(&shown.letter);
    value["text"] = json!(shown.text);
    value
}

pub(super) fn print_list(
    out: &mut impl Write,
    letters: &[DeadLetter],
    totals: DeadLetterTotals,
) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>6}  {:<24}  {:<10}  {:>7}  {:>9}  WHAT WENT WRONG",
        "ID", "SET ASIDE", "REASON", "PROJECT", "BYTES"
    )?;
    for letter in letters {
        let project = letter.project_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let detail: String = one_line(&letter.detail).chars().take(LISTED_DETAIL_CHARS).collect();
        let at = letter.set_aside_at.to_rfc3339();
        writeln!(
            out,
            "{:>6}  {at:<24}  {:<10}  {project:>7}  {:>9}  {detail}",
            letter.id,
            letter.reason.as_str(),
            letter.bytes
        )?;
    }
    writeln!(out, "{} dead letters, {} bytes", totals.count, totals.bytes)
}

pub(super) fn print(out: &mut impl Write, shown: &ShownDeadLetter) -> std::io::Result<()> {
    let ShownDeadLetter { letter, text } = shown;
    writeln!(out, "id         {}\nset aside  {}", letter.id, letter.set_aside_at.to_rfc3339())?;
    writeln!(out, "reason     {}: {}", letter.reason.as_str(), one_line(&letter.detail))?;
    if let Some(project) = letter.project_id {
        writeln!(out, "project    {project}")?;
    }
    if let Some(event) = letter.event_id {
        writeln!(out, "event      {event}")?;
    }
    if let Some((spool, first, last)) = letter.origin {
        writeln!(out, "from       spool {spool}, sequences {first} to {last}")?;
    }
    // What clients sent: line by line, so that nothing in it moves the cursor.
    writeln!(out, "bytes      {}\n", letter.bytes)?;
    text.lines().try_for_each(|line| writeln!(out, "{}", one_line(line)))
}
