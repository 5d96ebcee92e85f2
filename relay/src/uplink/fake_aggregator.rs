//! An aggregator for tests: real transports and TLS, no storage. What it hears goes to the test, which decides the answers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use picket_common::identity::{Fingerprint, Validity, crypto, relay_uri, roots};
use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::timestamp::Timestamp;
use picket_common::transport::mux::Mux;
use picket_common::transport::{Connection, Patience, ReceiveStream, SendStream, TransportKind};
use picket_common::wire::control::Window;
use picket_common::wire::join::{JoinReply, JoinRequest, JoinToken};
use picket_common::wire::{
    ALPN_JOIN, ALPN_LINK, BatchHeader, BatchReply, CloseCode, FromAggregator, FromRelay, MAX_CONTROL_FRAME,
    MAX_SMALL_FRAME, NackReason, PROTOCOL_VERSION, SERVER_NAME, read_frame, write_frame,
};
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::identity_store::{RelayDescription, RelayIdentity};

/// Far longer than anything takes; a test that waits this long has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const PATIENCE: Patience =
    Patience { idle: DEADLINE, keep_alive: Duration::from_secs(5), farewell: Duration::from_secs(2) };

pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("this should have happened long ago")
}

/// A certificate authority that lives for one test.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, params: &CertificateParams) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    pub(crate) fn relay(&self, aggregators: &[SocketAddr]) -> RelayIdentity {
        let day = Duration::from_secs(24 * 3600);
        let now = Timestamp::now();
        self.relay_valid(aggregators, Validity { not_before: now.minus(day), not_after: now.plus(90 * day) })
    }

    /// A relay whose certificate is good at these times.
    pub(crate) fn relay_valid(&self, aggregators: &[SocketAddr], validity: Validity) -> RelayIdentity {
        let relay_id = RelayId::from_random([3; 16]);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        (params.not_before, params.not_after) = (validity.not_before.to_datetime(), validity.not_after.to_datetime());
        params.subject_alt_names = vec![SanType::URI(relay_uri(relay_id).try_into().unwrap())];
        let (certificate, key) = self.issue(&params);
        let aggregators = aggregators.iter().map(ToString::to_string).collect();
        let relay = RelayDescription { relay_id, name: "test".to_owned(), aggregators };
        RelayIdentity::new(relay, vec![self.certificate.clone()], certificate, key).unwrap()
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the key of a signing request, good for the next 90 days.
    pub(crate) fn certify(&self, csr_pem: &str, relay_id: RelayId) -> String {
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        csr.params.subject_alt_names = vec![SanType::URI(relay_uri(relay_id).try_into().unwrap())];
        let now = Timestamp::now();
        csr.params.not_before = now.minus(Duration::from_secs(60)).to_datetime();
        csr.params.not_after = now.plus(Duration::from_secs(90 * 24 * 3600)).to_datetime();
        csr.signed_by(&self.issuer).unwrap().pem()
    }

    pub(crate) fn token(&self, address: SocketAddr) -> JoinToken {
        JoinToken {
            addresses: vec![address.to_string()],
            authority: Fingerprint::of_certificate(&self.certificate).unwrap(),
            secret: "good".to_owned(),
        }
    }

    fn server_config(&self) -> rustls::ServerConfig {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots([self.certificate.clone()]).unwrap(), crypto())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let (certificate, key) = self.issue(&CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap());
        let mut tls = rustls::ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate, self.certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![ALPN_LINK.to_vec(), ALPN_JOIN.to_vec()];
        tls.send_tls13_tickets = 0;
        tls
    }
}

/// A batch that waits for its answer.
#[derive(Debug)]
pub(crate) struct ReceivedBatch {
    pub(crate) header: BatchHeader,
    pub(crate) payload: Bytes,
    reply: oneshot::Sender<BatchReply>,
}

impl ReceivedBatch {
    pub(crate) fn ack(self) {
        let (first, last) = (self.header.first, self.header.last);
        let _ = self.reply.send(BatchReply::Ack { first, last, duplicate: false });
    }

    pub(crate) fn nack(self, reason: NackReason) {
        let _ = self.reply.send(BatchReply::Nack { reason, detail: "a test says so".to_owned() });
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) spool_id: SpoolId,
    pub(crate) config_revision: u64,
    pub(crate) transport: TransportKind,
}

