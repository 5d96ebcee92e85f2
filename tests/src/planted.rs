//! Secrets planted in requests, and the search for them afterwards: in text, in files, in what databases hold after decoding.
//!
//! A secret is unique, so that a find tells where it was planted. Searched is its beginning, because a value may have been cut
//! before it was written; as UTF-8 and as UTF-16LE, which is how memory of Windows programs has it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

/// How much of a secret is searched for.
const SEARCHED: usize = 14;

/// All secrets of a test, each with the place it was planted in.
#[derive(Debug, Default)]
pub struct Planted {
    secrets: Vec<(String, String)>,
}

/// A secret that was found where it must not be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where it was planted.
    pub planted: String,
    /// Where it was found.
    pub found: String,
}

impl Planted {
    /// A new secret for `place`.
    pub fn secret(&mut self, place: &str) -> String {
        // Not hexadecimal alone: that would be a UUID or an id, which are no secrets.
        let secret = format!("zQ{}", &Uuid::new_v4().simple().to_string()[..18]);
        self.secrets.push((place.to_owned(), secret.clone()));
        secret
    }

    /// A number of a payment card, valid by Luhn's rule, with the random part planted for `place`.
    pub fn card(&mut self, place: &str) -> String {
        let random = Uuid::new_v4().as_u128() % 100_000_000_000_000;
        let body = format!("4{random:014}");
        let sum: u32 = body.bytes().rev().enumerate().map(|(at, digit)| luhn(u32::from(digit - b'0'), at)).sum();
        let card = format!("{body}{}", (10 - sum % 10) % 10);
        self.secrets.push((place.to_owned(), card.clone()));
        card
    }

    /// A sentence with a secret in it, in one of the forms in which secrets get into texts, another form each time.
    pub fn sentence(&mut self, place: &str) -> String {
        const FORMS: [&str; 7] =
            ["password=", "Bearer", "URL credentials", "URL parameter", "card", "JSON in a text", "secret:"];
        let form = self.secrets.len() % FORMS.len();
        let place = &format!("{place} ({})", FORMS[form]);
        match form {
            0 => format!("login failed, password={} was wrong", self.secret(place)),
            1 => format!("sent Authorization: Bearer {} twice", self.secret(place)),
            2 => format!("asked https://shop:{}@bank.example/pay", self.secret(place)),
            3 => format!("asked https://bank.example/pay?api_key={}&page=2", self.secret(place)),
            4 => format!("charged {} today", self.card(place)),
            5 => format!("got {{\"user\":\"u\",\"passwd\":\"{}\"}} back", self.secret(place)),
            _ => format!("secret: {} and so on", self.secret(place)),
        }
    }

    /// Puts a sentence where a text of `template` says `PLANT`, and a bare secret where it says `SECRET`.
    pub fn plant(&mut self, template: &mut Value, place: &str) {
        match template {
            Value::String(text) if text == "PLANT" => *text = self.sentence(place),
            Value::String(text) if text == "SECRET" => *text = self.secret(place),
            Value::Array(values) => {
                for (index, value) in values.iter_mut().enumerate() {
                    self.plant(value, &format!("{place}.{index}"));
                }
            }
            Value::Object(values) => {
                for (key, value) in values {
                    self.plant(value, &format!("{place}.{key}"));
                }
            }
            _ => {}
        }
    }

