//! The multiplexer over pipes in memory.
#![allow(clippy::unwrap_used)]

use std::task::{Poll, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::frame::Header;
use super::state::{FIRST_CREDIT, QUEUE_BYTES, Read, Stopped};
use super::*;

const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(5), keep_alive: Duration::from_secs(1), farewell: Duration::from_secs(1) };
const ADMITTED: Bounds = Bounds { streams: 4, stream_window: 128 * 1024 };

fn over(side: Side, stream: DuplexStream) -> Mux {
    let shared = Arc::new(Shared::new(side));
    tokio::spawn(drive(Arc::clone(&shared), stream, PATIENCE));
    let remote = "127.0.0.1:1".parse().unwrap();
    Mux { handle: Arc::new(Handle { shared, remote, certificate: None, protocol: None }) }
}

fn pair() -> (Mux, Mux) {
    let (ours, theirs) = duplex(8 * 1024);
    (over(Side::Opens, ours), over(Side::Accepts, theirs))
}

/// A connection whose peer is the test itself, byte by byte.
fn by_hand() -> (Mux, DuplexStream) {
    let (ours, theirs) = duplex(1024 * 1024);
    (over(Side::Accepts, ours), theirs)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), work).await.unwrap()
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_say_when_they_have_arrived() {
    let (client, server) = pair();
    server.admit(ADMITTED);
    let serving = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (mut send, mut receive) = server.accept().await.unwrap();
            tasks.spawn(async move {
                let mut bytes = Vec::new();
                receive.read_to_end(&mut bytes).await.unwrap();
                send.write_all(&bytes).await.unwrap();
                send.finish();
                send.arrived().await;
            });
        }
        tasks.join_all().await;
        server
    });
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20_u8 {
        let client = client.clone();
        tasks.spawn(async move {
            let (mut send, mut receive) = client.open().await.unwrap();
            let bytes = vec![number; 300_000 + number as usize];
            send.write_bytes(bytes.clone().into()).await.unwrap();
            send.finish();
            send.arrived().await;
            let mut back = Vec::new();
            receive.read_to_end(&mut back).await.unwrap();
            assert!(back == bytes);
        });
    }
    within(tasks.join_all()).await;
    within(serving).await.unwrap();
}

#[tokio::test]
async fn code_and_reason_reach_a_peer_that_is_in_the_middle_of_writing() {
    let (client, server) = pair();
    server.admit(ADMITTED);
    let (mut send, _receive) = within(client.open()).await.unwrap();
    let writing = tokio::spawn(async move { while send.write_all(&[7; 10_000]).await.is_ok() {} });
    let (_send, mut receive) = within(server.accept()).await.unwrap();
    within(receive.read_exact(&mut [0; 100_000])).await.unwrap();
    server.close(3, "this relay was revoked");
    let lost = within(client.closed()).await;
    assert_eq!(lost, ConnectionLost::Closed { code: 3, reason: "this relay was revoked".to_owned() });
    within(writing).await.unwrap();
    assert_eq!(within(server.closed()).await, ConnectionLost::Local);
    within(server.farewell()).await;
}

#[tokio::test]
async fn what_arrived_before_the_close_can_still_be_read() {
    let (client, server) = pair();
    let (mut send, mut receive) = client.open().await.unwrap();
    send.write_all(b"join").await.unwrap();
    let (mut reply, _request) = within(server.accept()).await.unwrap();
    reply.write_all(b"joined").await.unwrap();
    reply.finish();
    within(reply.arrived()).await;
    server.close(0, "");
    within(client.closed()).await;
    let mut text = String::new();
    within(receive.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "joined");
}

#[tokio::test]
async fn a_stream_that_is_dropped_unfinished_is_no_whole_one() {
    let (client, server) = pair();
    let (mut send, _receive) = client.open().await.unwrap();
    send.write_all(b"half").await.unwrap();
    let (_send, mut receive) = within(server.accept()).await.unwrap();
    drop(send);
    assert!(within(receive.read_to_end(&mut Vec::new())).await.is_err());
}

#[tokio::test]
async fn a_peer_that_wants_no_more_ends_the_writing() {
    let (client, server) = pair();
    let (mut send, _receive) = client.open().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (_send, receive) = within(server.accept()).await.unwrap();
    receive.stop();
    within(async { while send.write_all(&[0; 1000]).await.is_ok() {} }).await;
    within(send.arrived()).await;
    assert_eq!(client.close_reason(), None);
}