/// How the aggregator welcomes relays from now on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) window: Window,
    pub(crate) stored_up_to: Sequence,
}

struct Shared {
    manners: Mutex<Manners>,
    connection: Mutex<Option<(Connection, mpsc::Sender<FromAggregator>)>>,
    hellos: mpsc::Sender<Hello>,
    batches: mpsc::Sender<ReceivedBatch>,
    reports: mpsc::Sender<FromRelay>,
    authority: Arc<Authority>,
    /// Connections by QUIC whose handshake is done.
    by_quic: watch::Sender<u64>,
}

pub(crate) struct FakeAggregator {
    pub(crate) address: SocketAddr,
    hellos: mpsc::Receiver<Hello>,
    pub(crate) batches: mpsc::Receiver<ReceivedBatch>,
    reports: mpsc::Receiver<FromRelay>,
    shared: Arc<Shared>,
    /// Keeps QUIC's socket open.
    endpoint: Option<Endpoint>,
}

impl FakeAggregator {
    pub(crate) fn start(authority: &Arc<Authority>) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), authority, &[TransportKind::Quic])
    }

    /// Listens for these transports only, on one port.
    pub(crate) fn start_at(address: SocketAddr, authority: &Arc<Authority>, transports: &[TransportKind]) -> Self {
        let (hello_sender, hellos) = mpsc::channel(100);
        let (batch_sender, batches) = mpsc::channel(100);
        let (report_sender, reports) = mpsc::channel(100);
        let window = Window { batches: 100, bytes: 100_000_000 };
        let shared = Arc::new(Shared {
            manners: Mutex::new(Manners { window, stored_up_to: Sequence::new(0) }),
            connection: Mutex::new(None),
            hellos: hello_sender,
            batches: batch_sender,
            reports: report_sender,
            authority: Arc::clone(authority),
            by_quic: watch::Sender::new(0),
        });
        let mut aggregator = Self { address, hellos, batches, reports, shared, endpoint: None };
        if transports.contains(&TransportKind::Tcp) {
            aggregator.listen_tcp();
        }
        if transports.contains(&TransportKind::Quic) {
            aggregator.listen_quic();
        }
        aggregator
    }

    /// From now on QUIC gets through.
    pub(crate) fn listen_quic(&mut self) {
        let crypto = QuicServerConfig::try_from(self.shared.authority.server_config()).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = Endpoint::server(config, self.address).unwrap();
        self.address = endpoint.local_addr().unwrap();
        self.endpoint = Some(endpoint.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let shared = Arc::clone(&shared);
                // A connection that breaks is part of the tests.
                tokio::spawn(async move {
                    let connection = Connection::Quic(incoming.await.ok()?);
                    shared.by_quic.send_modify(|count| *count += 1);
                    serve(connection, shared).await
                });
            }
        });
    }

    fn listen_tcp(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(self.shared.authority.server_config()));
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            while let Ok((stream, remote)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.ok()?;
                    serve(Connection::Tcp(Mux::server(stream.into(), remote, PATIENCE)), shared).await
                });
            }
        });
    }

    pub(crate) fn set_window(&self, window: Window) {
        self.shared.manners.lock().unwrap().window = window;
    }

    /// For the next welcome only.
    pub(crate) fn set_stored_up_to(&self, sequence: u64) {
        self.shared.manners.lock().unwrap().stored_up_to = Sequence::new(sequence);
    }

    /// Waits until somebody has connected by QUIC, hello or not.
    pub(crate) async fn connected_by_quic(&self) {
        soon(self.shared.by_quic.subscribe().wait_for(|count| *count > 0)).await.unwrap();
    }

    pub(crate) async fn hello(&mut self) -> Hello {
        soon(self.hellos.recv()).await.unwrap()
    }

    pub(crate) async fn batch(&mut self) -> ReceivedBatch {
        soon(self.batches.recv()).await.unwrap()
    }

    /// Waits for a report of the kind asked for.
    pub(crate) async fn report(&mut self, is_wanted: impl Fn(&FromRelay) -> bool) -> FromRelay {
        soon(async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if is_wanted(&report) {
                    return report;
                }
            }
        })
        .await
    }

    pub(crate) async fn say(&self, message: FromAggregator) {
        let sender = self.shared.connection.lock().unwrap().as_ref().unwrap().1.clone();
        soon(sender.send(message)).await.unwrap();
    }

    /// The certificate that the relay showed on the present connection.
    pub(crate) fn relay_certificate(&self) -> CertificateDer<'static> {
        self.shared.connection.lock().unwrap().as_ref().unwrap().0.peer_certificate().unwrap()
    }

    /// Closes the present connection.
    pub(crate) fn hang_up(&self, code: CloseCode, reason: &str) {
        let (connection, _) = self.shared.connection.lock().unwrap().take().unwrap();
        connection.close(code, reason);
    }
}

