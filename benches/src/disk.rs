//! Bytes that a directory takes on disk: allocated blocks, as `du` counts them, so that sparse and preallocated files
//! count for what they really take.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Unit of `st_blocks` (stat(2)), whatever the file system's block size is.
const BLOCK_BYTES: u64 = 512;
/// Deeper trees than this are not ours.
const DEPTH_MAX: u32 = 32;

/// Bytes under `directory`, by top-level entry. Files that vanish meanwhile (merges, compactions) count as nothing.
///
/// # Errors
/// When `directory` itself cannot be read.
pub fn usage_by_entry(directory: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut usage = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let bytes = allocated(&entry.path(), DEPTH_MAX).unwrap_or(0);
        usage.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(usage)
}

fn allocated(path: &Path, depth_left: u32) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    let own = metadata.blocks() * BLOCK_BYTES;
    if !metadata.is_dir() || depth_left == 0 {
        return Ok(own);
    }
    let inside: u64 =
        fs::read_dir(path)?.flatten().map(|entry| allocated(&entry.path(), depth_left - 1).unwrap_or(0)).sum();
    Ok(own + inside)
}

/// What grew from `before` to `after`, by entry; entries that shrank are negative, those that did not change are left out.
#[must_use]
pub fn growth(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, i64> {
    before
        .keys()
        .chain(after.keys())
        .map(|name| {
            let of = |usage: &BTreeMap<String, u64>| usage.get(name).copied().unwrap_or(0) as i64;
            (name.clone(), of(after) - of(before))
        })
        .filter(|(_, bytes)| *bytes != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn usage_counts_files_below_each_entry() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("store/parts")).unwrap();
        let before = usage_by_entry(directory.path()).unwrap();
        // Not zeros: some file systems store those in no block at all.
        fs::write(directory.path().join("store/parts/data.bin"), vec![7; 100_000]).unwrap();
        fs::File::open(directory.path().join("store/parts/data.bin")).unwrap().sync_all().unwrap();
        let after = usage_by_entry(directory.path()).unwrap();
        let grown = growth(&before, &after)["store"];
        assert!((100_000..=140_000).contains(&grown), "grew by {grown}");
    }

    #[test]
    fn growth_names_what_changed_only() {
        let before = BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 5)]);
        let after = BTreeMap::from([("b".to_owned(), 5), ("c".to_owned(), 7)]);
        assert_eq!(growth(&before, &after), BTreeMap::from([("a".to_owned(), -5), ("c".to_owned(), 7)]));
    }
}
