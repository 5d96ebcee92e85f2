//! An aggregator's intake in this process, and relays that talk to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use picket_common::identity;
use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::project_config::ConfigSnapshot;
use picket_common::timestamp::Timestamp;
use picket_common::transport::mux::Mux;
use picket_common::transport::{Connection, ConnectionLost, Patience, ReceiveStream, SendStream, TransportKind};
use picket_common::wire::join::{JoinReply, JoinRequest, JoinToken};
use picket_common::wire::{
    BatchHeader, BatchReply, FromAggregator, FromRelay, MAX_CONTROL_FRAME, MAX_SMALL_FRAME, PROTOCOL_VERSION,
    SERVER_NAME, read_frame, write_frame,
};
use prometheus_client::registry::Registry;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::fleet::{Authorities, Fleet};
use crate::intake::{Intake, IntakeMetrics, IntakeServer, LinkConfig, LiveRelays};
use crate::journal::{Journal, JournalCommitter, JournalConfig};
use crate::quota::QuotaAuthority;
use picket_common::wire::CloseCode;

/// What `link.relay_certificate_lifetime` is by default.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// Nothing in these tests takes near so long; it turns a hang into a failure.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it takes too long")
}

pub(super) struct TestAggregator {
    pub(super) address: std::net::SocketAddr,
    /// What relays connect by.
    pub(super) transport: TransportKind,
    /// Where they connect from.
    pub(super) relays_at: IpAddr,
    pub(super) fleet: Fleet,
    /// What SIGHUP would change.
    pub(super) settings: watch::Sender<LinkConfig>,
    pub(super) journal: Journal,
    pub(super) projects: watch::Sender<Arc<ConfigSnapshot>>,
    pub(super) live: LiveRelays,
    pub(super) registry: Registry,
    pub(super) shutdown: CancellationToken,
    pub(super) server: JoinHandle<()>,
    _committer: JournalCommitter,
    _directory: TempDir,
}

pub(super) async fn start() -> TestAggregator {
    start_with(LinkConfig::default(), &JournalConfig::default()).await
}

pub(super) async fn start_with(config: LinkConfig, journal: &JournalConfig) -> TestAggregator {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
    let authorities = Authorities::open_or_create(&directory.path().join("authority"), Timestamp::now()).unwrap();
    let fleet = Fleet::new(&database, authorities);
    let (journal, committer) = Journal::open(&directory.path().join("journal"), journal).unwrap();
    let (projects, watched) = watch::channel(Arc::new(ConfigSnapshot::default()));
    let live = LiveRelays::default();
    let mut registry = Registry::default();
    let settings = watch::Sender::new(config.clone());
    let intake = Intake {
        settings: settings.subscribe(),
        config,
        fleet: fleet.clone(),
        journal: journal.clone(),
        quotas: QuotaAuthority::new(watched.clone(), Timestamp::now()),
        projects: watched,
        live: live.clone(),
        metrics: IntakeMetrics::register(&mut registry),
        addresses: vec!["aggregator.test:7443".to_owned()],
    };
    let server = IntakeServer::bind("127.0.0.1:0".parse().unwrap(), intake).unwrap();
    let address = server.local_address().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(server.run(shutdown.clone()));
    TestAggregator {
        address,
        transport: TransportKind::Quic,
        relays_at: Ipv4Addr::LOCALHOST.into(),
        fleet,
        settings,
        journal,
        projects,
        live,
        registry,
        shutdown,
        server,
        _committer: committer,
        _directory: directory,
    }
}

/// What a relay has after it joined.
pub(super) struct Joined {
    pub(super) relay_id: RelayId,
    certificate_pem: String,
    authority_pem: String,
    key: rcgen::KeyPair,
}

