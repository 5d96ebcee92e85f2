//! A process started here: its log goes to a file, it is ended by its pid, and it never outlives its owner.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{InstallationError, START_DEADLINE, probe};

/// Bytes of a log or an error that are quoted.
const TAIL_BYTES: usize = 2000;

/// A running process.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    child: Child,
    pid: u32,
    log: PathBuf,
}

// === impl Service ===

impl Service {
    /// Starts `program`; what it prints goes to `NAME.log` in `directory`.
    ///
    /// # Errors
    /// When the log cannot be made or the program not be started.
    pub fn start(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        directory: &Path,
    ) -> Result<Self, InstallationError> {
        let log = directory.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let (stdout, stderr) = open()
            .and_then(|stdout| Ok((stdout, open()?)))
            .map_err(|source| InstallationError::Files { path: log.clone(), source })?;
        let failed = |source| InstallationError::Start { program: program.to_owned(), source };
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().ok_or_else(|| failed(std::io::Error::other("it ended at once")))?;
        Ok(Self { name, child, pid, log })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// [`InstallationError::Ended`] with the end of its log.
    pub fn must_run(&mut self) -> Result<(), InstallationError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(InstallationError::Ended { name: self.name, status: status.to_string(), log: self.log_tail() })
            }
            Err(source) => Err(InstallationError::Start { program: PathBuf::from(self.name), source }),
        }
    }

    /// Waits until something listens on `address`.
    ///
    /// # Errors
    /// [`InstallationError::NotReady`] after two minutes, [`InstallationError::Ended`] if the process ends before.
    pub async fn until_connects(&mut self, address: SocketAddr) -> Result<(), InstallationError> {
        probe::until_connects(self, address, START_DEADLINE).await
    }

    /// Stops its execution (SIGSTOP) until [`Self::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // The child has not been waited for, so its pid is still its own.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the process to end with SIGTERM, and kills it after `deadline`.
    ///
    /// # Errors
    /// [`InstallationError::DidNotStop`] when it had to be killed, [`InstallationError::Ended`] when it had ended
    /// before or ended with an error.
    pub async fn stop(&mut self, deadline: Duration) -> Result<(), InstallationError> {
        self.must_run()?;
        self.signal(Signal::TERM);
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(InstallationError::Ended { name: self.name, status: status.to_string(), log: self.log_tail() })
            }
            Ok(Err(source)) => Err(InstallationError::Start { program: PathBuf::from(self.name), source }),
            Err(_) => {
                let _ = self.child.kill().await;
                Err(InstallationError::DidNotStop { name: self.name, deadline, log: self.log_tail() })
            }
        }
    }

    /// The end of what it printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&fs::read(&self.log).unwrap_or_default())
    }
}

/// Runs a command to its end; its standard output.
pub(super) async fn output(
    program: &Path,
    name: &str,
    arguments: &[String],
    deadline: Duration,
) -> Result<String, InstallationError> {
    let running = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(deadline, running)
        .await
        .map_err(|_| InstallationError::CommandTimeout { command: name.to_owned(), deadline })?
        .map_err(|source| InstallationError::Start { program: program.to_owned(), source })?;
    if !output.status.success() {
        return Err(InstallationError::Command {
            command: name.to_owned(),
            status: output.status.to_string(),
            stderr: tail(&output.stderr),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(TAIL_BYTES);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shell(script: &str, directory: &Path) -> Service {
        Service::start("shell", Path::new("/bin/sh"), &["-c".into(), script.into()], directory).unwrap()
    }

    #[tokio::test]
    async fn a_service_that_dies_of_the_signal_did_not_end_in_good_order() {
        let directory = tempfile::tempdir().unwrap();
        // `exec` so that the signal reaches the sleeper itself.
        let mut service = shell("exec sleep 60", directory.path());
        let error = service.stop(Duration::from_secs(10)).await.unwrap_err();
        assert!(matches!(error, InstallationError::Ended { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_service_that_ignores_the_signal_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut service = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done", directory.path());
        while service.log_tail().is_empty() {
            tokio::task::yield_now().await;
        }
        let error = service.stop(Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, InstallationError::DidNotStop { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_end_by_itself_is_told_with_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut service = shell("echo no such key in line 3; exit 7", directory.path());
        while service.must_run().is_ok() {
            tokio::task::yield_now().await;
        }
        let text = service.must_run().unwrap_err().to_string();
        assert!(text.contains("no such key in line 3") && text.contains('7'), "{text}");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted_and_one_that_hangs_is_killed() {
        let run = |script: &str, deadline| {
            let arguments = ["-c".to_owned(), script.to_owned()];
            async move { output(Path::new("/bin/sh"), "sh", &arguments, deadline).await }
        };
        assert_eq!(run("echo fine", Duration::from_secs(10)).await.unwrap(), "fine\n");
        let failed = run("echo because >&2; exit 3", Duration::from_secs(10)).await.unwrap_err();
        assert!(failed.to_string().contains("because"), "{failed}");
        let hung = run("exec sleep 60", Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(hung, InstallationError::CommandTimeout { .. }), "{hung}");
    }
}
