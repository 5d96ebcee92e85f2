//! What the kernel knows about a process: memory and processor time, read from `/proc`. Linux only, as Picket is.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;

/// How often the watch looks. Reading `smaps_rollup` walks all mappings, some milliseconds for the aggregator.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Memory of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident now.
    pub rss: u64,
    /// Resident at most so far.
    pub rss_peak: u64,
    /// Resident now, with pages that processes share divided among them.
    pub pss: u64,
}

/// Memory of the process `pid`.
///
/// # Errors
/// When it is gone or belongs to another user.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory {
        rss: kilobytes(&status, "VmRSS:") * 1024,
        rss_peak: kilobytes(&status, "VmHWM:") * 1024,
        pss: kilobytes(&rollup, "Pss:") * 1024,
    })
}

/// Processor time that the process `pid` has used, in user and kernel mode, all threads. Granularity is a clock tick, 10 ms.
///
/// # Errors
/// When it is gone, or the kernel's line is not understood.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no processor times"))
    })?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The value after `name` in text such as `VmRSS:     1234 kB`; 0 where it is missing (a process that is ending).
fn kilobytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)). The command in field 2 may contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Notes the largest PSS of a process until dropped. (The largest RSS the kernel keeps itself.)
pub struct PssWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

// === impl PssWatch ===

impl PssWatch {
    /// Watches `pid` from a thread of its own, which ends with the watch or the process.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(pid: u32) -> io::Result<Self> {
        let watch = Self { peak: Arc::default(), stop: Arc::default() };
        let (peak, stop) = (Arc::clone(&watch.peak), Arc::clone(&watch.stop));
        thread::Builder::new().name("bench-pss-watch".into()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok(memory) = memory(pid) else { return };
                peak.fetch_max(memory.pss, Ordering::Relaxed);
                thread::sleep(WATCH_INTERVAL);
            }
        })?;
        Ok(watch)
    }

    /// The largest PSS seen so far, in bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for PssWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn processor_times_are_found_behind_a_hostile_command_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 500 0 0 0 123 77 0 0 20 0 8 0 1000 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
    }

    #[test]
    fn memory_values_are_found_by_name() {
        assert_eq!(kilobytes("VmHWM:\t   20 kB\nVmRSS:\t   10 kB\n", "VmRSS:"), 10);
        assert_eq!(kilobytes("Pss_Dirty: 7 kB\nPss:  9 kB\n", "Pss:"), 9);
        assert_eq!(kilobytes("", "Pss:"), 0);
    }

    #[test]
    fn this_process_has_memory_and_processor_time() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.rss > 0 && memory.rss_peak >= memory.rss && memory.pss > 0, "{memory:?}");
        cpu_time(std::process::id()).unwrap();
    }
}