fn client(tls: rustls::ClientConfig, from: IpAddr) -> Endpoint {
    let mut endpoint = Endpoint::client((from, 0).into()).unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(DEADLINE.try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    endpoint
}

fn random() -> [u8; 16] {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    random
}

fn join_request(token: &JoinToken, key: &rcgen::KeyPair) -> JoinRequest {
    let csr = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    JoinRequest {
        secret: token.secret.clone(),
        csr_pem: csr.pem().unwrap(),
        hostname: "test-host".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

impl Joined {
    /// The same relay with its next certificate.
    pub(super) fn renewed(self, certificate_pem: String, key: rcgen::KeyPair) -> Self {
        Self { certificate_pem, key, ..self }
    }

    /// The same relay, tricked into trusting this aggregator's authority.
    pub(super) fn trusting(self, aggregator: &TestAggregator) -> Self {
        Self { authority_pem: aggregator.fleet.authority().certificate_pem().to_owned(), ..self }
    }
}

impl TestAggregator {
    pub(super) async fn token(&self) -> JoinToken {
        self.token_made(Timestamp::now()).await
    }

    async fn token_made(&self, at: Timestamp) -> JoinToken {
        let hour = Duration::from_secs(3600);
        self.fleet.invite(vec![self.address.to_string()], None, hour, at, random()).await.unwrap().token
    }

    /// One attempt to join over the network.
    pub(super) async fn try_join(&self, token: &JoinToken, key: &rcgen::KeyPair) -> Result<JoinReply, ConnectionLost> {
        let connection = self.connect_as(identity::join_client_config(token.authority).unwrap()).await?;
        let request = join_request(token, key);
        let (mut send, mut receive) = soon(connection.open()).await?;
        write_frame(&mut send, &request, MAX_SMALL_FRAME).await.unwrap();
        send.finish();
        match soon(read_frame(&mut receive, MAX_SMALL_FRAME)).await {
            Ok(reply) => Ok(reply),
            Err(_) => Err(soon(connection.closed()).await),
        }
    }

    pub(super) async fn join(&self) -> Joined {
        let key = rcgen::KeyPair::generate().unwrap();
        match self.try_join(&self.token().await, &key).await.unwrap() {
            JoinReply::Joined { relay_id, certificate_pem, authority_pem, .. } => {
                Joined { relay_id, certificate_pem, authority_pem, key }
            }
            JoinReply::Refused { detail } => panic!("refused: {detail}"),
        }
    }

    /// As if the relay had joined at another time; not over the network.
    pub(super) async fn join_at(&self, at: Timestamp) -> Joined {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = join_request(&self.token_made(at).await, &key);
        let joined = self.fleet.join(&request, LIFETIME, at, random()).await.unwrap();
        let authority_pem = self.fleet.authority().certificate_pem().to_owned();
        Joined { relay_id: joined.relay_id, certificate_pem: joined.certificate_pem, authority_pem, key }
    }

    pub(super) async fn connect(&self, joined: &Joined) -> Result<Connection, ConnectionLost> {
        let tls = identity::link_client_config(
            [identity::certificate_from_pem(&joined.authority_pem).unwrap()],
            identity::certificate_from_pem(&joined.certificate_pem).unwrap(),
            identity::key_from_pem(&joined.key.serialize_pem()).unwrap(),
        );
        self.connect_as(tls.unwrap()).await
    }

    pub(super) async fn connect_as(&self, tls: rustls::ClientConfig) -> Result<Connection, ConnectionLost> {
        if self.transport == TransportKind::Quic {
            let connection = soon(client(tls, self.relays_at).connect(self.address, SERVER_NAME).unwrap()).await?;
            return Ok(Connection::Quic(connection));
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.relays_at, 0).into())?;
        let stream = soon(socket.connect(self.address)).await?;
        let name = SERVER_NAME.try_into().unwrap();
        let stream = soon(TlsConnector::from(Arc::new(tls)).connect(name, stream)).await?;
        let patience = Patience { idle: DEADLINE, keep_alive: DEADLINE / 4, farewell: DEADLINE };
        Ok(Connection::Tcp(Mux::client(stream.into(), self.address, patience)))
    }

    /// Connects and says hello.
    pub(super) async fn session(&self, joined: &Joined, spool_id: SpoolId) -> RelaySession {
        let connection = self.connect(joined).await.unwrap();
        let (mut send, receive) = soon(connection.open()).await.unwrap();
        let hello = FromRelay::Hello {
            protocol: PROTOCOL_VERSION,
            version: "0.1.0".to_owned(),
            spool_id,
            config_revision: 0,
            lineage: None,
            former_spools: Vec::new(),
        };
        write_frame(&mut send, &hello, MAX_SMALL_FRAME).await.unwrap();
        RelaySession { connection, send, receive, spool_id }
    }

    pub(super) fn metrics(&self) -> String {
        picket_common::telemetry::encode_metrics(&self.registry)
    }
}

/// A connected relay.
pub(super) struct RelaySession {
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) receive: ReceiveStream,
    pub(super) spool_id: SpoolId,
}

impl RelaySession {
    /// The next message that is not about quotas, which come whenever the number of relays changes, nor the list of aggregators.
    pub(super) async fn hear(&mut self) -> FromAggregator {
        loop {
            match soon(read_frame(&mut self.receive, MAX_CONTROL_FRAME)).await.unwrap() {
                FromAggregator::QuotaShares { .. } | FromAggregator::Aggregators { .. } => {}
                message => return message,
            }
        }
    }

    pub(super) async fn welcomed(mut self) -> Self {
        assert!(matches!(self.hear().await, FromAggregator::Welcome { .. }));
        self
    }

    pub(super) async fn say(&mut self, message: &FromRelay) {
        write_frame(&mut self.send, message, MAX_CONTROL_FRAME).await.unwrap();
    }

    pub(super) fn batch(&self, first: u64, last: u64) -> (BatchHeader, Bytes) {
        let payload = Bytes::from(format!("records {first} to {last}").repeat(1000));
        let header = BatchHeader {
            spool_id: self.spool_id,
            first: Sequence::new(first),
            last: Sequence::new(last),
            raw_bytes: 100_000,
            payload_bytes: payload.len() as u64,
            crc32c: crc32c::crc32c(&payload),
            is_tombstone: false,
        };
        (header, payload)
    }

    pub(super) async fn send_batch(&self, header: &BatchHeader, payload: &[u8]) -> BatchReply {
        let (mut send, mut receive) = soon(self.connection.open()).await.unwrap();
        write_frame(&mut send, header, MAX_SMALL_FRAME).await.unwrap();
        // The aggregator may stop reading a batch that it has refused already.
        let _ = send.write_all(payload).await;
        send.finish();
        soon(read_frame(&mut receive, MAX_SMALL_FRAME)).await.unwrap()
    }

    /// Waits until the aggregator closes the connection.
    pub(super) async fn closed(&self) -> (u32, String) {
        closed(&self.connection).await
    }
}

pub(super) async fn closed(connection: &Connection) -> (u32, String) {
    match soon(connection.closed()).await {
        ConnectionLost::Closed { code, reason } => (code, reason),
        other => panic!("closed otherwise: {other}"),
    }
}

pub(super) const fn code(code: CloseCode) -> u32 {
    code.as_u32()
}

pub(super) fn spool(byte: u8) -> SpoolId {
    SpoolId::from_random([byte; 16])
}
