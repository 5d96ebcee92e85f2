//! What the SDKs' connections go through before HTTP: nothing, or a TLS handshake.

use std::io;
use std::sync::Arc;

use picket_common::http_server::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::Certificates;

/// What is told to a client that speaks HTTP where TLS is expected.
const PLAIN_ANSWER: &str =
    "{\"detail\":\"this port speaks https: use https:// in the DSN\",\"causes\":[\"https_required\"]}";
/// How much of such a client's request is read, so that it comes to read the answer.
const PLAIN_REQUEST_BYTES: u64 = 64 * 1024;

/// How SDKs connect.
#[derive(Debug, Clone)]
pub enum SdkTransport {
    /// HTTP.
    Plain,
    /// HTTPS, under these certificates.
    Tls(Arc<Certificates>),
}

impl Transport for SdkTransport {
    // Boxed: the state of TLS takes a kilobyte that plain connections need not have.
    type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

    async fn secure(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        match self {
            Self::Plain => Ok(Either::Left(stream)),
            Self::Tls(certificates) => {
                if speaks_http(&stream).await? {
                    refuse_http(stream).await?;
                    return Err(io::Error::other("plain HTTP on a port that speaks TLS"));
                }
                let stream = TlsAcceptor::from(certificates.current()).accept(stream).await?;
                Ok(Either::Right(Box::new(stream)))
            }
        }
    }
}

/// A handshake begins with the byte 22 (RFC 8446 §5.1), a request with the letter of a method.
async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic())
}

async fn refuse_http(mut stream: TcpStream) -> io::Result<()> {
    let length = PLAIN_ANSWER.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nserver: picket-relay\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{PLAIN_ANSWER}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(PLAIN_REQUEST_BYTES), &mut tokio::io::sink()).await.map(|_| ())
}
