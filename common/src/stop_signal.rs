//! SIGTERM and SIGINT: both ask a program to end in order, once; the second one that comes ends it at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for either signal.
#[derive(Debug)]
pub struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

// === impl StopSignal ===

impl StopSignal {
    /// Takes both signals over from the system, which would end the process. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
