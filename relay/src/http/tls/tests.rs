#![allow(clippy::unwrap_used)]
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::routing::get;
use picket_common::identity::crypto;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::config::HttpConfig;
use crate::http::serve::serve;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Files of a pair, with what a client trusts.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Writes a new pair; what is returned is what a client is to trust.
    fn write_pair(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.certificate(), cert.pem()).unwrap();
        std::fs::write(self.key(), signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn open(&self) -> Result<Certificates, TlsError> {
        Certificates::open(&self.certificate(), &self.key())
    }
}

struct Running {
    address: SocketAddr,
    certificates: Arc<Certificates>,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
}

async fn start(files: &Files) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let certificates = Arc::new(files.open().unwrap());
    let transport = SdkTransport::Tls(Arc::clone(&certificates));
    let router = Router::new().route("/", get(|| async { "<here>" }));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        serve(listener, transport, move || router.clone(), &HttpConfig::default(), None, async { drop(stopped.await) })
            .await;
    });
    Running { address, certificates, _stop: stop, _task: task }
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b">") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed before the answer");
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let files = Files::new();
    let trusted = files.write_pair();
    let running = start(&files).await;
    for (version, negotiated) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut stream = connect(running.address, &trusted, version).await.unwrap();
        assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(stream.get_ref().1.protocol_version(), Some(negotiated));
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_while_requests_run() {
    let files = Files::new();
    let (former, version) = (files.write_pair(), &rustls::version::TLS13);
    let running = start(&files).await;
    let mut open = connect(running.address, &former, version).await.unwrap();
    ask(&mut open).await;
    let next = files.write_pair();
    assert!(running.certificates.reload(Reload::IfChanged).unwrap());
    // The connection that was open goes on; new ones see the new certificate and no other.
    ask(&mut open).await;
    ask(&mut connect(running.address, &next, version).await.unwrap()).await;
    assert!(connect(running.address, &former, version).await.is_err());
    assert!(!running.certificates.reload(Reload::IfChanged).unwrap(), "nothing has changed");
    assert!(running.certificates.reload(Reload::Always).unwrap());
}

#[tokio::test]
async fn a_bad_pair_leaves_the_former_in_use_and_is_told_once() {
    let files = Files::new();
    let (trusted, version) = (files.write_pair(), &rustls::version::TLS13);
    let running = start(&files).await;
    std::fs::write(files.key(), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let failure = running.certificates.reload(Reload::IfChanged).unwrap_err();
    assert!(matches!(failure, TlsError::NoPair { .. }), "{failure}");
    assert!(!running.certificates.reload(Reload::IfChanged).unwrap());
    ask(&mut connect(running.address, &trusted, version).await.unwrap()).await;
}

#[test]
fn what_is_wrong_with_a_pair_is_named_with_its_file_and_key() {
    let files = Files::new();
    files.write_pair();
    for (spoil, part) in [(files.certificate(), "tls.certificate"), (files.key(), "tls.key")] {
        let good = std::fs::read(&spoil).unwrap();
        std::fs::write(&spoil, "no pem at all").unwrap();
        let failure = files.open().unwrap_err();
        let told = failure.to_string();
        assert!(failure.key() == part && told.contains(spoil.to_str().unwrap()), "{told}");
        std::fs::remove_file(&spoil).unwrap();
        assert!(matches!(files.open(), Err(TlsError::Unreadable { key, .. }) if key == part));
        std::fs::write(&spoil, good).unwrap();
    }
    files.open().unwrap();
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_what_is_spoken_there() {
    let files = Files::new();
    files.write_pair();
    let running = start(&files).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST /api/7/store/ HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    let _: serde_json::Value = serde_json::from_str(body).unwrap();
}

#[tokio::test]
async fn a_handshake_that_does_not_come_closes_its_connection() {
    let files = Files::new();
    files.write_pair();
    let certificates = Arc::new(files.open().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = HttpConfig { header_timeout: picket_common::config::Span::millis(50), ..HttpConfig::default() };
    let server = tokio::spawn(async move {
        serve(listener, SdkTransport::Tls(certificates), Router::new, &config, None, std::future::pending()).await;
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    server.abort();
}
