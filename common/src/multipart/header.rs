//! The headers of a part, and the boundary in a content type.

/// What a part's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHeader {
    /// The name of the form's field.
    pub name: String,
    /// The name of the file, where the part is one.
    pub filename: Option<String>,
    /// The media type, with its parameters.
    pub content_type: Option<String>,
}

impl PartHeader {
    /// Reads header lines; `None` if they do not give the part a name.
    pub(super) fn read(lines: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(lines);
        let mut disposition = None;
        let mut content_type = None;
        for line in text.split("\r\n") {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                disposition = Some(value.trim());
            } else if name.trim().eq_ignore_ascii_case("content-type") {
                content_type = Some(value.trim().to_owned());
            }
        }
        let parameters = parameters(disposition?);
        let named = |wanted: &str| {
            parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone())
        };
        Some(Self { name: named("name")?, filename: named("filename"), content_type })
    }
}

/// The boundary in a `Content-Type` of a multipart body; `None` for every other type.
#[must_use]
pub fn boundary_of(content_type: &str) -> Option<String> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/")) {
        return None;
    }
    let boundary = parameters(content_type).into_iter().find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
    boundary.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// The parameters behind a header's value: `; name=value` or `; name="value"`.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Some((_, mut rest)) = header.split_once(';') else { return found };
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((name.trim_matches([' ', '\t', ';']).to_owned(), value));
        rest = behind;
    }
    found
}

/// A quoted text up to its closing quote, and what is behind it. A backslash is an escape only before a quote or a backslash:
/// some clients send paths of Windows as they are.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    (value, "")
}
