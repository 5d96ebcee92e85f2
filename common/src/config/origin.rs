//! Where each key of a configuration was set, for error messages.

use std::collections::HashMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// The place of each key, by dotted path.
#[derive(Debug, Default)]
pub(super) struct Origins {
    places: HashMap<String, String>,
    /// Line to key, for the faults that the parser reports by place only.
    lines: HashMap<usize, String>,
}

impl Origins {
    /// Notes the line of every key of a file. A file that does not parse has none; its error carries its own place.
    pub(super) fn of_file(path: &Path, text: &str) -> Self {
        let mut origins = Self::default();
        if let Ok(table) = DeTable::parse(text) {
            origins.note(table.get_ref(), "", path, text);
        }
        origins
    }

    fn note(&mut self, table: &DeTable<'_>, prefix: &str, path: &Path, text: &str) {
        for (name, value) in table {
            let key =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let line = line_of(text, name.span().start);
            self.places.insert(key.clone(), format!("{}:{line}", path.display()));
            self.lines.insert(line, key.clone());
            if let DeValue::Table(inner) = value.get_ref() {
                self.note(inner, &key, path, text);
            }
        }
    }

    /// Notes a key set elsewhere than in the file.
    pub(super) fn set(&mut self, key: &str, place: String) {
        self.places.insert(key.to_owned(), place);
    }

    /// Where a key was set; a key that nobody set has its built-in default.
    pub(super) fn get(&self, key: &str) -> String {
        self.places.get(key).cloned().unwrap_or_else(|| "built-in default".to_owned())
    }

    /// The key on a line of the file.
    pub(super) fn key_at(&self, line: usize) -> Option<&str> {
        self.lines.get(&line).map(String::as_str)
    }
}

/// The line, from 1, that holds the byte at `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}