    /// How many were planted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.secrets.len()
    }

    /// The secrets that are in `bytes`.
    #[must_use]
    pub fn search(&self, found: &str, bytes: &[u8]) -> Vec<Found> {
        let mut finds = Vec::new();
        for (planted, secret) in &self.secrets {
            let start = &secret.as_bytes()[..SEARCHED];
            let wide: Vec<u8> = start.iter().flat_map(|&byte| [byte, 0]).collect();
            if contains(bytes, start) || contains(bytes, &wide) {
                finds.push(Found { planted: planted.clone(), found: found.to_owned() });
            }
        }
        finds
    }

    /// The secrets in all files below `directory` as they lie there.
    #[must_use]
    pub fn search_files(&self, directory: &Path) -> Vec<Found> {
        let mut finds = Vec::new();
        for file in files(directory) {
            // A file may have gone since it was listed.
            let bytes = std::fs::read(&file).unwrap_or_default();
            finds.extend(self.search(&file.display().to_string(), &bytes));
        }
        finds
    }

    /// The secrets in all keys and values of a RocksDB database that nobody has open, decompressed where they are zstd frames.
    ///
    /// Returns the finds, and those of `markers` that were not seen: proof that the search looks where payloads are.
    ///
    /// # Panics
    /// If it can't be opened.
    #[must_use]
    #[track_caller]
    pub fn search_database<'m>(&self, directory: &Path, markers: &[&'m str]) -> (Vec<Found>, Vec<&'m str>) {
        let options = rocksdb::Options::default();
        let families = rocksdb::DB::list_cf(&options, directory).expect("the column families");
        let database = rocksdb::DB::open_cf_for_read_only(&options, directory, &families, false).expect("a database");
        let (mut finds, mut unseen) = (Vec::new(), markers.to_vec());
        for name in &families {
            let family = database.cf_handle(name).expect("a column family that was listed");
            // A batch of the spool is one frame in pieces: of each frame, by the number that its keys begin with, what came so far.
            let mut growing: (Vec<u8>, Vec<u8>) = Default::default();
            for entry in database.iterator_cf(family, rocksdb::IteratorMode::Start) {
                let (key, value) = entry.expect("an entry");
                let place = format!("{} {name}", directory.display());
                finds.extend(self.search(&place, &key));
                let mut readings = decoded(&value);
                if name == "pieces" {
                    let (frame, pieces) = &mut growing;
                    if *frame != key[..8] {
                        (*frame, *pieces) = (key[..8].to_vec(), Vec::new());
                    }
                    pieces.extend_from_slice(&value[PIECE_HEADER..]);
                    readings.extend(decoded(&[pieces.as_slice(), &FRAME_END].concat()));
                }
                for bytes in readings {
                    unseen.retain(|marker| !contains(&bytes, marker.as_bytes()));
                    finds.extend(self.search(&place, &bytes));
                }
            }
        }
        (finds, unseen)
    }
}

/// Bytes before a piece's part of its frame, and how a frame ends, as the relay's spool documents them.
const PIECE_HEADER: usize = 32;
const FRAME_END: [u8; 3] = [1, 0, 0];

/// What Luhn's rule counts for a digit, at its position from the end without the check digit.
fn luhn(digit: u32, position: usize) -> u32 {
    match (position % 2, digit) {
        (0, 0..=4) => 2 * digit,
        (0, _) => 2 * digit - 9,
        _ => digit,
    }
}

/// The value as it is, and what every zstd frame in it holds: a value may have a header of its own before the frame.
fn decoded(value: &[u8]) -> Vec<Vec<u8>> {
    // RFC 8878 §3.1.1.
    const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let starts = (0..value.len()).filter(|&at| value[at..].starts_with(&ZSTD_MAGIC));
    let frames = starts.filter_map(|at| zstd::decode_all(&value[at..]).ok());
    std::iter::once(value.to_vec()).chain(frames).collect()
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_valid_by_luhns_rule() {
        assert_eq!((luhn(7, 0), luhn(4, 0), luhn(7, 1)), (5, 8, 7));
        let mut planted = Planted::default();
        for _ in 0..50 {
            let card = planted.card("here");
            let digits: Vec<u32> = card.bytes().map(|digit| u32::from(digit - b'0')).collect();
            let sum: u32 = digits[..15].iter().rev().enumerate().map(|(at, &digit)| luhn(digit, at)).sum();
            assert_eq!((sum + digits[15]) % 10, 0, "{card}");
        }
    }

    #[test]
    fn a_secret_is_found_wherever_it_was_written_and_however() {
        let mut planted = Planted::default();
        let mut template = serde_json::json!({ "a": ["PLANT", { "b": "SECRET" }], "c": "public" });
        planted.plant(&mut template, "event");
        assert_eq!(planted.count(), 2);
        assert_eq!(planted.search("log", b"nothing"), []);
        let places: Vec<_> =
            planted.search("log", template.to_string().as_bytes()).into_iter().map(|find| find.planted).collect();
        assert_eq!(places, ["event.a.0 (password=)", "event.a.1.b"]);
        let wide: Vec<u8> = planted.secrets[1].1.bytes().flat_map(|byte| [byte, 0]).collect();
        assert_eq!(planted.search("memory", &wide).len(), 1);
        let framed = [b"header".as_slice(), &zstd::encode_all(planted.secrets[0].1.as_bytes(), 1).unwrap()].concat();
        assert_eq!(decoded(&framed), [framed.clone(), planted.secrets[0].1.clone().into_bytes()]);
    }
}
