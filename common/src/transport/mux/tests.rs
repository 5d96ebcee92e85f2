//! The multiplexer over pipes in memory.
#![allow(clippy::unwrap_used)]

use std::task::{Poll, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::frame::Header;
use super::state::{FIRST_CREDIT, MAX_ANSWERS, QUEUE_BYTES, Read, Stopped};
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
async fn a_stream_may_be_heard_of_after_one_that_was_opened_later() {
    let (client, server) = pair();
    server.admit(ADMITTED);
    let mut first = within(client.open()).await.unwrap();
    let mut second = within(client.open()).await.unwrap();
    within(second.0.write_all(b"second")).await.unwrap();
    second.0.finish();
    // Given up before anything was written: the word that no answer is wanted overtakes what opens it.
    drop(within(client.open()).await.unwrap());
    within(first.0.write_all(b"first")).await.unwrap();
    first.0.finish();
    for expected in ["first", "second"] {
        let (_send, mut receive) = within(server.accept()).await.unwrap();
        let mut bytes = Vec::new();
        within(receive.read_to_end(&mut bytes)).await.unwrap();
        assert_eq!(bytes, expected.as_bytes());
    }
    let (_send, mut receive) = within(server.accept()).await.unwrap();
    within(receive.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert!(server.close_reason().is_none());
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
        ("beyond those allowed", vec![(Header::new(Kind::Data, 7, 0), 0)]),
        ("beyond those allowed", vec![(Header::new(Kind::Stop, 7, 0), 0)]),
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

#[test]
fn who_opens_the_streams_hears_of_no_other() {
    for kind in [Kind::Data, Kind::Finish, Kind::Reset, Kind::Arrived, Kind::Stop, Kind::Credit] {
        let mut state = State::new(Side::Opens, ADMITTED);
        let id = state.open().unwrap();
        state.hear(Header::new(kind, id, 0), &[]).unwrap();
        let heard = state.hear(Header::new(kind, id + 1, 0), &[]);
        assert_eq!(heard.unwrap_err().to_string(), "a frame is for a stream that was never opened", "{kind:?}");
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
        state.take_outgoing(&mut Vec::new(), QUEUE_BYTES);
    }
    assert_eq!(written, FIRST_CREDIT as usize);
    state.hear(Header::new(Kind::Credit, id, 10), &[]).unwrap();
    assert_eq!(state.write(id, &[0; 100], Waker::noop()), Poll::Ready(Ok(10)));
    state.hear(Header::new(Kind::Stop, id, 0), &[]).unwrap();
    assert_eq!(state.write(id, &[0; 100], Waker::noop()), Poll::Ready(Err(Stopped)));
    assert_eq!(state.read(id, 1, Waker::noop()), Poll::Pending::<Read>);
}

/// How many bytes of Data each stream has in `frames`.
fn data_by_stream(mut frames: &[u8]) -> std::collections::BTreeMap<u32, usize> {
    let mut found = std::collections::BTreeMap::new();
    while let Some((header, rest)) = frames.split_first_chunk::<HEADER_BYTES>() {
        let header = Header::decode(*header).unwrap();
        if header.kind == Kind::Data {
            *found.entry(header.stream).or_default() += header.body_bytes();
        }
        frames = &rest[header.body_bytes()..];
    }
    found
}

#[test]
fn however_greedy_a_writer_is_each_other_gets_as_much_of_the_line() {
    for others in [1_u32, 40] {
        let mut state = State::new(Side::Opens, Bounds::STRANGER);
        state.hear(Header::new(Kind::Streams, 0, others), &[]).unwrap();
        for id in 0..=others {
            assert_eq!(state.open(), Some(id));
            state.hear(Header::new(Kind::Credit, id, 10_000_000), &[]).unwrap();
        }
        let mut sent = Vec::new();
        for _ in 0..1000 {
            // The first comes first whenever there is room, and takes what it gets.
            for id in 0..=others {
                while state.write(id, &[0; 100_000], Waker::noop()).is_ready() {}
            }
            assert!(state.queued_bytes() <= QUEUE_BYTES);
            let most = sent.len() + 8 * 1024;
            state.take_outgoing(&mut sent, most);
        }
        let sent = data_by_stream(&sent);
        let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
        assert_eq!(sent.len() as u32, others + 1, "somebody was never sent: {sent:?}");
        assert!(most - least <= 2 * MAX_BODY, "{sent:?}");
    }
}

#[test]
fn a_peer_that_makes_us_answer_without_end_is_no_longer_read_from_until_it_has_taken_the_answers() {
    let mut state = State::new(Side::Accepts, Bounds::STRANGER);
    state.admit(ADMITTED);
    let mut id = 0;
    while !state.is_congested() {
        state.hear(Header::new(Kind::Data, id, 0), &[]).unwrap();
        state.hear(Header::new(Kind::Reset, id, 0), &[]).unwrap();
        let accepted = state.accept().unwrap();
        state.drop_sender(accepted);
        state.drop_receiver(accepted);
        id += 1;
        assert!(id < 10_000, "what the peer causes has no bound");
    }
    state.take_outgoing(&mut Vec::new(), usize::MAX);
    assert!(!state.is_congested());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_not_read_from_for_its_many_answers_is_read_again_at_once_when_it_takes_them() {
    let (ours, mut peer) = duplex(64);
    let mux = over(Side::Accepts, ours);
    for _ in 0..=MAX_ANSWERS {
        mux.handle.shared.lock().ping();
    }
    let (mut reading, mut writing) = tokio::io::split(&mut peer);
    let mut sink = tokio::io::sink();
    let taking = tokio::io::copy(&mut reading, &mut sink);
    let started = tokio::time::Instant::now();
    let opening = async {
        writing.write_all(&Header::new(Kind::Data, 0, 0).encode()).await.unwrap();
        mux.accept().await.unwrap()
    };
    tokio::select! {
        _ = taking => panic!("the connection has ended"),
        _stream = opening => {}
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[test]
fn the_windows_of_all_streams_are_together_what_is_shared_or_64_kib_each() {
    let kib = |kib: usize| kib * 1024;
    for (streams, window, expected) in [(20, 8192, 8192), (128, 8192, 8192), (1028, 8192, 1028 * 64)] {
        let mut state = State::new(Side::Accepts, Bounds::STRANGER);
        let bounds = Bounds::sharing(streams, u32::try_from(kib(window)).unwrap());
        state.admit(bounds);
        for id in 0..streams {
            // Until the window allows no more.
            state.hear(Header::new(Kind::Data, id, 0), &[]).unwrap();
            while state.hear(Header::new(Kind::Data, id, 1024), &[0; 1024]).is_ok() {}
        }
        assert!(state.hear(Header::new(Kind::Data, streams, 0), &[]).is_err());
        let unread = state.unread_bytes();
        assert!(unread <= kib(expected) && unread > kib(expected) - kib(streams as usize), "{streams}: {unread}");
    }
}

/// Carries bytes from one pipe to the other at `bytes_per_second`; what is on its way, as in a line's own buffer, is `LINE_BYTES`.
async fn slow_line(from: DuplexStream, to: DuplexStream, bytes_per_second: u64) {
    let (mut from_reader, mut from_writer) = tokio::io::split(from);
    let (mut to_reader, mut to_writer) = tokio::io::split(to);
    let forth = async {
        let mut buffer = [0; 256];
        loop {
            let length = from_reader.read(&mut buffer).await.unwrap_or(0);
            if length == 0 || to_writer.write_all(&buffer[..length]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(length as u64 * 1000 / bytes_per_second)).await;
        }
    };
    let back = async { drop(tokio::io::copy(&mut to_reader, &mut from_writer).await) };
    tokio::join!(forth, back);
}

/// What is on the way on a line whose buffers are full.
const LINE_BYTES: usize = 32 * 1024;

fn pair_over_a_slow_line(bytes_per_second: u64) -> (Mux, Mux) {
    let (ours, line_in) = duplex(LINE_BYTES);
    let (line_out, theirs) = duplex(256);
    tokio::spawn(slow_line(line_in, line_out, bytes_per_second));
    (over(Side::Opens, ours), over(Side::Accepts, theirs))
}

#[tokio::test(start_paused = true)]
async fn a_line_on_which_a_frame_takes_longer_than_a_peer_may_be_silent_carries_a_batch_all_the_same() {
    // 16 KiB take 8 s and the line's own buffer 16 s; the patience is 5 s.
    let (client, server) = pair_over_a_slow_line(2 * 1024);
    server.admit(ADMITTED);
    let bytes = vec![5; 200_000];
    let sending = async {
        let (mut send, _receive) = client.open().await.unwrap();
        send.write_bytes(bytes.clone().into()).await.unwrap();
        send.finish();
        send.arrived().await;
        // Until everything has gone through, the peer's answers come late.
        assert_eq!(client.close_reason(), None);
    };
    let taking = async {
        let (_send, mut receive) = server.accept().await.unwrap();
        let mut taken = Vec::new();
        receive.read_to_end(&mut taken).await.unwrap();
        taken
    };
    let ((), taken) = tokio::join!(sending, taking);
    assert!(taken == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hears_of_nothing_but_data_is_told_that_they_arrive() {
    let (mux, mut peer) = by_hand();
    // The answer to a first Ping of its own is on its way; from now on it only sends, a frame of 16 KiB in 16 s.
    peer.write_all(&Header::new(Kind::Data, 0, 16 * 1024).encode()).await.unwrap();
    let mut pongs = 0;
    for _ in 0..16 {
        peer.write_all(&[0; 1024]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    while let Ok(Ok(_)) = timeout(Duration::from_millis(1), async {
        let mut header = [0; HEADER_BYTES];
        peer.read_exact(&mut header).await?;
        pongs += usize::from(Header::decode(header).unwrap().kind == Kind::Pong);
        Ok::<_, std::io::Error>(())
    })
    .await
    {}
    assert_eq!(mux.close_reason(), None);
    assert!(pongs >= 12, "{pongs}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_is_given_up_though_what_we_say_to_it_finds_room_in_a_buffer() {
    // Pings and data go into the pipe for minutes; nobody takes them out.
    let (mux, peer) = by_hand();
    let started = tokio::time::Instant::now();
    assert_eq!(mux.closed().await, ConnectionLost::TimedOut);
    assert!(started.elapsed() <= PATIENCE.idle, "{:?}", started.elapsed());
    drop(peer);
}

#[tokio::test]
async fn what_the_system_holds_unsent_of_a_connection_is_bounded() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    bound_unsent(&stream, listener.local_addr().unwrap());
    assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
}
