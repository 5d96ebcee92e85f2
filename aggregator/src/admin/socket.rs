//! The local socket: one request and one reply a connection, as frames of the link protocol.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use picket_common::timestamp::Timestamp;
use picket_common::wire::{FrameError, MAX_CONTROL_FRAME, read_frame, write_frame};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{AdminContext, Reply, Request, execute};

/// How long a command may take to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Opens the socket. A file left by a killed process is replaced; the caller holds the data directory's lock, so no other
/// process can be behind it.
///
/// # Errors
/// What the system says.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers commands until `stop`, then waits for those under way.
pub async fn serve(listener: UnixListener, context: AdminContext, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let context = context.clone();
                tasks.spawn(async move {
                    if let Err(error) = answer(stream, &context).await {
                        debug!(%error, "an administrative connection broke");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "accepting an administrative connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn answer(mut stream: UnixStream, context: &AdminContext) -> Result<(), FrameError> {
    let reading = read_frame::<Request>(&mut stream, MAX_CONTROL_FRAME);
    let request = tokio::time::timeout(REQUEST_PATIENCE, reading)
        .await
        .map_err(|_| FrameError::Io(io::ErrorKind::TimedOut.into()))??;
    let reply = execute(context, request, Timestamp::now()).await;
    write_frame(&mut stream, &reply, MAX_CONTROL_FRAME).await
}

/// Asks the aggregator that serves behind `path`; `None` if nobody does.
///
/// # Errors
/// [`FrameError`] if it stops in the middle.
pub async fn ask(path: &Path, request: &Request) -> Result<Option<Reply>, FrameError> {
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    write_frame(&mut stream, request, MAX_CONTROL_FRAME).await?;
    read_frame(&mut stream, MAX_CONTROL_FRAME).await.map(Some)
}
