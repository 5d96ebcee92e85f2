//! Connects the HTTP client to the HTTP service through memory instead of a socket.
//!
//! ```text
//! clickhouse::Client ─ hyper client ─ [pipe of PIPE_BYTES each way] ─ hyper server ─ service.rs
//! ```
//!
//! Each connection is one pipe and one server task, owned by the engine's task tracker.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tower::Service;

use super::service::{Access, HttpService};

/// Bytes a pipe holds in each direction before the writer waits. The client sends inserts in chunks of 256 KiB.
const PIPE_BYTES: usize = 256 * 1024;

/// Makes in-memory connections, whatever the address says.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    service: Arc<HttpService>,
}

// === impl Connector ===

impl Connector {
    pub(super) fn new(service: Arc<HttpService>) -> Self {
        Self { service }
    }
}

impl Service<Uri> for Connector {
    type Response = Pipe;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Pipe, io::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: Uri) -> Self::Future {
        let service = Arc::clone(&self.service);
        Box::pin(async move {
            let permit = service.admit().await.map_err(|closed| io::Error::new(io::ErrorKind::NotConnected, closed))?;
            let (client_end, server_end) = duplex(PIPE_BYTES);
            service.spawn_connection(server_end, Access::Trusted, permit);
            Ok(Pipe { inner: TokioIo::new(client_end) })
        })
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    inner: TokioIo<DuplexStream>,
}

// === impl Pipe ===

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }
}
