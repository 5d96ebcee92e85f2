//! Syncs of one thread of a program that fail or take long, as those of a disk in trouble: strace changes the system call.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long strace may take to attach.
const ATTACH_PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of the syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// They return EIO.
    Fail,
    /// They take so long, then succeed.
    Take(Duration),
}

/// strace at work on one thread. Ended when dropped.
#[derive(Debug)]
pub struct TroubledSyncs(Child);

impl TroubledSyncs {
    /// Lets the syncs of the thread `name` of a process be troubled, until it is dropped.
    ///
    /// # Errors
    /// Why this machine does not let us, in words for a person.
    pub fn begin(pid: u32, name: &str, trouble: Trouble) -> Result<Self, String> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
        let is_named = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let thread = tasks.flatten().find(is_named).ok_or_else(|| format!("there is no thread {name}"))?;
        let inject = match trouble {
            Trouble::Fail => "inject=fdatasync,fsync:error=EIO".to_owned(),
            Trouble::Take(time) => format!("inject=fdatasync,fsync:delay_enter={}", time.as_micros()),
        };
        let strace = Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-e", &inject, "-e", "trace=fdatasync,fsync", "-p"])
            .arg(thread.file_name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("no strace: {error}"))?;
        let mut troubled = Self(strace);
        troubled.wait_until_attached(&thread.path())?;
        Ok(troubled)
    }

    fn wait_until_attached(&mut self, thread: &Path) -> Result<(), String> {
        let deadline = Instant::now() + ATTACH_PATIENCE;
        let status = || std::fs::read_to_string(thread.join("status")).unwrap_or_default();
        while status().lines().any(|line| line == "TracerPid:\t0") {
            if self.0.try_wait().ok().flatten().is_some() || Instant::now() > deadline {
                return Err("strace may not attach".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for TroubledSyncs {
    fn drop(&mut self) {
        // SIGTERM, so that it lets go of the thread.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