async fn serve(connection: Connection, shared: Arc<Shared>) -> Option<()> {
    if connection.protocol().as_deref() == Some(ALPN_JOIN) {
        return sign(&connection, &shared.authority).await;
    }
    let (send, mut receive) = connection.accept().await.ok()?;
    let hello = read_frame(&mut receive, MAX_CONTROL_FRAME).await.ok()?;
    let FromRelay::Hello { spool_id, config_revision, .. } = hello else { return None };
    connection.admit(100, 8 * 1024 * 1024);
    let (sender, messages) = mpsc::channel(10);
    *shared.connection.lock().unwrap() = Some((connection.clone(), sender));
    let manners = {
        let mut manners = shared.manners.lock().unwrap();
        let present = *manners;
        manners.stored_up_to = Sequence::new(0);
        present
    };
    shared.hellos.send(Hello { spool_id, config_revision, transport: connection.kind() }).await.ok()?;
    tokio::spawn(talk(send, messages, manners));
    tokio::spawn(listen(receive, shared.reports.clone()));
    while let Ok((send, receive)) = connection.accept().await {
        tokio::spawn(take(send, receive, shared.batches.clone()));
    }
    Some(())
}

async fn talk(mut send: SendStream, mut messages: mpsc::Receiver<FromAggregator>, manners: Manners) -> Option<()> {
    let Manners { window, stored_up_to } = manners;
    let welcome = FromAggregator::Welcome {
        protocol: PROTOCOL_VERSION,
        version: "test".to_owned(),
        server_time: Timestamp::now(),
        window,
        stored_up_to,
        highest_stored: None,
        session: None,
        former_stored_up_to: Vec::new(),
    };
    write_frame(&mut send, &welcome, MAX_CONTROL_FRAME).await.ok()?;
    while let Some(message) = messages.recv().await {
        write_frame(&mut send, &message, MAX_CONTROL_FRAME).await.ok()?;
    }
    Some(())
}

async fn listen(mut receive: ReceiveStream, reports: mpsc::Sender<FromRelay>) -> Option<()> {
    loop {
        let message = read_frame(&mut receive, MAX_CONTROL_FRAME).await.ok()?;
        // Tests that don't look at reports let them go.
        let _ = reports.try_send(message);
    }
}

async fn read_all(receive: &mut ReceiveStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    receive.read_to_end(&mut bytes).await.ok()?;
    Some(bytes)
}

async fn take(mut send: SendStream, mut receive: ReceiveStream, batches: mpsc::Sender<ReceivedBatch>) -> Option<()> {
    let header: BatchHeader = read_frame(&mut receive, MAX_SMALL_FRAME).await.ok()?;
    let payload = Bytes::from(read_all(&mut receive).await?);
    let (reply, answer) = oneshot::channel();
    batches.send(ReceivedBatch { header, payload, reply }).await.ok()?;
    write_frame(&mut send, &answer.await.ok()?, MAX_SMALL_FRAME).await.ok()?;
    send.finish();
    Some(())
}

async fn sign(connection: &Connection, authority: &Authority) -> Option<()> {
    let (mut send, mut receive) = connection.accept().await.ok()?;
    let request: JoinRequest = read_frame(&mut receive, MAX_SMALL_FRAME).await.ok()?;
    let reply = if request.secret == "good" {
        let relay_id = RelayId::from_random([4; 16]);
        JoinReply::Joined {
            relay_id,
            name: "edge".to_owned(),
            certificate_pem: authority.certify(&request.csr_pem, relay_id),
            authority_pem: authority.pem.clone(),
            aggregators: Vec::new(),
        }
    } else {
        JoinReply::Refused { detail: "the token was used already".to_owned() }
    };
    write_frame(&mut send, &reply, MAX_SMALL_FRAME).await.ok()?;
    send.finish();
    send.arrived().await;
    Some(())
}
