//! Which process has a spool open.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

/// The process that has the spool in `directory` open; `None` if none has, or it is this one. RocksDB locks its file `LOCK` for as long
/// as it is open (POSIX record locks, fcntl(2)), and a process that ends lets go whatever it ended by.
///
/// # Errors
/// The file can't be read; one that is not there says that nobody has it open.
pub fn holder(directory: &Path) -> io::Result<Option<i32>> {
    let file = match File::open(directory.join("LOCK")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // Asks whether a lock on all of it could be had; takes none.
    let wanted = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    let held = fcntl_getlk(&file, &wanted)?;
    Ok(held.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get())))
}
