//! What lies between TCP and HTTP: nothing, or TLS that the caller brings.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Makes the stream that HTTP is spoken on. Cloned for each connection.
pub trait Transport: Clone + Send + Sync + 'static {
    /// The stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Does what comes before HTTP, such as a handshake. The server bounds how long it may take.
    ///
    /// # Errors
    /// Why there will be no HTTP on this connection; it is closed then.
    fn secure(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// HTTP straight on TCP.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Transport for Plain {
    type Stream = TcpStream;

    async fn secure(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}
