//! What a file is, told by how its item describes it and by how it begins.
//!
//! A wrong guess costs little on either side: text rules on binary data overwrite only what looks like personal data, at its
//! length; and rules that name a file apply whatever it is.

/// Bytes of a file's beginning that are looked at.
pub(super) const HEAD_BYTES: usize = 4096;

/// What rules have to know of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Memory of a crashed process.
    Minidump,
    /// JSON: the widgets on a screen.
    ViewHierarchy,
    /// Logs, configuration, source.
    Text,
    /// Pictures, archives, recordings.
    Binary,
}

/// Content types, or parts of them, of what is text though it is not `text/…`.
const TEXT_TYPES: [&str; 8] = ["json", "xml", "yaml", "toml", "javascript", "csv", "urlencoded", "sql"];

/// Content types of what is binary, however it begins.
const BINARY_TYPES: [&str; 5] = ["image/", "audio/", "video/", "font/", "application/zip"];

/// Endings of names of text files.
const TEXT_ENDINGS: [&str; 17] = [
    "log",
    "txt",
    "json",
    "jsonl",
    "xml",
    "csv",
    "yaml",
    "yml",
    "toml",
    "ini",
    "cfg",
    "conf",
    "env",
    "md",
    "html",
    "har",
    "properties",
];

impl FileKind {
    /// The kind of a file by its item's attachment type, content type and name, and its first [`HEAD_BYTES`].
    pub(super) fn of(attachment_type: Option<&str>, content_type: Option<&str>, name: &str, head: &[u8]) -> Self {
        match attachment_type {
            Some("event.minidump") => return Self::Minidump,
            Some("event.view_hierarchy") => return Self::ViewHierarchy,
            _ if head.starts_with(b"MDMP") => return Self::Minidump,
            _ => {}
        }
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        if content_type.starts_with("text/") || TEXT_TYPES.iter().any(|part| content_type.contains(part)) {
            return Self::Text;
        }
        if BINARY_TYPES.iter().any(|start| content_type.starts_with(start)) {
            return Self::Binary;
        }
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let named_text = TEXT_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
        if named_text || looks_like_text(head) { Self::Text } else { Self::Binary }
    }
}

/// UTF-8 without control characters, or UTF-16LE with its mark. The last character may be cut.
fn looks_like_text(head: &[u8]) -> bool {
    if head.starts_with(&[0xff, 0xfe]) {
        return true;
    }
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(failure) if failure.error_len().is_none() => {
            std::str::from_utf8(&head[..failure.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    // Terminal colours begin with an escape character.
    valid.bytes().all(|byte| byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

#[cfg(test)]
mod tests {
    use super::FileKind::{self, Binary, Minidump, Text, ViewHierarchy};

    #[test]
    fn files_are_told_by_type_name_and_beginning() {
        for (attachment_type, content_type, name, head, kind) in [
            (Some("event.minidump"), None, "x", &b"?"[..], Minidump),
            (None, None, "crash.dmp", b"MDMP\x93\xa7", Minidump),
            (Some("event.view_hierarchy"), None, "view-hierarchy.json", b"{", ViewHierarchy),
            (None, Some("text/plain; charset=utf-8"), "x", b"\0\0", Text),
            (None, Some("application/vnd.api+JSON"), "x", b"\0\0", Text),
            (None, Some("image/svg+xml"), "x", b"<svg", Text),
            (None, Some("image/png"), "x.txt", b"abc", Binary),
            (None, None, "app.LOG", b"\0", Text),
            (None, None, "core", "für\u{1b}[0m\n".as_bytes(), Text),
            (None, None, "cut", &"für".as_bytes()[..2], Text),
            (None, None, "wide", b"\xff\xfea\0", Text),
            (Some("event.attachment"), Some("application/octet-stream"), "x", b"\x7fELF\x01", Binary),
            (None, None, "photo", b"\xff\xd8\xff", Binary),
        ] {
            assert_eq!(FileKind::of(attachment_type, content_type, name, head), kind, "{name} {head:?}");
        }
    }
}
