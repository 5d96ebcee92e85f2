//! One running process of an installation.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::wait::eventually;

/// Lines of a log that are printed when a test fails.
const LOG_TAIL_LINES: usize = 40;

/// A child process whose output goes to a file. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a command that has ended left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it can't be started, or prints something that is not UTF-8.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        let output =
            command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("can't run {command:?}: {error}"));
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Its output, after it was seen to end well.
    ///
    /// # Panics
    /// If it failed.
    #[must_use]
    #[track_caller]
    pub fn successful(self) -> String {
        assert_eq!(self.code, Some(0), "the command failed: {self:?}");
        self.stdout
    }

    /// Its complaint, after it was seen to fail.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.code, Some(0), "the command did not fail: {self:?}");
        self.stderr
    }

    /// Its output as JSON, after it was seen to end well.
    ///
    /// # Panics
    /// If it failed or printed something else.
    #[must_use]
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.successful();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

impl Program {
    /// Starts a process; both its outputs are appended to `log`.
    ///
    /// # Panics
    /// If the log or the process can't be made.
    #[must_use]
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let output = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a second handle")).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of our own child")
    }

    /// Ends it at once, as the kernel's out-of-memory killer would (`kill -9`), and waits until it is gone.
    ///
    /// # Panics
    /// If it had ended by itself, which a test that kills it did not mean.
    #[track_caller]
    pub fn kill(mut self) {
        let ended = self.ended();
        assert!(ended.is_none(), "{} had ended by itself: {ended:?}", self.name);
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    /// Asks it to stop (SIGTERM) and returns how long it took.
    ///
    /// # Panics
    /// If it ends with another code than 0, or not within `within`.
    #[track_caller]
    pub fn stop(mut self, within: Duration) -> Duration {
        let started = Instant::now();
        self.signal(Signal::TERM);
        let what = format!("{} ends after SIGTERM", self.name);
        let status = eventually(&what, within, || self.ended().ok_or_else(|| "it runs".to_owned()));
        assert!(status.success(), "{} ended with {status} after SIGTERM", self.name);
        started.elapsed()
    }

    /// Stops its execution (SIGSTOP) until [`Self::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended by itself; how it did, and after how long.
    ///
    /// # Panics
    /// If it has not within `within`.
    #[track_caller]
    pub fn wait_for_end(mut self, within: Duration) -> (ExitStatus, Duration) {
        let started = Instant::now();
        let what = format!("{} ends", self.name);
        let status = eventually(&what, within, || self.ended().ok_or_else(|| "it runs".to_owned()));
        (status, started.elapsed())
    }

    /// Memory it has resident now, in bytes.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    #[track_caller]
    pub fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells what is resident");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a value").parse().expect("a number");
        kilobytes * 1024
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has been waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, signal).expect("our own child can be signalled");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Nothing is left to be done if it can't be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            print_tail(&self.name, &self.log);
        }
    }
}

/// Prints the end of a log for whoever reads why a test failed.
pub fn print_tail(name: &str, log: &Path) {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- end of the log of {name} ({} lines in all)", lines.len());
    for line in &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..] {
        eprintln!("{line}");
    }
}