#[tokio::test]
async fn a_stranger_may_open_one_stream_and_the_next_waits_until_it_is_admitted() {
    let (client, server) = pair();
    let _first = client.open().await.unwrap();
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.open().await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    server.admit(ADMITTED);
    within(second).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up() {
    let (mux, mut peer) = by_hand();
    peer.write_all(&Header::new(Kind::Ping, 0, 0).encode()).await.unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(mux.closed().await, ConnectionLost::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn quiet_peers_keep_each_other_up() {
    let (client, server) = pair();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((client.close_reason(), server.close_reason()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up_though_it_talks() {
    let (ours, mut peer) = duplex(1024);
    let mux = over(Side::Accepts, ours);
    let talking = async {
        // Each end of the only stream is answered with two frames.
        loop {
            if peer.write_all(&Header::new(Kind::Ping, 0, 0).encode()).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let lost = tokio::select! {
        lost = mux.closed() => lost,
        () = talking => panic!("the pipe broke before the reason was known"),
    };
    assert_eq!(lost, ConnectionLost::TimedOut);
}

#[tokio::test]
async fn breaches_of_the_protocol_end_the_connection_and_are_named() {
    let beyond = Header::new(Kind::Data, 0, 16 * 1024);
    let table: [(&str, Vec<(Header, usize)>); 5] = [
        ("beyond those allowed", vec![(Header::new(Kind::Data, 0, 0), 0), (Header::new(Kind::Data, 1, 0), 0)]),
        ("never opened", vec![(Header::new(Kind::Data, 7, 0), 0)]),
        ("never opened", vec![(Header::new(Kind::Stop, 0, 0), 0)]),
        ("window allows", vec![(beyond, 16 * 1024); 5]),
        ("after its end", vec![(Header::new(Kind::Finish, 0, 0), 0); 2]),
    ];
    for (expected, frames) in table {
        let (mux, mut peer) = by_hand();
        for (header, body) in frames {
            let _ = peer.write_all(&header.encode()).await;
            let _ = peer.write_all(&vec![0; body]).await;
        }
        within(mux.closed()).await;
        let mut answer = Vec::new();
        drop(mux);
        within(peer.read_to_end(&mut answer)).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains(expected), "{expected}: {answer:?}");
    }
}

/// What either side may do, by number.
fn act(state: &mut State, peer_sent: &mut u64, (action, id, number): (u8, u32, u32)) -> bool {
    let waker = Waker::noop();
    let kinds = [Kind::Data, Kind::Finish, Kind::Arrived, Kind::Reset, Kind::Stop, Kind::Credit, Kind::Ping];
    match action {
        0..7 => {
            let kind = kinds[action as usize];
            let number = if kind == Kind::Data { number % 20_000 } else { number };
            let body = vec![1; if kind == Kind::Data { number as usize } else { 0 }];
            *peer_sent += body.len() as u64;
            return state.hear(Header::new(kind, id, number), &body).is_ok();
        }
        7 => drop(state.write(id, &[2; 5000], waker)),
        8 => state.finish(id),
        9 => drop(state.read(id, number as usize % 9000 + 1, waker)),
        10 => state.drop_sender(id),
        11 => state.drop_receiver(id),
        _ => state.take_outgoing(&mut Vec::new(), 10_000),
    }
    true
}

proptest! {
    #[test]
    fn no_order_of_frames_and_calls_breaks_the_bounds(
        actions in proptest::collection::vec((0_u8..13, 0_u32..6, any::<u32>()), 0..300),
    ) {
        let mut state = State::new(Side::Accepts, Bounds::STRANGER);
        state.admit(ADMITTED);
        let mut sent = 0;
        for action in actions {
            if !act(&mut state, &mut sent, action) {
                break;
            }
            prop_assert!(state.unread_bytes() <= ADMITTED.streams as usize * ADMITTED.stream_window as usize);
            prop_assert!(state.queued_bytes() <= QUEUE_BYTES);
        }
        state.end();
    }
}

#[test]
fn a_writer_waits_for_credit_and_goes_on_with_it() {
    let mut state = State::new(Side::Opens, Bounds::STRANGER);
    let id = state.open().unwrap();
    let mut written = 0;
    while let Poll::Ready(Ok(length)) = state.write(id, &[0; 100_000], Waker::noop()) {
        written += length;
    }
    assert_eq!(written, FIRST_CREDIT as usize);
    state.hear(Header::new(Kind::Credit, id, 10), &[]).unwrap();
    assert_eq!(state.write(id, &[0; 100], Waker::noop()), Poll::Ready(Ok(10)));
    state.hear(Header::new(Kind::Stop, id, 0), &[]).unwrap();
    assert_eq!(state.write(id, &[0; 100], Waker::noop()), Poll::Ready(Err(Stopped)));
    assert_eq!(state.read(id, 1, Waker::noop()), Poll::Pending::<Read>);
}
