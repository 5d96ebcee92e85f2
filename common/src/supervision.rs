//! Tasks that a program can't do without: if one ends before the program is told to stop, the program must end too.
//!
//! A process that goes on without one of its tasks looks alive and does half its work. Ending with an error instead lets
//! systemd start it anew; what was promised is on disk.
//!
//! ```text
//! Running ──(a supervised task ends or panics)──▶ Failed(task)
//!    └────(Supervisor::stopping)──▶ Stopping      tasks may end from here on
//! ```
//!
//! Invariants: the first failure is the one that is reported; a failure is never forgotten, however late it is asked for.
//!
//! What it does not do: start tasks anew, or stop them. Their owner stops them, in its own order.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

/// A task ended although it was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task \"{task}\" {how} while it was needed; the log before this says why")]
pub struct TaskEnded {
    /// Its name.
    pub task: &'static str,
    /// How it ended.
    pub how: Ending,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It returned, or was aborted.
    Returned,
    /// It panicked.
    Panicked,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Returned => "ended",
            Self::Panicked => "panicked",
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Running,
    Stopping,
    Failed(TaskEnded),
}

/// Starts tasks and watches that they live. Clones share the state.
#[derive(Debug, Clone)]
pub struct Supervisor {
    state: watch::Sender<State>,
}

// === impl Supervisor ===

impl Supervisor {
    /// One without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self { state: watch::Sender::new(State::Running) }
    }

    /// Starts a task that must not end before [`Self::stopping`]. Must be called within a tokio runtime.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> SupervisedTask {
        let guard = EndGuard { name, supervisor: self.clone() };
        let handle = tokio::spawn(async move {
            let _guard = guard;
            task.await;
        });
        SupervisedTask { name, handle }
    }

    /// From here on tasks may end.
    pub fn stopping(&self) {
        self.leave_running(State::Stopping);
    }

    /// Waits until a task ends that is needed.
    pub async fn failed(&self) -> TaskEnded {
        let mut state = self.state.subscribe();
        loop {
            if let State::Failed(ended) = *state.borrow_and_update() {
                return ended;
            }
            // The sender lives in `self`, so this never errs.
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether all tasks live and none has been told to stop.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running)
    }

    /// Whether this was what ended the running.
    fn leave_running(&self, next: State) -> bool {
        self.state.send_if_modified(|state| {
            let is_running = matches!(state, State::Running);
            if is_running {
                *state = next;
            }
            is_running
        })
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells the supervisor when its task ends, by whichever way.
struct EndGuard {
    name: &'static str,
    supervisor: Supervisor,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let how = if std::thread::panicking() { Ending::Panicked } else { Ending::Returned };
        if self.supervisor.leave_running(State::Failed(TaskEnded { task: self.name, how })) {
            error!(task = self.name, %how, "a task ended while it was needed, stopping");
        }
    }
}

/// A task that was started by a [`Supervisor`].
#[derive(Debug)]
#[must_use = "a supervised task is joined when its program stops"]
pub struct SupervisedTask {
    name: &'static str,
    handle: JoinHandle<()>,
}

// === impl SupervisedTask ===

impl SupervisedTask {
    /// Waits until the task has ended. A panic is logged.
    pub async fn join(self) {
        if let Err(failure) = self.handle.await {
            error!(task = self.name, %failure, "a task did not end as it should");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_returns_early_is_a_failure() {
        let supervisor = Supervisor::new();
        assert!(supervisor.is_running());
        supervisor.spawn("worker", async {}).join().await;
        assert!(!supervisor.is_running());
        assert_eq!(supervisor.failed().await, TaskEnded { task: "worker", how: Ending::Returned });
    }

    #[tokio::test]
    async fn a_task_that_panics_is_a_failure() {
        let supervisor = Supervisor::new();
        let task = supervisor.spawn("worker", async { panic!("on purpose") });
        assert_eq!(supervisor.failed().await, TaskEnded { task: "worker", how: Ending::Panicked });
        task.join().await;
    }

    #[tokio::test]
    async fn the_first_failure_is_the_one_reported() {
        let supervisor = Supervisor::new();
        supervisor.spawn("first", async {}).join().await;
        supervisor.spawn("second", async {}).join().await;
        supervisor.stopping();
        assert_eq!(supervisor.failed().await.task, "first");
    }

    #[tokio::test]
    async fn a_task_may_end_once_the_program_stops() {
        let supervisor = Supervisor::new();
        supervisor.stopping();
        supervisor.spawn("worker", async {}).join().await;
        assert!(!supervisor.is_running());
        let failed = tokio::time::timeout(std::time::Duration::from_millis(20), supervisor.failed()).await;
        assert!(failed.is_err(), "{failed:?}");
    }
}
