//! Measures QUIC's congestion controllers over a bad network, for `docs/decisions/0018-congestion-control.md`.
//!
//! One connection, 16 streams of 512 KiB each after another as a relay with a backlog sends its batches, 25 ms each way, for ten
//! seconds; prints what arrived. `picket-congestion [SEED]`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;

use picket_common::identity::crypto;
use picket_tests::bad_network::{BadNetwork, Weather};
use picket_tests::random::Random;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig, NewRenoConfig};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig, TransportConfig};
use rustls::pki_types::PrivateKeyDer;
use tokio::time::{Instant, timeout};

const STREAMS: usize = 16;
const BATCH: usize = 512 * 1024;
const RUN: Duration = Duration::from_secs(10);
const ONE_WAY: Duration = Duration::from_millis(25);

#[tokio::main]
async fn main() {
    let seed = std::env::args().nth(1).map_or(1, |seed| seed.parse().expect("a number"));
    println!("| loss | Cubic | NewReno | BBR |\n| ---: | ---: | ---: | ---: |");
    for loss in [0, 1, 5, 20] {
        let mut row = format!("| {loss} % |");
        for controller in ["cubic", "newreno", "bbr"] {
            let rate = measure(controller, loss, seed).await;
            row.push_str(&format!(" {rate:.2} MB/s |"));
        }
        println!("{row}");
    }
}

fn factory(controller: &str) -> Arc<dyn ControllerFactory + Send + Sync> {
    match controller {
        "cubic" => Arc::new(CubicConfig::default()),
        "newreno" => Arc::new(NewRenoConfig::default()),
        _ => Arc::new(BbrConfig::default()),
    }
}

async fn measure(controller: &str, loss_percent: u64, seed: u64) -> f64 {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate");
    let mut server_config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("TLS 1.3")));
    let mut windows = TransportConfig::default();
    // As the aggregator's.
    windows.stream_receive_window((1024_u32 * 1024).into()).receive_window((8_u32 * 1024 * 1024).into());
    server_config.transport_config(Arc::new(windows));
    let server = Endpoint::server(server_config, "127.0.0.1:0".parse().unwrap()).expect("a socket");

    let network = BadNetwork::before(server.local_addr().expect("an address"), Random::from(seed));
    let client_tls = rustls::ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(picket_common::identity::roots([certificate]).expect("a root"))
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client_tls).expect("TLS 1.3")));
    let mut transport = TransportConfig::default();
    transport.send_window(8 * 1024 * 1024).congestion_controller_factory(factory(controller));
    config.transport_config(Arc::new(transport));

    let receiving = tokio::spawn(async move {
        let connection = server.accept().await.expect("a connection").await.expect("a handshake");
        let mut arrived = 0_usize;
        let (count, mut counts) = tokio::sync::mpsc::unbounded_channel();
        let started = Instant::now();
        while started.elapsed() < RUN {
            tokio::select! {
                Ok((mut send, mut receive)) = connection.accept_bi() => {
                    let count = count.clone();
                    tokio::spawn(async move {
                        while let Ok(Some(chunk)) = receive.read_chunk(BATCH, true).await {
                            let _ = count.send(chunk.bytes.len());
                        }
                        let _ = send.write_all(b"ack").await;
                    });
                }
                Some(bytes) = counts.recv() => arrived += bytes,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        arrived
    });
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).expect("a socket");
    let connecting = endpoint.connect_with(config, network.address, "localhost").expect("a configuration");
    let connection = connecting.await.expect("a connection");
    network.set(Weather { delay: (ONE_WAY, ONE_WAY), loss_percent, ..Weather::default() });
    for _ in 0..STREAMS {
        let connection = connection.clone();
        tokio::spawn(async move {
            while let Ok((mut send, mut receive)) = connection.open_bi().await {
                let sent = send.write_all(&[7; BATCH]).await.is_ok() && send.finish().is_ok();
                if !sent || receive.read_to_end(100).await.is_err() {
                    return;
                }
            }
        });
    }
    let arrived = timeout(RUN * 3, receiving).await.expect("in time").expect("the receiver");
    connection.close(0_u32.into(), b"");
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let rate = arrived as f64 / 1e6 / RUN.as_secs_f64();
    rate
}
