//! The machine a run was made on: figures without it mean nothing.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// Writes of the fsync probe: enough for a 99th percentile, half a second on a usual disk.
const FSYNC_PROBES: usize = 200;
/// Size of each, in bytes.
const FSYNC_PROBE_BYTES: usize = 4096;

/// Where and amid what a run is made.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Load averages over 1, 5 and 15 minutes, before the run.
    pub load_average: String,
    /// Type of the file system that the stores lie on.
    pub filesystem: String,
    /// Median time of a 4 KB append with fsync there, in milliseconds.
    pub fsync_p50_ms: f64,
    /// 99th percentile of the same.
    pub fsync_p99_ms: f64,
}

// === impl Machine ===

impl Machine {
    /// Looks at this machine and tries the disk under `directory`. Blocks for up to some seconds on a slow disk.
    ///
    /// # Errors
    /// When `directory` cannot be written.
    pub fn look(directory: &Path) -> io::Result<Self> {
        let (fsync_p50_ms, fsync_p99_ms) = probe_fsync(directory)?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Ok(Self {
            cpu: field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&meminfo, "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes * 1024),
            kernel: read_line("/proc/sys/kernel/osrelease"),
            load_average: read_line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            filesystem: filesystem(directory),
            fsync_p50_ms,
            fsync_p99_ms,
        })
    }

    /// Whether the stores lie in memory, where an fsync costs nothing and promises nothing.
    #[must_use]
    pub fn stores_in_memory(&self) -> bool {
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs")
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}, {} cores, {:.0} GB, Linux {}, load before {}, {} (fsync 4 KB p50 {:.2} ms, p99 {:.2} ms)",
            self.cpu,
            self.cores,
            self.memory_bytes as f64 / 1e9,
            self.kernel,
            self.load_average,
            self.filesystem,
            self.fsync_p50_ms,
            self.fsync_p99_ms,
        )
    }
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Type of the file system with the longest mount point above `directory` (proc(5), mounts: device, point, type, …).
fn filesystem(directory: &Path) -> String {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| directory.starts_with(point))
        // The last of equals is the one mounted on top.
        .max_by_key(|(point, _)| point.len())
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn probe_fsync(directory: &Path) -> io::Result<(f64, f64)> {
    let mut file = tempfile::tempfile_in(directory)?;
    let block = [7_u8; FSYNC_PROBE_BYTES];
    let mut times_ms = Vec::with_capacity(FSYNC_PROBES);
    for _ in 0..FSYNC_PROBES {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times_ms.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times_ms.sort_by(f64::total_cmp);
    Ok((times_ms[FSYNC_PROBES / 2], times_ms[FSYNC_PROBES * 99 / 100]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn this_machine_has_a_processor_a_kernel_and_a_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::look(directory.path()).unwrap();
        assert!(machine.cores > 0 && machine.memory_bytes > 0, "{machine:?}");
        assert!(!machine.kernel.is_empty() && machine.filesystem != "unknown", "{machine:?}");
        assert!(machine.fsync_p99_ms >= machine.fsync_p50_ms);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 2\nmodel name\t: A Processor\n";
        assert_eq!(field(text, "model name"), Some("A Processor"));
        assert_eq!(field(text, "name"), None);
    }
}
