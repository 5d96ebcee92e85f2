//! The `picket-aggregator` binary; everything is in the library.

use std::process::ExitCode;

use rustix::fs::Mode;

/// Parsing an event makes hundreds of small allocations that are freed on another thread; glibc's allocator keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_files_private();
    picket_aggregator::cli::main()
}

/// Journal, database and events are for this user only, also in a data directory that someone else made. RocksDB, SQLite and
/// the embedded engine take no modes, so the process says it once, before there is another thread.
fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_made_after_the_start_is_for_this_user_only() {
        keep_files_private();
        let parent = tempfile::tempdir().unwrap();
        let (directory, file) = (parent.path().join("journal"), parent.path().join("picket.db"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&file, "").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
    }
}
